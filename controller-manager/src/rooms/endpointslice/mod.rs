//! EndpointSlices: the addresses behind a Service, in slices of limited size.

mod instruments;
mod observe;
pub(crate) mod plan;
pub(crate) mod source;
#[cfg(test)]
mod tests;
mod topology;

pub use observe::start;
