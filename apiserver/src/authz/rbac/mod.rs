//! RBAC: rules, the index of who holds which, and the guard against escalation.

pub mod escalation;
pub mod index;
pub mod rule;

pub use index::{Index, Kind, Verdict};
pub use rule::{Rule, Want};
