//! Requests to the server: one way to send, and the usual verbs on top of it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{AsyncBufRead, TryStreamExt};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Bytes;
use kube::client::Body;
use serde_json::Value;

use crate::kind::escape_query;
use crate::{Discovery, Error, Kind, Result, Status};

/// A page of a list, as kubectl asks for it.
pub const PAGE: u32 = 500;
/// The order a Table is asked for in.
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
/// How often a server that says when to come again is asked again.
const RETRIES: usize = 10;
const LONGEST_WAIT: u64 = 10;

/// A server, who we are there, and which namespace is meant.
#[derive(Clone)]
pub struct Cluster {
    pub client: kube::Client,
    /// The flag's namespace, else the context's, else `default`.
    pub namespace: String,
    /// Whether `-n` named it.
    pub namespace_given: bool,
    /// The server's address without a slash at the end.
    pub server: String,
    /// `--request-timeout`.
    pub deadline: Option<Duration>,
    pub warnings_as_errors: bool,
    pub(crate) cache_dir: Option<PathBuf>,
    pub(crate) discovered: Arc<tokio::sync::Mutex<Option<Arc<Discovery>>>>,
    pub(crate) warned: Arc<Mutex<Vec<String>>>,
}

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Call {
    pub method: Method,
    /// The path, already escaped; it may hold a query of its own.
    pub path: String,
    pub query: Vec<(String, String)>,
    pub accept: Option<String>,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

impl Call {
    pub fn new(method: Method, path: impl Into<String>) -> Call {
        Call { method, path: path.into(), ..Call::default() }
    }

    pub fn get(path: impl Into<String>) -> Call {
        Call::new(Method::GET, path)
    }

    pub fn query(mut self, key: &str, value: impl Into<String>) -> Call {
        self.query.push((key.into(), value.into()));
        self
    }

    /// Adds the parameter when there is a value.
    pub fn query_some(self, key: &str, value: Option<impl Into<String>>) -> Call {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    pub fn accept(mut self, accept: impl Into<String>) -> Call {
        self.accept = Some(accept.into());
        self
    }

    /// A body with its content type.
    pub fn body(mut self, content_type: impl Into<String>, body: Vec<u8>) -> Call {
        self.content_type = Some(content_type.into());
        self.body = body;
        self
    }

    /// A JSON body.
    pub fn json(self, value: &Value) -> Call {
        self.body("application/json", value.to_string().into_bytes())
    }

    /// Path and query as they are sent.
    pub fn uri(&self) -> String {
        let mut uri = self.path.clone();
        for (key, value) in &self.query {
            uri.push(if uri.contains('?') { '&' } else { '?' });
            uri.push_str(&format!("{}={}", escape_query(key), escape_query(value)));
        }
        uri
    }
}

/// A successful answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .map_err(|cause| Error::message(format!("the server's answer isn't JSON: {cause}")))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What a list is narrowed by, and how it is asked for.
#[derive(Clone, Debug)]
pub struct ListOptions {
    pub labels: Option<String>,
    pub fields: Option<String>,
    /// Page size; 0 asks for all at once.
    pub limit: u32,
    pub accept: Option<String>,
    /// More parameters, such as `includeObject=Object`.
    pub extra: Vec<(String, String)>,
}

impl Default for ListOptions {
    fn default() -> ListOptions {
        ListOptions { labels: None, fields: None, limit: PAGE, accept: None, extra: Vec::new() }
    }
}

/// Parameters of a writing request.
#[derive(Clone, Debug, Default)]
pub struct Write {
    pub field_manager: Option<String>,
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `Strict`, `Warn` or `Ignore`.
    pub field_validation: Option<String>,
    /// `force` of an apply patch.
    pub force: Option<bool>,
}

impl Write {
    fn onto(&self, call: Call) -> Call {
        call.query_some("dryRun", self.dry_run.then_some("All"))
            .query_some("fieldManager", self.field_manager.clone())
            .query_some("fieldValidation", self.field_validation.clone())
            .query_some("force", self.force.map(|force| force.to_string()))
    }
}

/// The kinds of patch, by content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchType {
    pub fn content_type(self) -> &'static str {
        match self {
            PatchType::Json => "application/json-patch+json",
            PatchType::Merge => "application/merge-patch+json",
            PatchType::Strategic => "application/strategic-merge-patch+json",
            PatchType::Apply => "application/apply-patch+yaml",
        }
    }
}

impl Cluster {
    /// Sends a request and reads the whole answer. Anything but 2xx is [`Error::Api`].
    pub async fn send(&self, call: Call) -> Result<Answer> {
        let within = self.deadline;
        let work = async {
            let response = self.begin(&call).await?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|cause| self.unreachable(&cause))?.to_bytes();
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        let answer = match within {
            Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| timed_out(self, &call))??,
            None => work.await?,
        };
        check(&call, answer)
    }

    /// Sends a request whose answer is read as it comes: logs, watches. The deadline holds for its start.
    pub async fn stream(&self, call: Call) -> Result<impl AsyncBufRead + Send + Unpin + use<>> {
        let begin = self.begin(&call);
        let response = match self.deadline {
            Some(limit) => tokio::time::timeout(limit, begin).await.map_err(|_| timed_out(self, &call))??,
            None => begin.await?,
        };
        if !response.status().is_success() {
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|cause| self.unreachable(&cause))?.to_bytes();
            check(&call, Answer { status: parts.status, headers: parts.headers, body })?;
            return Err(Error::message("unexpected answer"));
        }
        let frames = response.into_body().into_data_stream().map_err(std::io::Error::other);
        Ok(Box::pin(frames).into_async_read())
    }

    /// The response's head, after the retries the server asked for; warnings are printed.
    async fn begin(&self, call: &Call) -> Result<Response<Body>> {
        let mut left = RETRIES;
        loop {
            let response =
                self.client.send(self.request(call)?).await.map_err(|cause| self.unreachable(&cause))?;
            self.warn(response.headers());
            match retry_after(&response).filter(|_| left > 0) {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds.min(LONGEST_WAIT))).await,
                None => return Ok(response),
            }
            left -= 1;
        }
    }

    fn request(&self, call: &Call) -> Result<Request<Body>> {
        let timed = match self.deadline.filter(|_| !call.query.iter().any(|(key, _)| key == "timeout")) {
            Some(limit) => call.clone().query("timeout", go_seconds(limit)),
            None => call.clone(),
        };
        let mut request = Request::builder().method(call.method.clone()).uri(timed.uri());
        request = request.header(header::ACCEPT, call.accept.as_deref().unwrap_or("application/json"));
        if let Some(content_type) = &call.content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        request.body(Body::from(timed.body)).map_err(|cause| Error::message(cause.to_string()))
    }

    /// Prints each warning of the server once.
    fn warn(&self, headers: &HeaderMap) {
        let Ok(mut seen) = self.warned.lock() else { return };
        for value in headers.get_all(header::WARNING) {
            let text = value.to_str().map(warning_text).unwrap_or_default();
            if !text.is_empty() && !seen.contains(&text) {
                crate::out::note(&format!("Warning: {text}"));
                seen.push(text);
            }
        }
    }

    /// How many different warnings the server gave; `--warnings-as-errors` makes them fail the verb.
    pub fn warnings(&self) -> usize {
        self.warned.lock().map(|seen| seen.len()).unwrap_or_default()
    }

    fn unreachable(&self, cause: &dyn std::error::Error) -> Error {
        crate::connect_error(&self.server, cause)
    }

    /// One object or subresource.
    pub async fn get(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
    ) -> Result<Value> {
        self.send(Call::get(kind.path(namespace, Some(name), subresource))).await?.json()
    }

    /// One object, or none where there is none.
    pub async fn find(&self, kind: &Kind, namespace: Option<&str>, name: &str) -> Result<Option<Value>> {
        match self.get(kind, namespace, name, None).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All pages of a list as one List object; `namespace` None means all of them.
    pub async fn list(&self, kind: &Kind, namespace: Option<&str>, options: &ListOptions) -> Result<Value> {
        let path = kind.path(namespace, None, None);
        let mut whole: Option<Value> = None;
        let mut next: Option<String> = None;
        loop {
            let mut page = self.send(list_call(&path, options, next.as_deref())).await?.json()?;
            let rest =
                page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()).map(str::to_string);
            match &mut whole {
                None => whole = Some(page),
                Some(whole) => extend(whole, &mut page),
            }
            match rest {
                Some(token) => next = Some(token),
                None => return Ok(cleaned(whole.unwrap_or_default())),
            }
        }
    }

    /// The items of a list, each with the `apiVersion` and `kind` the server leaves out.
    pub async fn items(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<Vec<Value>> {
        let mut list = self.list(kind, namespace, options).await?;
        Ok(take_items(&mut list, kind))
    }

    pub async fn create(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        object: &Value,
        write: &Write,
    ) -> Result<Value> {
        let call = Call::new(Method::POST, kind.path(namespace, None, None)).json(object);
        self.send(write.onto(call)).await?.json()
    }

    /// Creates through a subresource of an object: eviction, token, binding.
    pub async fn create_sub(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        object: &Value,
        write: &Write,
    ) -> Result<Value> {
        let call = Call::new(Method::POST, kind.path(namespace, Some(name), Some(subresource))).json(object);
        self.send(write.onto(call)).await?.json()
    }

    pub async fn update(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        object: &Value,
        write: &Write,
    ) -> Result<Value> {
        let call = Call::new(Method::PUT, kind.path(namespace, Some(name), subresource)).json(object);
        self.send(write.onto(call)).await?.json()
    }

    pub async fn patch(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        how: PatchType,
        patch: &Value,
        write: &Write,
    ) -> Result<Value> {
        let body = patch.to_string().into_bytes();
        let call = Call::new(Method::PATCH, kind.path(namespace, Some(name), subresource))
            .body(how.content_type(), body);
        self.send(write.onto(call)).await?.json()
    }

    /// Deletes with the given DeleteOptions (without kind and apiVersion, as kubectl sends them).
    pub async fn delete(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        options: &Value,
    ) -> Result<Value> {
        self.send(Call::new(Method::DELETE, kind.path(namespace, Some(name), None)).json(options))
            .await?
            .json()
    }
}

fn list_call(path: &str, options: &ListOptions, next: Option<&str>) -> Call {
    let mut call = Call::get(path)
        .query_some("continue", next)
        .query_some("fieldSelector", options.fields.clone().filter(|text| !text.is_empty()))
        .query_some("labelSelector", options.labels.clone().filter(|text| !text.is_empty()))
        .query_some("limit", (options.limit > 0).then(|| options.limit.to_string()));
    call.query.extend(options.extra.iter().cloned());
    call.accept = options.accept.clone();
    call
}

/// Takes a list's items out, filling in what kind they are.
pub fn take_items(list: &mut Value, kind: &Kind) -> Vec<Value> {
    let items = list.get_mut("items").map(Value::take).unwrap_or_default();
    let Value::Array(mut items) = items else { return Vec::new() };
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.entry("apiVersion").or_insert_with(|| kind.api_version().into());
        item.entry("kind").or_insert_with(|| kind.kind.clone().into());
    }
    items
}

fn extend(whole: &mut Value, page: &mut Value) {
    for key in ["items", "rows"] {
        let Some(Value::Array(more)) = page.get_mut(key).map(Value::take) else { continue };
        if let Some(Value::Array(all)) = whole.get_mut(key) {
            all.extend(more);
        }
    }
    whole["metadata"]["resourceVersion"] = page["metadata"]["resourceVersion"].clone();
}

/// A list put together from pages has nothing left to continue with.
fn cleaned(mut list: Value) -> Value {
    if let Some(metadata) = list.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("continue");
        metadata.remove("remainingItemCount");
    }
    list
}

fn check(call: &Call, answer: Answer) -> Result<Answer> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    let code = answer.status.as_u16();
    let parsed: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let status = parsed
        .as_ref()
        .and_then(Status::read)
        .unwrap_or_else(|| Status::generic(code, call.method.as_str(), &answer.text()));
    Err(Error::Api(Box::new(status)))
}

fn retry_after(response: &Response<Body>) -> Option<u64> {
    let code = response.status();
    if code != StatusCode::TOO_MANY_REQUESTS && !code.is_server_error() {
        return None;
    }
    response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

fn timed_out(cluster: &Cluster, call: &Call) -> Error {
    let verb = call.method.as_str();
    let verb = format!("{}{}", &verb[..1], verb[1..].to_lowercase());
    Error::Unreachable(format!(
        "Unable to connect to the server: {verb} \"{}{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
        cluster.server,
        call.uri()
    ))
}

/// `5s`, `1m0s` are both understood by servers; seconds are enough.
fn go_seconds(limit: Duration) -> String {
    if limit.subsec_millis() == 0 {
        format!("{}s", limit.as_secs())
    } else {
        format!("{}ms", limit.as_millis())
    }
}

/// The text of a `Warning: 299 - "text"` header.
fn warning_text(header: &str) -> String {
    let inner = header.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).map(|(text, _)| text);
    inner.unwrap_or(header).replace("\\\"", "\"").replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped_and_appended() {
        let call =
            Call::get("/api/v1/pods").query("labelSelector", "a=b,c in (d)").query_some("x", None::<String>);
        assert_eq!(call.uri(), "/api/v1/pods?labelSelector=a%3Db%2Cc+in+%28d%29");
        assert_eq!(Call::get("/a?b=c").query("d", "e").uri(), "/a?b=c&d=e");
    }

    #[test]
    fn warnings_lose_their_wrapping() {
        assert_eq!(
            warning_text("299 - \"v1 \\\"Endpoints\\\" is deprecated\""),
            "v1 \"Endpoints\" is deprecated"
        );
    }
}
