//! Persistent volumes and claims: who gets which, and what becomes of a volume whose claim is gone.

mod claim;
mod counts;
mod matching;
mod observe;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod volume;

pub use observe::start;
