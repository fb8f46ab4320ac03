//! Garbage collection: objects whose owners are gone go too, in the background, in the foreground, or left orphaned.
//!
//! Every deletable kind is watched by metadata alone and becomes a graph of owners and dependents.

mod graph;
mod monitors;
#[cfg(test)]
mod simulation;
mod work;

pub use monitors::start;

/// A finalizer: the owner waits for its dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// A finalizer: the dependents are to be let go first.
pub const ORPHAN: &str = "orphan";
