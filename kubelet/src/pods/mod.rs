//! Pods: where they come from, the table of all, one worker each, and the pure decisions.

pub mod table;
