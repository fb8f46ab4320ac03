//! One machine: its daemons under systemd or a supervisor, preflight checks, what was made on it, bundles, its container runtime.

pub mod bundle;
pub mod clean;
pub mod cri;
pub mod files;
pub mod health;
pub mod made;
pub mod paths;
pub mod preflight;
mod process;
pub mod services;
pub mod supervisor;
mod words;

pub use health::healthy;
pub use made::Made;
pub use services::{Changed, Daemon, Options, Services, State, install, services};
