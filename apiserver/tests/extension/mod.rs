//! A small extension API server: TLS, a client certificate of the front proxy required, its group `ext.example.com`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A certificate authority of a test.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub pem: String,
}

/// A certificate and its key, in PEM.
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec![]).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn sign(&self, name: &str, hosts: &[&str]) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
        let usage = match hosts.is_empty() {
            true => ExtendedKeyUsagePurpose::ClientAuth,
            false => ExtendedKeyUsagePurpose::ServerAuth,
        };
        let mut params = CertificateParams::new(hosts).expect("params");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("key");
        let cert = params.signed_by(&key, &self.issuer).expect("certificate").pem();
        Pair { cert, key: key.serialize_pem() }
    }
}

/// How it behaves, changed while it runs.
#[derive(Clone, Default)]
pub struct Manners {
    /// It knows nothing of aggregated discovery.
    pub old: bool,
    /// It answers everything with this code.
    pub failing: Option<u16>,
}

pub struct Extension {
    pub port: u16,
    pub manners: watch::Sender<Manners>,
    /// Paths asked for, but for discovery.
    pub asked: Mutex<Vec<String>>,
    /// A permit for each further event of a watch.
    pub events: Semaphore,
    accept: Mutex<Option<AbortHandle>>,
}

impl Drop for Extension {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Extension {
    /// Starts it on `ip` with a certificate for `host` from `ca`; clients need one from `front`.
    pub async fn start(ip: &str, ca: &Ca, host: &str, front: &Ca) -> Arc<Self> {
        let listener = TcpListener::bind((ip, 0)).await.expect("listen");
        let address: SocketAddr = listener.local_addr().expect("address");
        let made = Arc::new(Self {
            port: address.port(),
            manners: watch::Sender::default(),
            asked: Mutex::default(),
            events: Semaphore::new(0),
            accept: Mutex::default(),
        });
        let tls = tls(&ca.sign("extension", &[host]), front);
        let task = tokio::spawn(accept(Arc::downgrade(&made), listener, tls));
        *made.accept.lock() = Some(task.abort_handle());
        made
    }

    /// Nobody listens any more; what is open is cut.
    pub fn stop(&self) {
        if let Some(task) = self.accept.lock().take() {
            task.abort();
        }
    }
}

fn tls(pair: &Pair, front: &Ca) -> tokio_rustls::TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(daemon::cert::root_store(front.pem.as_bytes()).expect("CA"));
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(clients.build().expect("verifier"));
    let certs = daemon::cert::certs_from_pem(pair.cert.as_bytes()).expect("certificate");
    let key: PrivateKeyDer<'static> = daemon::cert::key_from_pem(pair.key.as_bytes()).expect("key");
    Arc::new(config.with_single_cert(certs, key).expect("pair")).into()
}

async fn accept(server: std::sync::Weak<Extension>, listener: TcpListener, tls: tokio_rustls::TlsAcceptor) {
    let mut open = tokio::task::JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (server, tls) = (server.clone(), tls.clone());
        open.spawn(async move {
            let Ok(stream) = tls.accept(tcp).await else { return };
            let service = hyper::service::service_fn(move |request| {
                let server = server.upgrade();
                async move {
                    let server = server.ok_or("stopped")?;
                    Ok::<_, &str>(server.answer(request))
                }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.with_upgrades().await;
        });
    }
}

fn full(code: u16, kind: &str, body: impl Into<Bytes>) -> Response<Body> {
    let made = Response::builder().status(code).header(header::CONTENT_TYPE, kind);
    made.body(Full::new(body.into()).boxed_unsync()).expect("response")
}

fn document(value: &Value) -> Response<Body> {
    full(200, "application/json", value.to_string())
}

impl Extension {
    fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let manners = self.manners.borrow().clone();
        if let Some(code) = manners.failing {
            return full(code, "text/plain", "failing");
        }
        let path = request.uri().path().to_owned();
        let wants = |text: &str| {
            request.headers().get(header::ACCEPT).is_some_and(|v| v.to_str().unwrap_or("").contains(text))
        };
        match path.as_str() {
            "/apis" if !manners.old && wants("g=apidiscovery.k8s.io;v=v2") => aggregated(),
            "/apis/ext.example.com/v1" => resources(),
            "/openapi/v3" if !manners.old => document(&json!({"paths": {"apis/ext.example.com/v1":
                {"serverRelativeURL": "/openapi/v3/apis/ext.example.com/v1?hash=ABC"}}})),
            "/openapi/v3/apis/ext.example.com/v1" => document(&json!({"openapi": "3.0.0", "paths": {},
                "components": {"schemas": {"com.example.Thing": {"type": "object"}}}})),
            "/openapi/v2" if !manners.old => document(&openapi_v2()),
            "/" | "/apis" | "/openapi/v2" | "/openapi/v3" => full(404, "text/plain", "not found"),
            _ => self.resource(request),
        }
    }

    fn resource(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        self.asked.lock().push(request.uri().to_string());
        let query = request.uri().query().unwrap_or_default();
        if request.headers().contains_key(header::UPGRADE) {
            return switch(request);
        }
        if query.contains("watch=") {
            return self.watch();
        }
        match request.uri().path() {
            "/apis/ext.example.com/v1/away" => Response::builder()
                .status(StatusCode::FOUND)
                .header(header::LOCATION, "https://elsewhere.example.com/")
                .body(Full::default().boxed_unsync())
                .expect("response"),
            _ => echo(request),
        }
    }

    /// One event for each permit, then nothing more while the client stays.
    fn watch(self: Arc<Self>) -> Response<Body> {
        let events = futures::stream::unfold((self, 0u32), |(server, n)| async move {
            server.events.acquire().await.ok()?.forget();
            let line = format!("{}\n", json!({"type": "ADDED", "object": {"n": n}}));
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(line))), (server, n + 1)))
        });
        Response::new(StreamBody::new(events).boxed_unsync())
    }
}

fn aggregated() -> Response<Body> {
    let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [
        {"metadata": {"name": "ext.example.com"}, "versions": [{"version": "v1", "freshness": "Current", "resources": [
            {"resource": "things", "responseKind": {"group": "ext.example.com", "version": "v1", "kind": "Thing"},
             "scope": "Namespaced", "singularResource": "thing", "verbs": ["get", "list"], "shortNames": ["tg"],
             "subresources": [{"subresource": "status", "responseKind": {"group": "ext.example.com", "version": "v1", "kind": "Thing"}, "verbs": ["get"]}]}]}]}]});
    full(200, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", list.to_string())
}

fn resources() -> Response<Body> {
    document(
        &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "ext.example.com/v1", "resources": [
        {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get", "list"], "shortNames": ["tg"]},
        {"name": "things/status", "singularName": "", "namespaced": true, "kind": "Thing", "verbs": ["get"]}]}),
    )
}

fn openapi_v2() -> Value {
    json!({"swagger": "2.0", "info": {"title": "ext", "version": "1"}, "paths": {
        "/apis/ext.example.com/v1/things": {"get": {"responses": {"200": {"description": "OK",
            "schema": {"$ref": "#/definitions/com.example.Thing"}}}}},
        "/version/": {"get": {"responses": {"200": {"description": "OK"}}}}},
        "definitions": {"com.example.Thing": {"type": "object", "description": "A thing.",
                "properties": {"metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}}},
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"type": "object", "description": "Older."},
            "com.example.Unused": {"type": "object"}}})
}

/// What came, as JSON.
fn echo(request: Request<Incoming>) -> Response<Body> {
    let headers: &HeaderMap = request.headers();
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect()
    };
    let names: Vec<String> = headers.keys().map(|n| n.to_string()).collect();
    document(&json!({"method": request.method().as_str(), "uri": request.uri().to_string(), "names": names,
        "user": all("x-remote-user"), "groups": all("x-remote-group"), "authorization": all("authorization")}))
}

/// Switches protocols and sends back, doubled, what comes.
fn switch(mut request: Request<Incoming>) -> Response<Body> {
    let user = request.headers().get("x-remote-user").cloned();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(io) = upgrade.await else { return };
        let mut io = TokioIo::new(io);
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = io.read(&mut buffer).await {
            let doubled = [&buffer[..n], &buffer[..n]].concat();
            if io.write_all(&doubled).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "doubling");
    if let Some(user) = user {
        response = response.header("x-seen-user", user);
    }
    response.body(Full::default().boxed_unsync()).expect("response")
}
