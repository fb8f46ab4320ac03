//! Compression of big answers, for those who ask for it.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body as HttpBody, Frame};

use crate::http::{Body, BoxError, Response};

/// Answers shorter than this go out as they are.
const WORTHWHILE: u64 = 128 * 1024;

/// Whether the caller takes gzip.
pub fn wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("");
    accepted.split(',').any(|e| e.split(';').next().unwrap_or("").trim() == "gzip")
}

/// Compresses a response of known size if it is worthwhile.
pub fn compress(response: Response) -> Response {
    let size = response.body().size_hint().exact().unwrap_or(0);
    if size < WORTHWHILE || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    parts.headers.remove(header::CONTENT_LENGTH);
    let encoder = GzEncoder::new(Vec::with_capacity(32 * 1024), Compression::fast());
    http::Response::from_parts(parts, Body::stream(Gzip { inner: body, encoder: Some(encoder) }))
}

struct Gzip {
    inner: Body,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl HttpBody for Gzip {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let Some(mut encoder) = self.encoder.take() else { return Poll::Ready(None) };
            let polled = Pin::new(&mut self.inner).poll_frame(cx);
            let frame = match polled {
                Poll::Pending => {
                    self.encoder = Some(encoder);
                    return Poll::Pending;
                }
                Poll::Ready(frame) => frame,
            };
            match frame {
                None => {
                    return Poll::Ready(Some(
                        encoder.finish().map(|rest| Frame::data(rest.into())).map_err(Into::into),
                    ));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref()
                        && let Err(error) = encoder.write_all(data)
                    {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    let out = std::mem::take(encoder.get_mut());
                    self.encoder = Some(encoder);
                    if !out.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(out.into()))));
                    }
                }
            }
        }
    }
}
