//! coxswain-dns: the cluster's DNS, after the Kubernetes DNS specification 1.1.
//!
//! Watches keep a small [`catalog`] of services and endpoints; [`resolve`] answers names of the cluster from it, purely;
//! [`forward`] asks others about all other names and [`cache`]s what they say; [`server`] speaks UDP and TCP.

pub mod cache;
pub mod catalog;
pub mod config;
pub mod forward;
pub mod message;
pub mod metrics;
pub mod resolve;
pub mod server;
pub mod watch;
