//! What all workers of this node share.

use super::dns::{self, Resolver};
use crate::cgroups::{Cgroups, Layout};
use crate::context::Context;
use crate::images::Images;
use crate::runtime::relist::Relist;
use crate::volumes::objects::Objects;
use crate::volumes::tokens::Tokens;
use control::cache::Cache;
use k8s_openapi::api::core::v1::Service;
use std::sync::Arc;
use std::time::Duration;

/// Shared services of the workers.
pub struct Host {
    /// the process's context
    pub ctx: Arc<Context>,
    /// runtime views
    pub relist: Arc<Relist>,
    /// images
    pub images: Images,
    /// referenced ConfigMaps and Secrets
    pub objects: Objects,
    /// service account tokens
    pub tokens: Tokens,
    /// services of the cluster; None in standalone mode
    pub services: Option<Cache<Service>>,
    /// cgroup hierarchies
    pub cgroups: Cgroups,
    /// cgroup names
    pub layout: Layout,
    /// turns of starting pods
    pub gate: super::gate::Gate,
    /// Unix nanoseconds this kubelet came up at
    pub started_at: i64,
}

impl Host {
    /// Addresses of the host as text, primary first.
    pub fn host_ips(&self) -> Vec<String> {
        self.ctx.node.borrow().addresses.iter().map(ToString::to_string).collect()
    }

    /// The node's resolver configuration as it is now.
    pub fn resolver(&self) -> Resolver {
        let path = &self.ctx.config.file.resolv_conf;
        if path.is_empty() {
            return Resolver {
                servers: vec!["127.0.0.1".into()],
                searches: vec![".".into()],
                options: Vec::new(),
            };
        }
        dns::parse_resolv_conf(&std::fs::read_to_string(path).unwrap_or_default())
    }

    /// Bytes of memory of the node.
    pub fn node_memory(&self) -> i64 {
        let node = self.ctx.node.borrow();
        node.capacity.get("memory").map_or_else(machine_memory, super::resources::value)
    }

    /// `containerd` out of `containerd://1.6.20`.
    pub fn runtime_name(&self) -> String {
        let health = self.ctx.health.borrow();
        health
            .runtime_version
            .split("://")
            .next()
            .filter(|n| !n.is_empty())
            .unwrap_or("containerd")
            .to_owned()
    }

    /// Longest wait between restarts of a container.
    pub fn crash_max(&self) -> Duration {
        let own = self.ctx.config.file.crash_loop_back_off.max_container_restart_period;
        own.map_or(Duration::from_secs(300), |d| d.0)
    }

    /// CFS period in microseconds.
    pub fn cfs_period(&self) -> i64 {
        i64::try_from(self.ctx.config.file.cpu_cfs_quota_period.0.as_micros()).unwrap_or(100_000)
    }
}

fn machine_memory() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib: i64 = line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0);
    kib * 1024
}

/// Unix nanoseconds now.
pub fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0)
}
