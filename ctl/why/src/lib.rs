//! `coxctl why`: why an object is not as it should be, in sentences.
//!
//! Reading and reasoning are apart: [`gather`] asks the API for what a question needs, [`subjects`] says by kind which
//! rules answer it, and the rules are pure functions of [`facts::Facts`] and a moment.

mod amount;
mod case;
mod claim;
mod cron_job;
mod facts;
mod fit;
mod gather;
mod generic;
mod hpa;
mod job;
mod leaving;
mod namespace;
mod node;
mod pod;
mod print;
mod refusal;
mod service;
mod subjects;
mod verb;
mod words;
mod workload;

pub mod finding;

#[cfg(test)]
mod testing;

pub use verb::{WhyArgs, run};

/// The verb.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Command {
    /// Say why an object is not as it should be, and what would help
    Why(WhyArgs),
}
