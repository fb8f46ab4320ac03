//! coxswain-local-path: volumes for claims, as directories of the node whose pod needs them.
//!
//! One instance runs on each node. It makes volumes for the claims whose pod the scheduler sent there, and deletes them
//! with their data when their claim is gone. [`plan`] decides, [`disk`] touches the disk and nothing outside its root,
//! [`room`] watches and writes.

pub mod config;
pub mod disk;
pub mod plan;
pub mod room;
