//! Container logs: the line formats of runtimes, where to begin reading, and following a file through rotation.

pub mod follow;
pub mod line;
pub mod options;
pub mod reader;
pub mod writer;

pub use options::{LogOptions, Streams};
pub use reader::read_logs;
