//! Static files beside the API.

use super::{plain, redirect};
use http::{HeaderValue, Response, StatusCode, header};
use kube::client::Body;
use std::path::{Component, Path};

/// How much of a file is looked at to tell text from other data.
const SAMPLE: usize = 512;

/// A file of the static directory; for a directory its `index.html`, or else what is in it.
pub fn static_file(root: &Path, name: &str) -> Response<Body> {
    let inside =
        Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside && !name.is_empty() {
        return plain(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    let mut path = root.join(name);
    if path.is_dir() {
        if let Some(last) = name.rsplit('/').next().filter(|last| !last.is_empty()) {
            return redirect(&format!("{last}/"));
        }
        if !path.join("index.html").is_file() {
            return answer(listing(&path).into_bytes(), "text/html; charset=utf-8");
        }
        path.push("index.html");
    }
    match std::fs::read(&path) {
        Ok(data) => {
            let kind = media_type(&path, &data);
            answer(data, kind)
        }
        Err(_) => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn answer(data: Vec<u8>, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(data));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// What is in a directory, as links.
fn listing(path: &Path) -> String {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let named = entries.map(|entry| {
        let ending = if entry.path().is_dir() { "/" } else { "" };
        format!("{}{ending}", entry.file_name().to_string_lossy())
    });
    let mut names: Vec<String> = named.collect();
    names.sort();
    let link = |name: &String| format!("<a href=\"{}\">{}</a>\n", escaped_path(name), escaped(name));
    let links: String = names.iter().map(link).collect();
    format!(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n{links}</pre>\n"
    )
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&#34;").replace('\'', "&#39;")
}

fn escaped_path(name: &str) -> String {
    let whole = coxctl_kit::kind::escape(name.trim_end_matches('/'));
    if name.ends_with('/') { whole + "/" } else { whole }
}

/// The type a file's ending says, else whether it reads as text.
fn media_type(path: &Path, data: &[u8]) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "xml" => "text/xml; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "gif" => "image/gif",
        "jpg" | "jpeg" => "image/jpeg",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        _ if is_text(data) => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn is_text(data: &[u8]) -> bool {
    let sample = &data[..data.len().min(SAMPLE)];
    !sample.iter().any(|byte| matches!(byte, 0..=8 | 11 | 14..=26 | 28..=31))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_served_from_inside_only() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("a.yaml"), "a: b").expect("written");
        std::fs::write(dir.path().join("b"), [0, 1, 2]).expect("written");
        std::fs::create_dir(dir.path().join("sub")).expect("made");
        let table = [
            ("a.yaml", 200, "text/plain; charset=utf-8"),
            ("b", 200, "application/octet-stream"),
            ("", 200, "text/html; charset=utf-8"),
            ("sub", 301, ""),
            ("sub/", 200, "text/html; charset=utf-8"),
            ("../etc/passwd", 404, "text/plain; charset=utf-8"),
            ("nope", 404, "text/plain; charset=utf-8"),
        ];
        for (name, code, kind) in table {
            let response = static_file(dir.path(), name);
            let said = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            assert_eq!((response.status().as_u16(), said.unwrap_or_default()), (code, kind), "{name}");
        }
        assert!(listing(dir.path()).contains("<a href=\"sub/\">sub/</a>"));
    }
}
