//! StatefulSets: pods with a name, a place in line and claims of their own.

mod budgets;
mod claims;
mod identity;
mod observe;
pub(crate) mod plan;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use observe::start;
