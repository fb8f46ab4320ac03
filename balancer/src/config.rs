//! `/etc/kubernetes/balancer.yaml`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// What the balancer is told. All but `servers` has a default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// Where the node's daemons connect to.
    pub listen: SocketAddr,
    /// Server taken before all others while it is healthy: a control plane's own. Empty for none.
    pub prefer: String,
    /// Servers (host:port) to begin with, and to fall back on.
    pub servers: Vec<String>,
    /// Identity the living servers are asked for with; none, and nothing is learned.
    pub kubeconfig: Option<PathBuf>,
    /// Who signs the servers' certificates; none, and a server that takes connections is healthy.
    pub ca_file: Option<PathBuf>,
    /// Name in the servers' certificates.
    pub server_name: String,
    /// Where /healthz and /metrics are.
    pub health: SocketAddr,
    /// Where what was learned is kept.
    pub state: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 6444)),
            prefer: String::new(),
            servers: Vec::new(),
            kubeconfig: None,
            ca_file: None,
            server_name: "kubernetes".into(),
            health: SocketAddr::from(([127, 0, 0, 1], 6445)),
            state: "/var/lib/coxswain/balancer/servers.json".into(),
        }
    }
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or is no such document.
    pub fn read(path: &Path) -> Result<Self> {
        let what = || format!("configuration {}", path.display());
        let text = std::fs::read_to_string(path).with_context(what)?;
        Self::parse(&text).with_context(what)
    }

    /// Reads the document.
    ///
    /// # Errors
    /// As of [`Config::read`]; also for a server without a port.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = serde_yaml::from_str(text)?;
        for server in config.seeds() {
            let port =
                server.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
            anyhow::ensure!(
                port.is_some_and(|(host, _)| !host.is_empty()),
                "server {server:?} is not host:port"
            );
        }
        Ok(config)
    }

    /// All servers named here.
    pub fn seeds(&self) -> Vec<String> {
        let prefer = (!self.prefer.is_empty()).then(|| self.prefer.clone());
        prefer.into_iter().chain(self.servers.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_what_is_left_out() {
        let config =
            Config::parse("prefer: 10.0.0.1:6443\nservers: ['10.0.0.2:6443', 'cp.example:443']").unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:6444");
        assert_eq!(config.seeds(), ["10.0.0.1:6443", "10.0.0.2:6443", "cp.example:443"]);
        assert_eq!(config.server_name, "kubernetes");
        assert!(Config::parse("prefer: ''\nservers: []").unwrap().seeds().is_empty());
    }

    #[test]
    fn a_server_without_a_port_is_named() {
        for bad in ["10.0.0.1", "10.0.0.1:https", ":6443"] {
            let error = Config::parse(&format!("servers: ['{bad}']")).unwrap_err();
            assert!(format!("{error:#}").contains(bad), "{error:#}");
        }
    }
}
