//! A `kube::Client` from a kubeconfig, over rustls with *ring*, whose identity follows its files.
//!
//! There is no rate limit on our side: the API server's priority and fairness is the one place that knows the load.
//! When a client certificate is replaced on disk, new requests go over new connections made with the new one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use parking_lot::Mutex;
use rustls::sign::CertifiedKey;

use crate::cert::{Reloading, certified_key, root_store};
use crate::direct::Direct;
use crate::fence::Fence;
use crate::kubeconfig::{self, User, decode};
use crate::trust::AnyServer;

/// Deadline for the response headers of an ordinary (not watching, not streaming) request.
const CALL_DEADLINE: Duration = Duration::from_secs(60);
/// A busy server is asked so many times more, after the wait it names, cut to this.
pub(crate) const RETRIES: usize = 10;
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Before an identity that came and was no good is looked at again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// A silent connection is probed, so that a server that vanished is noticed while a watch is open.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(30);
pub(crate) const KEEPALIVE_DEADLINE: Duration = Duration::from_secs(15);

type Http = HyperClient<HttpsConnector<HttpConnector>, Body>;
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A bearer token that may be replaced while the client lives.
pub type TokenCell = Arc<ArcSwap<Option<String>>>;

/// Where the API server is and how it is trusted, without an identity.
#[derive(Clone)]
pub struct Target {
    pub(crate) server: Uri,
    pub(crate) ca_pem: Option<Vec<u8>>,
    pub(crate) insecure: bool,
    pub(crate) server_name: Option<String>,
    pub(crate) namespace: String,
    /// Connections shared by all clients without a certificate: what they show is in each request.
    pub(crate) anonymous: Arc<OnceLock<Arc<Pools>>>,
    /// What holds writes back once leadership is gone.
    pub(crate) fence: Option<Fence>,
}

impl Target {
    /// The API server's address.
    pub fn server(&self) -> &Uri {
        &self.server
    }

    /// The same for clients that write only while `fence` is open.
    #[must_use]
    pub fn fenced(mut self, fence: &Fence) -> Self {
        self.fence = Some(fence.clone());
        self
    }

    /// The CA bundle the server is trusted by, PEM.
    pub fn ca_pem(&self) -> Option<&[u8]> {
        self.ca_pem.as_deref()
    }
}

/// A client for the current context of the kubeconfig at `path`. `user_agent` is sent as it is.
pub async fn from_kubeconfig(path: &Path, user_agent: &str) -> Result<kube::Client> {
    Ok(made(path, user_agent, None).await?.0)
}

/// As [`from_kubeconfig`], for who acts as a leader: requests that change something fail once `fence` is closed. Those of
/// plug-in credentials are not held back.
///
/// # Errors
/// As [`from_kubeconfig`].
pub async fn fenced(path: &Path, user_agent: &str, fence: &Fence) -> Result<kube::Client> {
    Ok(made(path, user_agent, Some(fence)).await?.0)
}

/// As [`fenced`], with a shorter way for who writes very much.
///
/// # Errors
/// As [`from_kubeconfig`].
pub async fn fenced_direct(path: &Path, user_agent: &str, fence: &Fence) -> Result<(kube::Client, Direct)> {
    made(path, user_agent, Some(fence)).await
}

async fn made(path: &Path, user_agent: &str, fence: Option<&Fence>) -> Result<(kube::Client, Direct)> {
    crate::init_crypto();
    let what = || format!("kubeconfig {}", path.display());
    let resolved = kubeconfig::read(path).with_context(what)?;
    if resolved.user.exec.is_some() || resolved.user.auth_provider.is_some() {
        let client = foreign(path).await.with_context(what)?;
        return Ok((client.clone(), client.into()));
    }
    let mut target = target(path).with_context(what)?;
    target.fence = fence.cloned();
    let (identity, token) = (identity(path, &resolved.user)?, token(&resolved.user)?);
    let shared = share(target, identity, token, user_agent).with_context(what)?;
    let client = over(shared.clone());
    Ok((client.clone(), Direct::new(client, shared)))
}

/// As [`from_kubeconfig`], but waits for the files in which the identity is, and for the kubeconfig itself: a machine that
/// joins a cluster gets them in the course of it.
///
/// # Errors
/// Of what is there already and no good. What came while waiting is tried again, since it may have been half written.
pub async fn once_identified(path: &Path, user_agent: &str) -> Result<kube::Client> {
    let Some(file) = missing(path)? else { return from_kubeconfig(path, user_agent).await };
    tracing::info!(file = %file.display(), "waiting for the identity, which is not there yet");
    crate::notify::waiting(&file.display().to_string());
    let mut pause = FIRST_PAUSE;
    loop {
        match complete(path, user_agent).await {
            Ok(client) => {
                tracing::info!(kubeconfig = %path.display(), "the identity is there");
                return Ok(client);
            }
            Err(error) => tracing::warn!("{error:#}"),
        }
        tokio::time::sleep(spread(pause)).await;
        pause = (pause * 2).min(LONGEST_WAIT);
    }
}

async fn complete(path: &Path, user_agent: &str) -> Result<kube::Client> {
    while let Some(file) = missing(path)? {
        crate::files::appear(&file).await.with_context(|| format!("wait for {}", file.display()))?;
    }
    from_kubeconfig(path, user_agent).await
}

/// The first file of the identity that is not there.
fn missing(path: &Path) -> Result<Option<PathBuf>> {
    if !path.exists() {
        return Ok(Some(path.to_owned()));
    }
    let user = kubeconfig::read(path).with_context(|| format!("kubeconfig {}", path.display()))?.user;
    let certificate = user.client_certificate.filter(|_| user.client_certificate_data.is_none());
    let key = user.client_key.filter(|_| user.client_key_data.is_none());
    let token = user.token_file.filter(|_| user.token.is_none());
    Ok([certificate, key, token].into_iter().flatten().find(|file| !file.exists()))
}

/// The server and CA of a kubeconfig, for clients with an identity of their own (see [`with_token`]).
pub fn target(path: &Path) -> Result<Target> {
    let resolved = kubeconfig::read(path)?;
    let cluster = resolved.cluster;
    let ca_pem = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
        (Some(data), _) => Some(decode(data)?),
        (None, Some(file)) => Some(std::fs::read(file).with_context(|| format!("read {}", file.display()))?),
        (None, None) => None,
    };
    Ok(Target {
        server: cluster.server.parse().with_context(|| format!("server {}", cluster.server))?,
        ca_pem,
        insecure: cluster.insecure_skip_tls_verify,
        server_name: cluster.tls_server_name,
        namespace: resolved.namespace.unwrap_or_else(|| "default".into()),
        anonymous: Arc::default(),
        fence: None,
    })
}

/// A client that shows only the bearer token in `cell`, which may be replaced at any time.
pub fn with_token(target: &Target, cell: TokenCell, user_agent: &str) -> Result<kube::Client> {
    crate::init_crypto();
    build(target.clone(), None, Some(Token::Cell(cell)), user_agent)
}

/// Plug-in credentials are the kube crate's business.
async fn foreign(path: &Path) -> Result<kube::Client> {
    let config = Kubeconfig::read_from(path)?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

pub(crate) enum Token {
    Fixed(String),
    File(Reloading<String>),
    Cell(TokenCell),
}

impl Token {
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let token = match self {
            Token::Fixed(token) => token.clone(),
            Token::File(file) => file.current().0.to_string(),
            Token::Cell(cell) => cell.load().as_ref().clone()?,
        };
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

pub(crate) fn token(user: &User) -> Result<Option<Token>> {
    if let Some(token) = &user.token {
        return Ok(Some(Token::Fixed(token.clone())));
    }
    let Some(path) = user.token_file.clone() else { return Ok(None) };
    let read = path.clone();
    let load = move || Ok(std::fs::read_to_string(&read)?.trim().to_string());
    Ok(Some(Token::File(Reloading::new(vec![path], load).context("tokenFile")?)))
}

pub(crate) type Identity = Reloading<CertifiedKey>;

/// The client certificate, from data or from files. A file may hold both certificate and key. The kubeconfig itself is
/// followed too: those with data in them are rewritten when the certificate is renewed.
pub(crate) fn identity(path: &Path, user: &User) -> Result<Option<Identity>> {
    if user.client_certificate.is_none() && user.client_certificate_data.is_none() {
        return Ok(None);
    }
    let files = [&user.client_certificate, &user.client_key].into_iter().flatten().cloned();
    let paths = std::iter::once(path.to_owned()).chain(files).collect();
    let kubeconfig = path.to_owned();
    let load = move || {
        let user = kubeconfig::read(&kubeconfig)?.user;
        let cert = pem(&user.client_certificate_data, &user.client_certificate)?.unwrap_or_default();
        let key = pem(&user.client_key_data, &user.client_key)?.unwrap_or_else(|| cert.clone());
        certified_key(&cert, &key)
    };
    Ok(Some(Reloading::new(paths, load).context("client certificate")?))
}

fn pem(data: &Option<String>, path: &Option<std::path::PathBuf>) -> Result<Option<Vec<u8>>> {
    match (data, path) {
        (Some(data), _) => decode(data).map(Some),
        (None, Some(path)) => {
            Ok(Some(std::fs::read(path).with_context(|| format!("read {}", path.display()))?))
        }
        (None, None) => Ok(None),
    }
}

pub(crate) fn build(
    target: Target,
    identity: Option<Identity>,
    token: Option<Token>,
    user_agent: &str,
) -> Result<kube::Client> {
    Ok(over(share(target, identity, token, user_agent)?))
}

pub(crate) fn over(shared: Arc<Shared>) -> kube::Client {
    let namespace = shared.target.namespace.clone();
    kube::Client::new(Service { shared }, namespace)
}

pub(crate) fn share(
    target: Target,
    identity: Option<Identity>,
    token: Option<Token>,
    user_agent: &str,
) -> Result<Arc<Shared>> {
    let user_agent = HeaderValue::from_str(user_agent).context("user agent")?;
    let key = identity.as_ref().map(|i| i.current());
    let pools = match &key {
        Some((key, _)) => Arc::new(Pools::new(&target, Some(Arc::clone(key)))?),
        None => Pools::anonymous(&target)?,
    };
    let pools = Mutex::new((key.map_or(0, |k| k.1), pools));
    Ok(Arc::new(Shared { target, identity, token, user_agent, pools }))
}

/// Connections made with one identity. Protocol upgrades (exec, port-forward) need HTTP/1.1, all else shares HTTP/2.
pub(crate) struct Pools {
    normal: Http,
    upgrade: Http,
    /// Makes connections that are in neither.
    pub(crate) connector: HttpsConnector<HttpConnector>,
}

impl Pools {
    fn new(target: &Target, key: Option<Arc<CertifiedKey>>) -> Result<Self> {
        let tls = tls_config(target, key)?;
        let name = target.server_name.as_deref();
        let connector = connector(tls.clone(), name, true)?;
        let upgrade = http(self::connector(tls, name, false)?);
        Ok(Self { normal: http(connector.clone()), upgrade, connector })
    }

    /// The target's shared connections.
    fn anonymous(target: &Target) -> Result<Arc<Self>> {
        if let Some(pools) = target.anonymous.get() {
            return Ok(pools.clone());
        }
        let made = Arc::new(Self::new(target, None)?);
        Ok(target.anonymous.get_or_init(|| made).clone())
    }
}

fn connector(
    tls: rustls::ClientConfig,
    name: Option<&str>,
    http2: bool,
) -> Result<HttpsConnector<HttpConnector>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_DEADLINE));
    tcp.set_keepalive(Some(KEEPALIVE));
    let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let builder = match name {
        Some(name) => {
            let name =
                rustls::pki_types::ServerName::try_from(name.to_string()).context("tls-server-name")?;
            builder.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name))
        }
        None => builder,
    };
    Ok(match http2 {
        true => builder.enable_all_versions().wrap_connector(tcp),
        false => builder.enable_http1().wrap_connector(tcp),
    })
}

fn http(connector: HttpsConnector<HttpConnector>) -> Http {
    HyperClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(90))
        .http2_keep_alive_interval(KEEPALIVE)
        .http2_keep_alive_timeout(KEEPALIVE_DEADLINE)
        .http2_adaptive_window(false)
        .http2_initial_stream_window_size(1 << 20)
        .http2_initial_connection_window_size(4 << 20)
        .build(connector)
}

fn tls_config(target: &Target, key: Option<Arc<CertifiedKey>>) -> Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let roots = match &target.ca_pem {
        Some(pem) => root_store(pem)?,
        None => rustls::RootCertStore::empty(),
    };
    let builder = match target.insecure {
        true => builder.dangerous().with_custom_certificate_verifier(AnyServer::verifier()),
        false => builder.with_root_certificates(roots),
    };
    let mut config = match key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(OneKey(key))),
        None => builder.with_no_client_auth(),
    };
    // One server is all this client talks to; the default has room for hundreds.
    config.resumption = rustls::client::Resumption::in_memory_sessions(2);
    Ok(config)
}

#[derive(Debug)]
struct OneKey(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for OneKey {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

pub(crate) struct Shared {
    pub(crate) target: Target,
    identity: Option<Identity>,
    token: Option<Token>,
    user_agent: HeaderValue,
    pools: Mutex<(u64, Arc<Pools>)>,
}

impl Shared {
    /// The pools of the identity that is on disk now, and its number.
    pub(crate) fn pools(&self) -> (u64, Arc<Pools>) {
        let mut pools = self.pools.lock();
        if let Some((key, generation)) = self.identity.as_ref().map(|i| i.current())
            && generation != pools.0
        {
            match Pools::new(&self.target, Some(Arc::clone(&key))) {
                Ok(fresh) => *pools = (generation, Arc::new(fresh)),
                Err(error) => {
                    tracing::warn!(%error, "new client certificate is unusable, keeping the old one")
                }
            }
        }
        pools.clone()
    }

    fn prepare(&self, request: &mut Request<Body>) -> Result<(), BoxError> {
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        *request.uri_mut() = join(&self.target.server, path)?;
        self.identify(request.headers_mut());
        Ok(())
    }

    /// Says who asks.
    pub(crate) fn identify(&self, headers: &mut HeaderMap) {
        headers.entry(header::USER_AGENT).or_insert_with(|| self.user_agent.clone());
        if let Some(value) = self.token.as_ref().and_then(Token::header) {
            headers.insert(header::AUTHORIZATION, value);
        }
    }
}

/// A path and query on the server's base.
pub(crate) fn join(base: &Uri, wanted: &str) -> Result<Uri, BoxError> {
    let mut parts = base.clone().into_parts();
    let prefix = base.path().trim_end_matches('/');
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{prefix}{wanted}"))?);
    Ok(Uri::from_parts(parts)?)
}

#[derive(Clone)]
struct Service {
    shared: Arc<Shared>,
}

impl tower::Service<Request<Body>> for Service {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _cx: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move {
            shared.prepare(&mut request)?;
            if request.headers().contains_key(header::UPGRADE) {
                return Ok(shared.pools().1.upgrade.request(request).await?);
            }
            for _ in 0..RETRIES {
                let Some(again) = copy(&request) else { break };
                let answer = shared.send(request).await?;
                let Some(wait) = asked_to_wait(&answer) else { return Ok(answer) };
                tokio::time::sleep(spread(wait)).await;
                request = again;
            }
            shared.send(request).await
        })
    }
}

/// A request that changes something, while another may be the leader.
pub(crate) fn held_back(fence: Option<&Fence>, method: &Method) -> bool {
    !method.is_safe() && fence.is_some_and(|f| !f.is_open())
}

impl Shared {
    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        if held_back(self.target.fence.as_ref(), request.method()) {
            return Err(anyhow!("not the leader any more").into());
        }
        let uri = request.uri().clone();
        match tokio::time::timeout(CALL_DEADLINE, self.pools().1.normal.request(request)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(anyhow!("no answer from {uri} within {}s", CALL_DEADLINE.as_secs()).into()),
        }
    }
}

/// The same request once more; none of a body that streams.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// How long a server that is too busy, or not ready, wants to be left alone. As in client-go, that is part of the
/// call and no failure of it.
pub(crate) fn asked_to_wait<B>(answer: &Response<B>) -> Option<Duration> {
    let busy = answer.status() == StatusCode::TOO_MANY_REQUESTS || answer.status().is_server_error();
    let after = answer.headers().get(header::RETRY_AFTER).filter(|_| busy)?;
    Some(Duration::from_secs(after.to_str().ok()?.parse().ok()?).min(LONGEST_WAIT))
}

/// Up to half as long again, so that those sent away together do not come back together.
pub(crate) fn spread(wait: Duration) -> Duration {
    wait + wait.mul_f64(rand::random::<f64>() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_keeps_a_base_path() {
        let uri = |s: &str| s.parse::<Uri>().unwrap();
        let joined = |b, r| join(&uri(b), r).unwrap().to_string();
        assert_eq!(joined("https://h:6443", "/api/v1/pods?x=1"), "https://h:6443/api/v1/pods?x=1");
        assert_eq!(joined("https://h/prefix/", "/api"), "https://h/prefix/api");
    }

    #[test]
    fn only_a_busy_server_that_says_when_is_asked_again() {
        let answer = |code: u16, after: Option<&str>| {
            let mut answer = Response::new(());
            *answer.status_mut() = StatusCode::from_u16(code).unwrap();
            if let Some(after) = after {
                answer.headers_mut().insert(header::RETRY_AFTER, after.parse().unwrap());
            }
            asked_to_wait(&answer).map(|w| w.as_secs())
        };
        assert_eq!(
            [answer(429, Some("1")), answer(503, Some("60")), answer(500, Some("2"))],
            [Some(1), Some(10), Some(2)]
        );
        assert_eq!([answer(429, None), answer(409, Some("1")), answer(429, Some("soon"))], [None; 3]);
    }

    #[test]
    fn a_former_leader_may_read() {
        let fence = Fence::default();
        let held = |fence| [Method::GET, Method::POST, Method::DELETE].map(|m| held_back(fence, &m));
        assert_eq!([held(None), held(Some(&fence))], [[false; 3]; 2]);
        fence.close();
        assert_eq!([held(None), held(Some(&fence))], [[false; 3], [false, true, true]]);
    }

    #[test]
    fn a_request_is_copied_whole() {
        let body = Body::from(b"text".to_vec());
        let request = Request::post("/x?y").header("a", "b").body(body).unwrap();
        let again = copy(&request).unwrap();
        assert_eq!(
            (again.method(), again.uri(), again.headers()),
            (request.method(), request.uri(), request.headers())
        );
    }
}
