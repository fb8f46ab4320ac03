//! What the rooms share: the context they run in, writes as data, plans, and small questions about objects.

pub mod adopt;
pub mod batch;
pub mod context;
pub mod counts;
pub mod creation;
pub mod discovery;
pub mod doubt;
pub mod history;
pub mod identity;
pub mod meta;
pub mod nodes;
pub mod plan;
pub mod pods;
pub mod seen;
pub mod served;
pub mod slices;
pub mod storage;
pub mod template;
pub mod write;

pub use context::Context;
pub use plan::{Plan, Step};
pub use write::{Kind, Write, Writer};
