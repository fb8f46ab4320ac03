//! kube-proxy: Services in nftables.
pub mod chains;
pub mod kernel;
pub mod model;
pub mod netlink;
pub mod parse;
pub mod render;
pub mod select;
pub mod state;
pub mod trace;
pub mod wire;
