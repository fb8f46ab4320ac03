//! Patches of API objects: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and strategic merge, which is driven
//! by the type table. All are functions from values to values; nothing here does I/O.

mod json;
pub mod strategic;
pub mod threeway;

pub use json::{MAX_OPERATIONS, json_patch, merge_patch};

/// Why a patch could not be applied. The texts follow upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed.
    #[error("{0}")]
    Malformed(String),
    /// More operations than allowed.
    #[error("The allowed maximum operations in a JSON patch is {max}, got {got}")]
    TooManyOperations {
        /// The limit.
        max: usize,
        /// Operations in the patch.
        got: usize,
    },
    /// A failed test or a path that does not exist.
    #[error("the server rejected our request due to an error in our request: {0}")]
    Rejected(String),
    /// A strategic merge patch that does not fit the type.
    #[error("{0}")]
    Strategic(String),
}
