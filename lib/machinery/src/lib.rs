//! The vocabulary of the Kubernetes API: kinds and types as data, object metadata, quantities, selectors,
//! names, times and the `Status` error. Nothing here does I/O.

pub mod cron;
pub mod field;
pub mod kinds;
pub mod meta;
pub mod names;
pub mod quantity;
pub mod quota;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;
