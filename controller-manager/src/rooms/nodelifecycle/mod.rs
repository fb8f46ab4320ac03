//! Nodes that fall silent: their conditions become Unknown, they are tainted, and their pods count as not ready.

mod instruments;
mod observe;
mod plan;
mod zones;

pub use observe::start;
