//! /healthz, /livez, /readyz and their single checks.

use std::fmt::Write as _;

use http::StatusCode;

use crate::app::App;
use crate::http::{self as web, Response};
use crate::rest::Query;

/// Answers a health path; None for other paths.
pub fn handle(app: &App, path: &str, query: &Query) -> Option<Response> {
    let mut parts = path.strip_prefix('/')?.splitn(2, '/');
    let endpoint = parts.next().filter(|e| matches!(*e, "healthz" | "livez" | "readyz"))?;
    let checks = app.health.report(endpoint);
    Some(match parts.next() {
        None => all(endpoint, checks, query),
        Some(name) => match checks.into_iter().find(|(n, _)| n == name) {
            None => web::text(StatusCode::NOT_FOUND, "404 page not found\n"),
            Some((_, Ok(()))) => web::text(StatusCode::OK, "ok"),
            Some((_, Err(why))) => {
                web::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n"))
            }
        },
    })
}

fn all(endpoint: &str, checks: Vec<(String, Result<(), String>)>, query: &Query) -> Response {
    let excluded = query.all("exclude");
    let (mut lines, mut failed) = (String::new(), false);
    let mut unknown = excluded.clone();
    for (name, state) in checks {
        if excluded.contains(&name.as_str()) {
            unknown.retain(|u| *u != name);
            let _ = writeln!(lines, "[+]{name} excluded: ok");
            continue;
        }
        match state {
            Ok(()) => {
                let _ = writeln!(lines, "[+]{name} ok");
            }
            Err(why) => {
                tracing::debug!(check = name, why, "{endpoint} check failed");
                failed = true;
                let _ = writeln!(lines, "[-]{name} failed: reason withheld");
            }
        }
    }
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|u| format!("{u:?}")).collect();
        let _ = writeln!(
            lines,
            "warn: some health checks cannot be excluded: no matches for {}",
            names.join(",")
        );
    }
    if failed {
        return web::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n"));
    }
    if query.has("verbose") {
        return web::text(StatusCode::OK, format!("{lines}{endpoint} check passed\n"));
    }
    web::text(StatusCode::OK, "ok")
}
