//! The machinery under every controller: a work queue, a runner, shared watch caches, expectations, leader election
//! and an event recorder.
//!
//! A key wakes a worker; the worker observes caches, plans, and applies. Start-up, change and retry are one path.

pub mod backoff;
pub mod cache;
pub mod events;
pub mod expectations;
pub mod kinds;
pub mod lead;
pub mod lease;
pub mod queue;
pub mod runner;

pub use cache::{Cache, Caches, Event, Key};
pub use events::Recorder;
pub use expectations::Expectations;
pub use kinds::{Namespaced, Watchable};
pub use lead::lead;
pub use lease::LeaderElector;
pub use queue::Queue;
