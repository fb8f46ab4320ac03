//! coxswain-network: the node's part of the pod network.
//!
//! It tells the container runtime how to wire pods (a CNI configuration from the node's podCIDR), keeps routes to the
//! pods of other nodes, and gives pods the node's address for what lies outside the cluster. All of it follows watch
//! events; nothing is looked at twice without one. Any other CNI network can be used instead: no daemon depends on it.
//!
//! [`facts`] reads Nodes, [`cni`] and [`masquerade`] make files and rules, [`plan`] says how nodes are to be connected and
//! [`backend`] connects them, [`routes`] talks to the kernel, [`run`] joins them. [`announce`] answers for addresses of Services.

pub mod announce;
pub mod backend;
pub mod cni;
pub mod facts;
pub mod masquerade;
pub mod plan;
pub mod routes;
pub mod run;
mod tunnel;
