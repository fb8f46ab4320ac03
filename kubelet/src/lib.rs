//! kubelet: runs the pods bound to one node through a CRI runtime and reports what became of them.
//!
//! Reading order: [`context`] (what every part shares), [`pods`] (table, sources, workers and the pure
//! `step`), [`runtime`] (the seam to CRI and its in-memory twin), then the small tasks around them:
//! [`probes`], [`volumes`], [`images`], [`status`], [`gc`]; [`node`], [`certs`] and [`server`] talk to the outside.

pub mod certs;
pub mod cgroups;
pub mod config;
pub mod context;
pub mod daemon_run;
pub mod events;
pub mod gc;
pub mod hollow;
pub mod images;
pub mod node;
pub mod pods;
pub mod probes;
pub mod runtime;
pub mod server;
pub mod status;
pub mod volumes;

pub use config::Config;
pub use context::Context;
pub use daemon_run::run;
