//! Requests to the server: one way to send, and the usual verbs on top of it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{AsyncBufRead, TryStreamExt};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

pub use crate::call::{Answer, Call, ListOptions, PatchType, Write};
pub use crate::verbs::take_items;
use crate::{Discovery, Error, Result, Status};

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
        // A refused eviction is the caller's to tell about and to repeat.
        let mut left = if call.path.ends_with("/eviction") { 0 } else { RETRIES };
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
    fn warnings_lose_their_wrapping() {
        assert_eq!(
            warning_text("299 - \"v1 \\\"Endpoints\\\" is deprecated\""),
            "v1 \"Endpoints\" is deprecated"
        );
    }
}
