//! Pod status: generation, patching, metrics.

pub mod metrics;
