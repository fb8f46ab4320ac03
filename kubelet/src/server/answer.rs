//! From a route to its answer.

use super::route::{self, Route};
use super::{Server, health, logs, metrics, pods, streams, syslogs};
use daemon::serving::{Body, full, text};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::sync::Arc;

/// Answers a request whose caller is allowed.
pub async fn dispatch(server: Arc<Server>, route: Route, request: Request<Incoming>) -> Response<Body> {
    let query = route::query(request.uri());
    match route {
        Route::Healthz(check) => health::answer(&server.ctx, check.as_deref(), &query),
        Route::Pods => json(&pods::pod_list(&server.ctx)),
        Route::RunningPods => pods::running(&server.ctx).await,
        Route::ContainerLogs(target) => pods::container_logs(&server.ctx, &target, &query).await,
        Route::Exec(target) => streams::exec(&server.ctx, &target, &query, request).await,
        Route::Attach(target) => streams::attach(&server.ctx, &target, &query, request).await,
        Route::PortForward(target) => streams::port_forward(&server.ctx, &target, &query, request).await,
        Route::Run(target) => streams::run(&server.ctx, &target, &query).await,
        Route::Summary => summary(&server, &query).await,
        Route::Metrics => metrics::own(&server.ctx),
        Route::MetricsResource => metrics::resource(&server).await,
        Route::MetricsProbes => metrics::probes(&server.ctx),
        Route::MetricsCadvisor => metrics::cadvisor(&server).await,
        Route::MetricsSlis => metrics::slis(&server.ctx),
        Route::Configz => json(&serde_json::json!({ "kubeletconfig": server.ctx.config.file })),
        Route::Logs(path) => syslogs::answer(std::path::Path::new("/var/log"), &path).await,
        Route::Disabled(why) => text(StatusCode::METHOD_NOT_ALLOWED, format!("{why}\n")),
        Route::MethodNotAllowed => text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed\n"),
        Route::NotFound => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

async fn summary(server: &Server, query: &[(String, String)]) -> Response<Body> {
    let light = logs::options::flag(query, "only_cpu_and_memory");
    match server.stats.summary(&server.ctx, light).await {
        Ok(summary) => json(&summary),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// A JSON answer.
pub fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(full(bytes));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
