//! Validation: what upstream's validation of each type demands, with its field paths, kinds of error and wording.
//! Every function takes a value, the path it stands at and the list to which errors go. Values come from a decoder
//! that has checked types, but nothing here relies on it: a value of the wrong type counts as absent.

pub mod container;
pub mod env;
pub mod indexes;
pub mod labels;
pub mod meta;
pub mod net;
pub mod pod;
pub mod pod_update;
pub mod probe;
pub mod resources;
pub mod scheduling;
pub mod security;
pub mod template;
pub mod volume;
pub mod volume_sources;
