//! The client of the kubelets: one pool of connections, the service account's token, the cluster's authority.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use daemon::account::Account;
use daemon::cert::{certified_key, root_store};
use daemon::trust::AnyServer;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use k8s_openapi::api::core::v1::Node;
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;

use crate::flags::Flags;

/// An answer larger than this is none: ten thousand containers take a fifth of it.
const LIMIT: usize = 16 << 20;
/// Longer than a resolution, so that connections live from scrape to scrape.
const IDLE: Duration = Duration::from_secs(90);

/// Asks kubelets for their resource metrics.
pub struct Kubelets {
    http: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    account: Option<Account>,
    scheme: &'static str,
    port: Port,
    types: Vec<String>,
    deadline: Duration,
}

struct Port {
    fixed: u16,
    of_status: bool,
}

impl Kubelets {
    /// The account's credentials and authority are good for kubelets, unless flags say otherwise.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn new(flags: &Flags, account: Account) -> Result<Self> {
        let plain = flags.deprecated_kubelet_completely_insecure;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(flags.kubelet_request_timeout));
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls(flags, &account)?);
        let http = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build(connector.https_or_http().enable_http1().wrap_connector(tcp));
        Ok(Self {
            http,
            account: Some(account).filter(|_| !plain),
            scheme: if plain { "http" } else { "https" },
            port: Port { fixed: flags.kubelet_port, of_status: flags.kubelet_use_node_status_port },
            types: flags.kubelet_preferred_address_types.clone(),
            deadline: flags.kubelet_request_timeout.min(flags.metric_resolution),
        })
    }

    /// The text of a node's `/metrics/resource`.
    ///
    /// # Errors
    /// When the node has no address, or its kubelet does not answer in time, or not with 200.
    pub async fn read(&self, node: &Node) -> Result<Bytes> {
        let request = self.request(node)?;
        let asked = async {
            let answer = self.http.request(request).await.map_err(|error| anyhow!(brief(&error)))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LIMIT).collect().await;
            let body = body.map_err(|error| anyhow!("reading the answer: {error}"))?.to_bytes();
            if status != StatusCode::OK {
                bail!("request failed, status: {status}: {}", String::from_utf8_lossy(&body).trim());
            }
            Ok(body)
        };
        let late = || format!("no answer within {:?}", self.deadline);
        tokio::time::timeout(self.deadline, asked).await.with_context(late)?
    }

    fn request(&self, node: &Node) -> Result<Request<Empty<Bytes>>> {
        let address = address(node, &self.types)
            .with_context(|| format!("node has no addresses that matched types {:?}", self.types))?;
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_string() };
        let uri = format!("{}://{host}:{}/metrics/resource", self.scheme, self.port(node));
        let mut request = Request::get(uri)
            .header(header::ACCEPT, "text/plain;version=0.0.4")
            .header(header::USER_AGENT, concat!("metrics-server/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())?;
        if let Some(value) = self.account.as_ref().and_then(Account::authorization) {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    fn port(&self, node: &Node) -> u16 {
        let endpoint = || node.status.as_ref()?.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref();
        let known = endpoint().filter(|_| self.port.of_status).and_then(|e| u16::try_from(e.port).ok());
        known.filter(|port| *port != 0).unwrap_or(self.port.fixed)
    }
}

/// The first address of the type liked most.
fn address<'a>(node: &'a Node, types: &[String]) -> Option<&'a str> {
    let known = node.status.as_ref()?.addresses.as_ref()?;
    types.iter().find_map(|wanted| known.iter().find(|a| a.type_ == *wanted)).map(|a| a.address.as_str())
}

/// An error with its causes in one line.
fn brief(error: &dyn std::error::Error) -> String {
    daemon::logging::brief(error)
}

fn tls(flags: &Flags, account: &Account) -> Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match flags.kubelet_insecure_tls {
        true => builder.dangerous().with_custom_certificate_verifier(AnyServer::verifier()),
        false => builder.with_root_certificates(roots(flags, account)?),
    };
    let mut tls = match identity(flags, account)? {
        Some(key) => builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    };
    // Connections are kept; when one breaks, a whole handshake costs little, and thousands of sessions would cost much.
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(tls)
}

fn roots(flags: &Flags, account: &Account) -> Result<RootCertStore> {
    if let Some(path) = &flags.kubelet_certificate_authority {
        return root_store(&read(path)?);
    }
    account.ca_pem().map_or_else(|| Ok(RootCertStore::empty()), root_store)
}

fn identity(flags: &Flags, account: &Account) -> Result<Option<Arc<CertifiedKey>>> {
    if flags.deprecated_kubelet_completely_insecure {
        return Ok(None);
    }
    if let (Some(cert), Some(key)) = (&flags.kubelet_client_certificate, &flags.kubelet_client_key) {
        let key = certified_key(&read(cert)?, &read(key)?).context("client certificate for the kubelets")?;
        return Ok(Some(Arc::new(key)));
    }
    Ok(account.key())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    const CONFIG: &str = "{current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], \
        clusters: [{name: c, cluster: {server: 'https://x'}}], users: [{name: u, user: {token: t}}]}";

    fn node() -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a"},
            "status": {
                "addresses": [
                    {"type": "Hostname", "address": "a"},
                    {"type": "InternalIP", "address": "10.0.0.1"},
                    {"type": "InternalIP", "address": "fd00::1"},
                ],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}},
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_address_liked_most() {
        let of = |types: &[&str]| {
            let types: Vec<String> = types.iter().map(|t| t.to_string()).collect();
            address(&node(), &types).map(str::to_owned)
        };
        assert_eq!(of(&["ExternalIP", "InternalIP", "Hostname"]).as_deref(), Some("10.0.0.1"));
        assert_eq!(of(&["Hostname", "InternalIP"]).as_deref(), Some("a"));
        assert_eq!(of(&["ExternalDNS"]), None);
    }

    #[test]
    fn requests() {
        daemon::init_crypto();
        let uri = |line: &str| {
            let flags = Flags::try_parse_from(line.split_whitespace()).unwrap();
            let dir = std::env::temp_dir().join(format!("metrics-server-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("conf"), CONFIG).unwrap();
            let account = Account::find(Some(&dir.join("conf"))).unwrap();
            std::fs::remove_dir_all(dir).unwrap();
            let request = Kubelets::new(&flags, account).unwrap().request(&node())?;
            assert_eq!(request.headers()["authorization"], "Bearer t");
            anyhow::Ok(request.uri().to_string())
        };
        let base = "m --kubelet-insecure-tls --kubelet-preferred-address-types=InternalIP";
        assert_eq!(uri(base).unwrap(), "https://10.0.0.1:10250/metrics/resource");
        assert_eq!(
            uri(&format!("{base} --kubelet-use-node-status-port")).unwrap(),
            "https://10.0.0.1:10251/metrics/resource"
        );
        assert_eq!(uri(&format!("{base} --kubelet-port=7")).unwrap(), "https://10.0.0.1:7/metrics/resource");
        assert!(uri("m --kubelet-insecure-tls --kubelet-preferred-address-types=ExternalDNS").is_err());
    }
}
