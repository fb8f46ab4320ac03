//! Volumes of pods: payloads of API objects, tokens, empty directories, host paths, and their taking down.

pub mod atomic;
pub mod claims;
pub mod mount;
pub mod objects;
pub mod payload;
pub mod subpath;
pub mod teardown;
pub mod tokens;
