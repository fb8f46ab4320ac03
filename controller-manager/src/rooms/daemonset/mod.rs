//! DaemonSets: one pod on every node that fits.

mod backoff;
mod fit;
mod history;
mod observe;
pub(crate) mod plan;
mod rolling;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use observe::start;
