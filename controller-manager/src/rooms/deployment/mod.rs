//! Deployments: a ReplicaSet per pod template, moved along by their sizes.

mod observe;
pub(crate) mod plan;
mod sets;
#[cfg(test)]
mod simulation;
mod status;
#[cfg(test)]
mod tests;

pub use observe::start;
