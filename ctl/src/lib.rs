//! `coxctl`: makes clusters and looks after them.
//!
//! It knows no daemon from inside; it writes their files, starts their programs and talks to the API server like any other
//! client.

pub mod cli;
pub mod everyday;
pub mod image;
mod overview;

pub mod lab;

use coxctl_pki::{authority as pki, kubeconfig};
