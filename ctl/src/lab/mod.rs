//! A lab: several nodes on one machine, each in namespaces of its own, on a bridge that lives in a namespace of its own.
//!
//! The story of `lab up`: [`up`] decides what is missing; [`network`] lays the bridge and the links; [`machines`] gives each
//! node its disk; [`node`] starts the nodes, whose first process is [`init`], which mounts and then supervises what runs there;
//! [`cluster`] makes the cluster by `coxctl init` and `join`; [`forward`] brings the API server to the host's loopback. [`down`]
//! takes all of it back.

pub mod cgroup;
pub mod cluster;
pub mod down;
pub mod forward;
pub mod images;
pub mod init;
pub mod machines;
pub mod network;
pub mod node;
pub mod process;
pub mod spec;
pub mod status;
pub mod up;
