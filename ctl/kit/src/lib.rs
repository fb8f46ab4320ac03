//! What every everyday verb needs: the cluster as kubectl finds it, kinds by name, objects from files, printers.
//!
//! A verb parses its own flags, calls [`Globals::connect`], and works on [`serde_json::Value`] objects through
//! [`Cluster`]. Failures are [`Error`]; [`report`] prints one the way kubectl does and gives the exit code.

pub mod call;
pub mod cli;
pub mod cluster;
pub mod connect;
pub mod dig;
pub mod discovery;
pub mod error;
pub mod files;
pub mod globals;
pub mod kind;
pub mod kubeconfig;
pub mod out;
pub mod pick;
pub mod print;
pub mod rbac;
mod reach;
pub mod usage;
pub mod verbs;
pub mod watch;

pub use reach::connect_error;

pub use call::{Answer, Call, ListOptions, PatchType, Write};
pub use cluster::Cluster;
pub use discovery::Discovery;
pub use error::{Error, Result, Status, report};
pub use files::FileArgs;
pub use globals::Globals;
pub use kind::Kind;
pub use pick::{Item, Pick, Picked, Wanted};
pub use print::{Output, PrintArgs, Printer};
pub use watch::Event;
