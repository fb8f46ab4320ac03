//! /healthz: is the kubelet's loop turning?

use crate::context::Context;
use daemon::serving::{Body, Handler, Serving, text};
use http::{Response, StatusCode};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const CHECKS: [&str; 3] = ["ping", "log", "syncloop"];
/// The sync loop is called stuck after twice the resync period, at least this.
const MIN_LATENCY: Duration = Duration::from_secs(120);

/// Serves the plain health port (127.0.0.1:10248) until cancelled; 0 turns it off.
pub async fn run(ctx: Arc<Context>) -> anyhow::Result<()> {
    let config = &ctx.config.file;
    if config.healthz_port <= 0 {
        ctx.cancel.cancelled().await;
        return Ok(());
    }
    let ip: IpAddr = config.healthz_bind_address.parse()?;
    let addr = SocketAddr::new(ip, u16::try_from(config.healthz_port)?);
    let shared = ctx.clone();
    let handler: Handler = Arc::new(move |request, _| {
        let ctx = shared.clone();
        Box::pin(async move { plain(&ctx, request.uri()) })
    });
    Serving::new(addr, None).route("/", handler).run(ctx.cancel.clone()).await
}

fn plain(ctx: &Context, uri: &http::Uri) -> Response<Body> {
    let path = uri.path().trim_end_matches('/');
    match path.strip_prefix("/healthz") {
        Some("") => answer(ctx, None, &super::route::query(uri)),
        Some(check) if check.starts_with('/') => answer(ctx, check.strip_prefix('/'), &[]),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// The report, or one check of it.
pub fn answer(ctx: &Context, check: Option<&str>, query: &[(String, String)]) -> Response<Body> {
    let last = ctx.sync_loop_ns.load(Ordering::Relaxed);
    let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let loop_state = sync_loop(last, now, ctx.config.file.sync_frequency.0);
    match check {
        Some("ping" | "log") => text(StatusCode::OK, "ok"),
        Some("syncloop") => match loop_state {
            Ok(()) => text(StatusCode::OK, "ok"),
            Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
        },
        Some(_) => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        None => report(&loop_state, query.iter().any(|(n, _)| n == "verbose")),
    }
}

fn report(loop_state: &Result<(), String>, verbose: bool) -> Response<Body> {
    let bad = loop_state.is_err();
    if !bad && !verbose {
        return text(StatusCode::OK, "ok");
    }
    let line = |name: &str| match loop_state {
        Err(_) if name == "syncloop" => format!("[-]{name} failed: reason withheld\n"),
        _ => format!("[+]{name} ok\n"),
    };
    let lines: String = CHECKS.iter().map(|c| line(c)).collect();
    let (status, word) =
        if bad { (StatusCode::INTERNAL_SERVER_ERROR, "failed") } else { (StatusCode::OK, "passed") };
    text(status, format!("{lines}healthz check {word}\n"))
}

/// `last` and `now` in Unix nanoseconds; a loop that has not begun (0) is fine.
fn sync_loop(last: i64, now: i64, resync: Duration) -> Result<(), String> {
    let limit = (resync * 2).max(MIN_LATENCY);
    let age = Duration::from_nanos(u64::try_from(now.saturating_sub(last)).unwrap_or(0));
    if last > 0 && age > limit {
        return Err(format!("sync Loop took longer than expected: {age:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_loop_shows_after_two_periods() {
        let s = |n: i64| n * 1_000_000_000;
        let minute = Duration::from_secs(60);
        assert!(sync_loop(0, s(1000), minute).is_ok());
        assert!(sync_loop(s(1000), s(1119), minute).is_ok());
        assert!(sync_loop(s(1000), s(1121), minute).is_err());
        assert!(sync_loop(s(1000), s(1121), minute * 2).is_ok());
        assert_eq!(report(&Ok(()), true).status(), 200);
        assert_eq!(report(&Err("x".into()), false).status(), 500);
    }
}
