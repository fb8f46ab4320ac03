//! The wire forms of API objects: JSON and YAML read against a schema, protobuf, Tables and partial metadata.
//! Everything is driven by `machinery::schema`; objects are `serde_json::Value`. Nothing here does I/O.

pub mod json;
pub mod partial;
pub mod proto;
pub mod table;
pub mod yaml;
pub mod zero;
