//! A cluster's life as commands: made, joined, looked after, upgraded, taken away.

#[macro_use]
mod out;

pub mod api;
pub mod args;
pub mod clusterinfo;
pub mod command;
pub mod daemons;
pub mod discovery;
pub mod etcd;
pub mod health;
pub mod host;
pub mod init;
pub mod join;
pub mod joinline;
pub mod leftovers;
mod loadbalancer;
pub mod local;
pub mod node;
pub mod nodes;
pub mod patches;
pub mod paths;
pub mod phase;
pub mod reset;
pub mod say;
pub mod table;
pub mod token;
pub mod unified;
pub mod upgrade;
pub mod upload;

pub use command::{ClusterCommand, run};
