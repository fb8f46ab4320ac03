//! Pod status: generation, patching, metrics.

pub mod generate;
pub mod metrics;
pub mod writer;
