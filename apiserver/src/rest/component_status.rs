//! componentstatuses: how the parts of a control plane on this machine are, asked when somebody asks. Deprecated, and
//! still typed every day.

use std::time::Duration;

use http::{HeaderMap, Request as HttpRequest, StatusCode};
use http_body_util::BodyExt;
use machinery::status::Status;
use serde_json::{Value, json};

use super::list::Page;
use super::negotiate::Format;
use super::params::{ListParams, Query};
use super::{Target, encode};
use crate::http::{Response, request_body};
use crate::proxy::transport::{self, Trust};
use crate::request::Ctx;

/// How long a component may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Components with a health port on the loopback, as upstream expects them.
const DAEMONS: [(&str, u16); 2] = [("scheduler", 10259), ("controller-manager", 10257)];

/// Serves get and list; None for anything else, or another kind.
pub async fn serve(
    ctx: &Ctx,
    target: &Target,
    query: &Query,
    headers: &HeaderMap,
) -> Option<Result<Response, Status>> {
    if !target.resource.group.is_empty() || target.resource.plural != "componentstatuses" {
        return None;
    }
    match ctx.info.verb.as_str() {
        "get" => Some(get(ctx, target, query, headers).await),
        "list" => Some(list(ctx, target, query, headers).await),
        _ => None,
    }
}

async fn get(ctx: &Ctx, target: &Target, query: &Query, headers: &HeaderMap) -> Result<Response, Status> {
    let format = Format::from_headers(headers, query, true)?;
    let mut all = all(ctx).await.into_iter();
    let found = all.find(|s| machinery::meta::name(s) == target.name).ok_or_else(|| target.not_found())?;
    encode::object_value(target, &format, StatusCode::OK, found)
}

async fn list(ctx: &Ctx, target: &Target, query: &Query, headers: &HeaderMap) -> Result<Response, Status> {
    let format = Format::from_headers(headers, query, true)?;
    let selectors = ListParams::from_query(query)?;
    let mut items = all(ctx).await;
    items.retain(|s| {
        let name = machinery::meta::name(s);
        selectors.labels.matches(&std::collections::BTreeMap::new())
            && selectors
                .fields
                .terms
                .iter()
                .all(|t| t.field == "metadata.name" && (t.value == name) != t.negated)
    });
    let page = Page { entries: Vec::new(), revision: 0, continue_: String::new(), remaining: None };
    encode::list_values(target, &format, &page, items)
}

async fn all(ctx: &Ctx) -> Vec<Value> {
    let [scheduler, manager] = DAEMONS;
    let (scheduler, manager, etcd) = tokio::join!(daemon(ctx, scheduler), daemon(ctx, manager), etcd(ctx));
    vec![scheduler, manager, etcd]
}

async fn etcd(ctx: &Ctx) -> Value {
    let asked = tokio::time::timeout(DEADLINE, ctx.app.storage.revision()).await;
    status_of(
        "etcd-0",
        match asked {
            Ok(Ok(_)) => Ok("ok".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        },
    )
}

async fn daemon(ctx: &Ctx, (name, port): (&str, u16)) -> Value {
    let url = format!("https://127.0.0.1:{port}/healthz");
    let answer = tokio::time::timeout(DEADLINE, ask(ctx, &url)).await;
    status_of(
        name,
        answer
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
            .map_err(|why| format!("Get {url:?}: {why}")),
    )
}

/// The text of a healthy component, or why it is none.
async fn ask(ctx: &Ctx, url: &str) -> Result<String, String> {
    let request = HttpRequest::get(url).body(request_body("")).map_err(|e| e.to_string())?;
    let transports = transport::of(&ctx.app.config).map_err(|status| status.message)?;
    let response = transports.client(Trust::Anyone).request(request).await.map_err(|e| deepest(&e))?;
    let code = response.status();
    let body = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    let text = String::from_utf8_lossy(&body).trim().to_owned();
    if code.is_success() { Ok(text) } else { Err(format!("{code}: {text}")) }
}

/// What lies at the bottom of an error, which says most: `Connection refused`.
fn deepest(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => deepest(source),
        None => error.to_string(),
    }
}

fn status_of(name: &str, outcome: Result<String, String>) -> Value {
    let (healthy, message) = match outcome {
        Ok(text) => ("True", text),
        Err(why) => ("False", why),
    };
    json!({"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name},
        "conditions": [{"type": "Healthy", "status": healthy, "message": message}]})
}
