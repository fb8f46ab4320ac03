//! The Node mode: kubelets reach what their own pods need, and no more.

pub mod authorizer;
pub mod graph;
pub mod pod;

pub use authorizer::NodeAuthorizer;
pub use graph::Graph;

use crate::request::UserInfo;

/// The name of the node a user is; empty for a node without a proper name, `None` for others.
pub fn node_of(user: &UserInfo) -> Option<&str> {
    if !user.in_group("system:nodes") {
        return None;
    }
    user.name.strip_prefix("system:node:")
}
