//! What every daemon needs around its own thought: a client to the API server, an HTTPS port with certificates that
//! reload, health, metrics, logs, signals and a tree of named tasks.
//!
//! Nothing here knows what a daemon does. The pieces are small and independent; a `main.rs` puts them together.

pub mod account;
pub mod authorities;
pub mod cert;
pub mod client;
pub mod delegated;
pub mod direct;
pub mod fence;
pub mod files;
pub mod flags;
pub mod health;
mod kubeconfig;
pub mod logging;
pub mod metrics;
pub mod nftables;
pub mod notify;
pub mod patience;
pub mod serving;
pub mod signal;
pub mod tasks;
pub mod tls;
pub mod trust;
pub mod upgrade;

/// Installs *ring* as the process-wide TLS provider. Safe to call any number of times.
pub fn init_crypto() {
    // The only error is "already installed", which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
