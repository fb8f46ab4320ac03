//! Static files beside the API.

use super::plain;
use http::{Response, StatusCode, header};
use kube::client::Body;
use std::path::{Component, Path};

/// A file of the static directory; its `index.html` for a directory.
pub fn static_file(root: &Path, name: &str) -> Response<Body> {
    let inside =
        Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let mut path = root.join(name);
    if path.is_dir() {
        path.push("index.html");
    }
    let data = if inside { std::fs::read(&path).ok() } else { None };
    let Some(data) = data else { return plain(StatusCode::NOT_FOUND, "404 page not found\n") };
    let mut response = Response::new(Body::from(data));
    let kind = header::HeaderValue::from_static(media_type(&path));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn media_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
