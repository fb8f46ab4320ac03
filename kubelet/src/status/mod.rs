//! Pod status: generation, patching, metrics.

mod conditions;
mod containers;
pub mod generate;
pub mod metrics;
mod phase;
pub mod writer;
