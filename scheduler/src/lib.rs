//! kube-scheduler: chooses a node for every pod that has none.
//!
//! One pod's story: the watch caches of [`follow`] hand it to [`state`], which puts it into the [`queue`]; [`schedule`] pops it and
//! asks [`framework`] for a verdict, which runs the [`plugins`] over the snapshot of [`model`], its nodes and the counts kept over
//! their pods, and does no I/O; the choice is assumed in the state at once and written by [`binder`] (and [`volumes`]) on the side;
//! a refusal becomes a condition, an event, perhaps a [`preemption`], and a place in the queue until something happens that could
//! change the verdict. [`configuration`] says which plugins take part, and which [`extender`]s are asked.
//!
//! It does not know how the API server stores anything, nor any other daemon.

pub mod binder;
pub mod config;
pub mod configuration;
pub mod extender;
pub mod follow;
pub mod framework;
pub mod metrics;
pub mod model;
pub mod plugins;
pub mod preemption;
pub mod queue;
pub mod run;
pub mod schedule;
pub mod seen;
pub mod state;
pub mod volumes;
mod wire;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod testing;
