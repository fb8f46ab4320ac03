//! A client of etcd with the identity of its health checks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coxctl_config::ClusterConfiguration;
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};

/// Deadline of connecting and of ordinary calls.
pub const CALL: Duration = Duration::from_secs(5);

/// Files by which etcd knows us and we know etcd.
#[derive(Debug, Clone)]
pub struct Files {
    /// Authority.
    pub ca: PathBuf,
    /// Certificate.
    pub cert: PathBuf,
    /// Key.
    pub key: PathBuf,
}

impl Files {
    /// Those of the control plane whose certificates lie in `pki`.
    pub fn local(pki: &Path) -> Self {
        let file = |name: &str| pki.join("etcd").join(name);
        Self { ca: file("ca.crt"), cert: file("healthcheck-client.crt"), key: file("healthcheck-client.key") }
    }

    /// Those for the cluster's etcd, wherever it is.
    pub fn of(cluster: &ClusterConfiguration) -> Self {
        match &cluster.etcd.external {
            Some(e) => {
                Self { ca: (&e.ca_file).into(), cert: (&e.cert_file).into(), key: (&e.key_file).into() }
            }
            None => Self::local(Path::new(&cluster.certificates_dir)),
        }
    }

    fn tls(&self) -> Result<TlsOptions> {
        let read = |p: &Path| std::fs::read(p).with_context(|| format!("reading {}", p.display()));
        let mut tls = TlsOptions::new();
        if !self.ca.as_os_str().is_empty() {
            tls = tls.ca_certificate(Certificate::from_pem(read(&self.ca)?));
        }
        if !self.cert.as_os_str().is_empty() {
            tls = tls.identity(Identity::from_pem(read(&self.cert)?, read(&self.key)?));
        }
        Ok(tls)
    }
}

/// A client of one endpoint; nothing is sent yet.
///
/// # Errors
/// When a file can't be read.
pub async fn connect(endpoint: &str, files: &Files) -> Result<Client> {
    daemon::init_crypto();
    let mut options = ConnectOptions::new().with_connect_timeout(CALL);
    if endpoint.starts_with("https://") {
        options = options.with_tls(files.tls()?);
    }
    Ok(Client::connect([endpoint], Some(options)).await?)
}

/// A client of the first endpoint whose member answers and sees a leader, and the endpoint.
///
/// # Errors
/// When none does: what each said.
pub async fn connect_any(endpoints: &[String], files: &Files) -> Result<(Client, String)> {
    let mut said = Vec::new();
    for endpoint in endpoints {
        match leading(endpoint, files).await {
            Ok(client) => return Ok((client, endpoint.clone())),
            Err(error) => said.push(format!("{endpoint}: {error:#}")),
        }
    }
    bail!("no member of etcd answers: {}", said.join("; "))
}

async fn leading(endpoint: &str, files: &Files) -> Result<Client> {
    let mut client = connect(endpoint, files).await?;
    let status = within(CALL, client.status()).await?;
    anyhow::ensure!(status.leader() != 0, "it sees no leader");
    Ok(client)
}

/// A call with a deadline.
///
/// # Errors
/// Those of the call, and when it takes too long.
pub async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(etcd_client::Error::GRpcStatus(status))) => bail!("{}", status.message()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => bail!("no answer within {limit:?}"),
    }
}
