//! A node-local balancer: the daemons of a node reach any living API server through it.
//!
//! It passes TCP connections on as they are. TLS goes through it from end to end, so it holds no secret and can
//! forge nothing. Who serves is learned from the cluster itself, and remembered for the next start.

pub mod config;
pub mod connect;
pub mod learn;
pub mod metrics;
pub mod pool;
pub mod probe;
pub mod run;
pub mod splice;
