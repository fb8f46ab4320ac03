//! /logs/: the node's own log files under /var/log, read only.

use daemon::serving::{Body, full, text};
use futures::StreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::path::{Path, PathBuf};
use tokio_util::io::ReaderStream;

/// A directory as a list of links, a file as its bytes.
pub async fn answer(root: &Path, relative: &str) -> Response<Body> {
    let Some(path) = resolve(root, relative).await else {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    let read = match tokio::fs::metadata(&path).await {
        Ok(meta) if meta.is_dir() => listing(&path).await,
        Ok(meta) if meta.is_file() => file(&path).await,
        Ok(_) => return text(StatusCode::FORBIDDEN, "not a regular file\n"),
        Err(error) => Err(error),
    };
    read.unwrap_or_else(|error| text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))
}

/// The real path, if it is under the root, links and dots followed.
async fn resolve(root: &Path, relative: &str) -> Option<PathBuf> {
    let root = tokio::fs::canonicalize(root).await.ok()?;
    let path = tokio::fs::canonicalize(root.join(relative.trim_start_matches('/'))).await.ok()?;
    path.starts_with(&root).then_some(path)
}

async fn listing(path: &Path) -> std::io::Result<Response<Body>> {
    let mut names = Vec::new();
    let mut dir = tokio::fs::read_dir(path).await?;
    while let Some(entry) = dir.next_entry().await? {
        let slash = if entry.file_type().await?.is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    let links: String = names.iter().map(|n| format!("<a href=\"{0}\">{0}</a>\n", escape(n))).collect();
    let mut response = Response::new(full(format!("<pre>\n{links}</pre>\n")));
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn escape(name: &str) -> String {
    name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;")
}

async fn file(path: &Path) -> std::io::Result<Response<Body>> {
    let file = tokio::fs::File::open(path).await?;
    let frames = ReaderStream::new(file).map(|chunk| chunk.map(Frame::data));
    let body = StreamBody::new(frames).map_err(Into::into).boxed_unsync();
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stays_under_its_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/a"), "text").unwrap();
        std::fs::write(dir.path().join("secret"), "no").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), root.join("link")).unwrap();
        for (path, want) in [("", 200), ("sub/a", 200), ("../secret", 404), ("link", 404), ("none", 404)] {
            assert_eq!(answer(&root, path).await.status(), want, "{path}");
        }
        let body = answer(&root, "sub/a").await.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "text");
    }
}
