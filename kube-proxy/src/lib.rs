//! kube-proxy: Services in nftables.
//!
//! # The table
//!
//! Upstream makes chains for every service. Here the chains are fixed and few ([`chains`]), and services are *data*:
//! elements of maps. A packet's `address . protocol . port` finds a **pool** and its **class** (how many endpoints it
//! has, and for how long a client stays with one). The class leads to a **picker**, one chain per class, which draws a
//! number below the pool's size and looks `pool . number` up to find the endpoint:
//!
//! ```text
//! service-ips  10.96.0.10 . tcp . 80 : pool 7, size 3         pick      3 : goto pick-3
//! endpoints    7 . 0 : 10.244.1.2 . 8080                      pick-3    dnat to pool . random 3 map @endpoints
//!              7 . 1 : 10.244.2.5 . 8080
//!              7 . 2 : 10.244.2.9 . 8080
//! ```
//!
//! So a changed endpoint is one element deleted and one added, an added or removed endpoint two or three, whatever the
//! number of services: hash look-ups in the kernel, no chain flushed, no rule added, no verdict map touched (each of
//! which would make the kernel walk the whole table to look for loops). Client affinity is one map for all services,
//! filled by the kernel itself; an entry counts only while its endpoint is still a member of the pool.
//!
//! Changes are written as netlink messages straight to the kernel ([`wire`], [`kernel`]), because `nft` reads the whole
//! ruleset before it changes anything. Measured at 10,000 services of 10 endpoints: 0.6 s for the full load, under a
//! millisecond for one change.
//!
//! # The path
//!
//! [`run`] takes watch events, [`parse`] keeps of them what counts, [`select`] chooses endpoints, [`render`] makes one
//! service's elements, [`state`] compares with what that service had and yields a transaction, [`kernel`] applies it.
//! A failed transaction leads to a full load, which replaces the table in one step. The same happens at start, so a
//! restart is not noticed by packets; established connections live in connection tracking anyway.

pub mod chains;
pub mod config;
pub mod configz;
pub mod conntrack;
pub mod events;
pub mod health;
pub mod kernel;
pub mod metrics;
pub mod model;
pub mod netlink;
pub mod parse;
pub mod proxier;
pub mod render;
pub mod run;
pub mod select;
pub mod state;
pub mod sysctl;
pub mod trace;
pub mod wire;

#[cfg(test)]
mod tests;
