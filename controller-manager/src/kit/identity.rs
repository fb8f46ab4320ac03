//! One identity per controller (`--use-service-account-credentials`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use control::backoff::Backoff;
use daemon::client::{Target, TokenCell};
use daemon::tasks::Tasks;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

const NAMESPACE: &str = "kube-system";
const LIFETIME: Duration = Duration::from_secs(3600);

/// Makes clients for controllers.
#[derive(Clone)]
pub struct Identities {
    root: kube::Client,
    /// Set when each controller is to act as its own service account.
    target: Option<Target>,
    tasks: Tasks,
    /// One client per account, made when first asked for.
    made: Arc<Mutex<HashMap<&'static str, Arc<OnceCell<kube::Client>>>>>,
}

impl Identities {
    /// `target` is the API server to reach with the controllers' own tokens, `None` to share the root identity.
    pub fn new(root: kube::Client, target: Option<Target>, tasks: Tasks) -> Self {
        Self { root, target, tasks, made: Arc::default() }
    }

    /// The client of a controller. Waits until it has its first token, which is renewed from then on.
    pub async fn client(&self, account: &'static str) -> kube::Client {
        let Some(target) = self.target.clone().filter(|_| !account.is_empty()) else {
            return self.root.clone();
        };
        let slot = self.made.lock().entry(account).or_default().clone();
        slot.get_or_init(|| self.make(account, target)).await.clone()
    }

    async fn make(&self, account: &'static str, target: Target) -> kube::Client {
        let cell: TokenCell = Arc::new(ArcSwap::from_pointee(None));
        let mut due = self.obtain(account, &cell).await;
        let (renewer, renewed) = (self.clone(), cell.clone());
        self.tasks.spawn(format!("token of {account}"), async move {
            loop {
                tokio::time::sleep(due).await;
                due = renewer.obtain(account, &renewed).await;
            }
        });
        let agent = format!("kube-controller-manager/{} {account}", env!("CARGO_PKG_VERSION"));
        daemon::client::with_token(&target, cell, &agent).unwrap_or_else(|error| {
            tracing::error!(%error, account, "no client of its own, using the shared one");
            self.root.clone()
        })
    }

    /// Gets a token, however long it takes, and says when the next is due.
    async fn obtain(&self, account: &str, cell: &TokenCell) -> Duration {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            match self.request(account).await {
                Ok((token, expiry)) => {
                    cell.store(Arc::new(Some(token)));
                    let left = super::meta::until(expiry, Timestamp::now());
                    return left.mul_f64(0.8).max(Duration::from_secs(10));
                }
                Err(error) => {
                    tracing::warn!(account, error = format!("{error:#}"), "no token yet");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    async fn request(&self, account: &str) -> Result<(String, Timestamp)> {
        let api: Api<ServiceAccount> = Api::namespaced(self.root.clone(), NAMESPACE);
        match token(&api, account).await {
            Err(kube::Error::Api(status)) if status.code == 404 => create(&api, account).await?,
            answer => return read(answer.context("request token")?),
        }
        read(token(&api, account).await.context("request token")?)
    }
}

async fn create(api: &Api<ServiceAccount>, account: &str) -> Result<()> {
    let mut object = ServiceAccount::default();
    object.metadata.name = Some(account.into());
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop).context("create service account"),
    }
}

async fn token(api: &Api<ServiceAccount>, account: &str) -> kube::Result<TokenRequest> {
    let body = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": LIFETIME.as_secs()},
    });
    api.create_subresource("token", account, &PostParams::default(), &body).await
}

fn read(answer: TokenRequest) -> Result<(String, Timestamp)> {
    let status = answer.status.context("token request without status")?;
    let token = status.token.context("token request without token")?;
    let expiry = status.expiration_timestamp.context("token request without expiry")?;
    Ok((token, expiry.0))
}
