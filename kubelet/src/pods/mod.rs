//! Pods: where they come from, the table of all, one worker each, and the pure decisions.
//!
//! Reading order: [`step`] and [`decide`] (pure), [`worker`] (the loop around them), [`start`] and [`stop`] (the
//! doing), [`manager`] (who feeds the workers), [`static_pods`] and [`admission`] beside it.

mod acting;
pub mod admission;
pub mod backoff;
pub mod cri_config;
pub mod decide;
pub mod dns;
pub mod env;
pub mod gate;
pub mod hooks;
pub mod host;
pub mod manager;
pub mod mounts;
mod probing;
pub mod resize;
pub mod resources;
pub mod start;
pub mod static_pods;
pub mod step;
pub mod stop;
pub mod table;
pub mod worker;

#[cfg(test)]
mod tests;
