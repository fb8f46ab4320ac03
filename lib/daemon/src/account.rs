//! Who a daemon is in its cluster: the service account of its pod, or the user of a kubeconfig. With either it talks to
//! the API server, and to others that believe the same authority.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use http::HeaderValue;
use rustls::sign::CertifiedKey;

use crate::cert::Reloading;
use crate::client::{self, Identity, Target, Token};
use crate::kubeconfig;

/// Where pods find their account.
const FILES: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Credentials, and the authority by which servers of the cluster are known. They follow their files.
pub struct Account {
    target: Target,
    token: Option<Token>,
    identity: Option<Identity>,
    kubeconfig: Option<PathBuf>,
}

impl Account {
    /// Of the kubeconfig, if there is one, else of the pod.
    ///
    /// # Errors
    /// When a file can't be read, or there is neither.
    pub fn find(path: Option<&Path>) -> Result<Self> {
        match path {
            Some(path) => Self::of_kubeconfig(path).with_context(|| format!("kubeconfig {}", path.display())),
            None => Self::of_pod().context("no --kubeconfig and no service account"),
        }
    }

    fn of_kubeconfig(path: &Path) -> Result<Self> {
        let user = kubeconfig::read(path)?.user;
        Ok(Self {
            target: client::target(path)?,
            token: client::token(&user)?,
            identity: client::identity(path, &user)?,
            kubeconfig: Some(path.to_owned()),
        })
    }

    fn of_pod() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).with_context(|| name.to_string());
        let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let file = |name: &str| Path::new(FILES).join(name);
        let ca_pem = std::fs::read(file("ca.crt")).context("the cluster's authority")?;
        let path = file("token");
        let token =
            Reloading::new(vec![path.clone()], move || Ok(std::fs::read_to_string(&path)?.trim().into()));
        let target = Target {
            server: format!("https://{host}:{port}").parse().context("KUBERNETES_SERVICE_HOST")?,
            ca_pem: Some(ca_pem),
            insecure: false,
            server_name: None,
            namespace: std::fs::read_to_string(file("namespace")).unwrap_or_else(|_| "default".into()),
            anonymous: Arc::default(),
            fence: None,
        };
        let token = Some(Token::File(token.context("the account's token")?));
        Ok(Self { target, token, identity: None, kubeconfig: None })
    }

    /// A client of the API server.
    ///
    /// # Errors
    /// When a file can't be read.
    pub async fn client(&self, user_agent: &str) -> Result<kube::Client> {
        crate::init_crypto();
        match &self.kubeconfig {
            Some(path) => client::from_kubeconfig(path, user_agent).await,
            None => client::build(self.target.clone(), None, Self::of_pod()?.token, user_agent),
        }
    }

    /// The authority, PEM.
    pub fn ca_pem(&self) -> Option<&[u8]> {
        self.target.ca_pem()
    }

    /// The value of a request's `Authorization`.
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.token.as_ref()?.header()
    }

    /// The client certificate.
    pub fn key(&self) -> Option<Arc<CertifiedKey>> {
        self.identity.as_ref().map(|identity| identity.current().0)
    }
}
