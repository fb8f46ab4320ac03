//! log, exec, attach, portforward and proxy: what the server hands on to kubelets, pods and services.

use machinery::status::Status;

use crate::http::{self, Request, Response};
use crate::request::Ctx;

/// Whether requests for this subresource (of pods, services or nodes) are handed on.
pub fn handles(resource: &str, subresource: &str) -> bool {
    match resource {
        "pods" => matches!(subresource, "log" | "exec" | "attach" | "portforward" | "proxy"),
        "services" | "nodes" => subresource == "proxy",
        _ => false,
    }
}

/// Serves one such request. Authentication and authorisation are done; admission (CONNECT) is the caller's.
pub async fn connect(ctx: Ctx, _request: Request) -> Response {
    http::status(&Status::method_not_supported("", &ctx.info.resource_path(), &ctx.info.verb))
}
