//! kube-apiserver: serves the Kubernetes API from etcd. The only daemon that talks to the store.

pub mod admission;
pub mod aggregator;
pub mod alloc;
pub mod app;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod cache;
pub mod config;
pub mod discovery;
pub mod health;
pub mod http;
pub mod internal;
pub mod kinds;
pub mod metrics;
pub mod openapi;
pub mod proxy;
pub mod reader;
pub mod registry;
pub mod request;
pub mod rest;
pub mod reviews;
pub mod server;
pub mod storage;
pub mod strategy;

pub use app::App;
pub use config::Config;
