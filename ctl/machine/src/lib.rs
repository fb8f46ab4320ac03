//! One machine: its daemons under systemd or a supervisor, preflight checks, what was made on it, bundles, its container runtime.

pub mod supervisor;
