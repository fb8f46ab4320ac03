//! SPDY/3.1 as the streaming endpoints of kubelets and runtimes speak it: frames, header compression and a
//! client session of several streams.
//!
//! Only what those peers use is here: streams with headers, half-close, reset, ping and go-away. They do no flow
//! control, so window updates are read and forgotten.

mod dictionary;
pub mod frame;
pub mod session;

pub use frame::{Decoder, Encoder, Frame, Headers};
pub use session::{Session, Stream};
