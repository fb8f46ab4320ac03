//! What this machine remembers of the cluster it belongs to, for commands that must work when no API server does.

use anyhow::{Context, Result};
use coxctl_config::{ApiEndpoint, ClusterConfiguration, local_endpoint};
use serde::{Deserialize, Serialize};

use crate::host::Host;

/// Where it is kept.
pub const FILE: &str = "/var/lib/coxswain/node.json";

/// One machine's part in its cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Local {
    /// The node's name.
    pub node: String,
    /// This machine's API server; `None` on workers.
    pub control_plane: Option<ApiEndpoint>,
    /// The container runtime's socket.
    pub cri_socket: String,
    /// The cluster's configuration as it was when the machine became part of it.
    pub cluster: ClusterConfiguration,
}

impl Local {
    /// Keeps it.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn keep(&self, host: &Host) -> Result<()> {
        host.write(FILE, &serde_json::to_vec_pretty(self)?, 0o600).map(drop)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When this machine belongs to no cluster, or the file is damaged.
    pub fn read() -> Result<Self> {
        let text = std::fs::read(FILE).context(
            "this machine is not part of a cluster made by coxctl (there is no /var/lib/coxswain/node.json)",
        )?;
        serde_json::from_slice(&text).with_context(|| format!("{FILE} is damaged"))
    }

    /// This machine's API server.
    ///
    /// # Errors
    /// On workers.
    pub fn api(&self) -> Result<&ApiEndpoint> {
        self.control_plane.as_ref().context("this machine is a worker; run it on a control plane")
    }

    /// `HOST:PORT` of this machine's API server.
    ///
    /// # Errors
    /// On workers.
    pub fn endpoint(&self) -> Result<String> {
        Ok(local_endpoint(self.api()?))
    }
}
