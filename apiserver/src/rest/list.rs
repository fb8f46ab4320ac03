//! get and list, from the cache.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use machinery::status::Status;
use serde_json::{Value, json};

use super::current::{entry_of, store_error};
use super::negotiate::{Encoding, Format, View};
use super::params::{ListParams, Match, Query, version};
use super::{Target, convert, encode};
use crate::cache::collection::in_namespace;
use crate::cache::{Entry, Filter};
use crate::http::{Body, BoxError, Response};
use crate::request::Ctx;
use crate::storage::{Error, prefix_end};

/// A list goes out in pieces of about this size.
const PIECE: usize = 64 * 1024;

/// Serves a get.
pub async fn get(ctx: &Ctx, target: &Target, query: &Query, headers: &HeaderMap) -> Result<Response, Status> {
    let format = Format::from_headers(headers, query, true)?;
    let entry = read(ctx, target, version(query.get("resourceVersion"), true)?).await?;
    if format.view == View::Table {
        let object = encode::entry_value(target, &entry)?;
        let meta = json!({"resourceVersion": entry.rv.to_string()});
        let table = encode::table(target, &format, query.get("includeObject"), &[object], meta);
        return encode::value(target, &format, StatusCode::OK, table);
    }
    encode::entry(target, &format, StatusCode::OK, &entry)
}

/// An object from the cache, as new as asked for (None: as new as the store).
pub async fn read(ctx: &Ctx, target: &Target, at_least: Option<u64>) -> Result<Arc<Entry>, Status> {
    let collection = target.stored()?;
    freshen(ctx, at_least).await?;
    collection.get(&target.namespace, &target.name).ok_or_else(|| target.not_found())
}

/// Waits until the cache is as new as asked for, and yields the revision it is known to have reached.
pub async fn freshen(ctx: &Ctx, at_least: Option<u64>) -> Result<u64, Status> {
    let cache = &ctx.app.cache;
    match at_least {
        None => return cache.consistent_revision().await,
        Some(0) if cache.is_synced() => {}
        Some(0) => return Err(Status::service_unavailable("the cache is not filled yet").with_retry(1)),
        Some(version) => cache.wait_for(version).await?,
    }
    Ok(cache.revision())
}

/// What a list found.
pub struct Page {
    /// The entries, in order.
    pub entries: Vec<Arc<Entry>>,
    /// resourceVersion of the list.
    pub revision: u64,
    /// Token to go on with, empty at the end.
    pub continue_: String,
    /// How many there are beyond this page, where known.
    pub remaining: Option<usize>,
}

impl Page {
    /// ListMeta.
    pub fn meta(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.revision.to_string()});
        if !self.continue_.is_empty() {
            meta["continue"] = self.continue_.as_str().into();
            if let Some(remaining) = self.remaining {
                meta["remainingItemCount"] = remaining.into();
            }
        }
        meta
    }
}

/// Serves a list.
pub async fn list(
    ctx: &Ctx,
    target: &Target,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response, Status> {
    let format = Format::from_headers(headers, query, true)?;
    let params = ListParams::from_query(query)?;
    let page = select(ctx, target, &params).await?;
    if format.is_plain() && !convert::is_foreign(target) {
        return Ok(stream(header_text(target, &page), page, None));
    }
    if format.is_plain_partial() && !convert::is_foreign(target) {
        return Ok(stream(partial_header(&page, &format), page, Some(encode::partial_frame(&format))));
    }
    if format.encoding == Encoding::Protobuf && format.view == View::Whole {
        return protobuf(target, &page);
    }
    let objects =
        page.entries.iter().map(|e| encode::entry_value(target, e)).collect::<Result<Vec<_>, _>>()?;
    if format.view == View::Table {
        let table = encode::table(target, &format, query.get("includeObject"), &objects, page.meta());
        return encode::value(target, &format, StatusCode::OK, table);
    }
    encode::list_values(target, &format, &page, objects)
}

/// Finds what a list is about.
pub async fn select(ctx: &Ctx, target: &Target, params: &ListParams) -> Result<Page, Status> {
    let collection = target.stored()?;
    let filter =
        Filter::new(&target.resource, collection, &target.namespace, params.labels.clone(), &params.fields)?;
    let token = Token::parse(params)?;
    match token.as_ref().map(|t| t.rv).or(exact(params)) {
        Some(revision) if revision >= 0 => {
            let revision = revision as u64;
            ctx.app.cache.wait_for(revision).await?;
            let (snapshot, last) = collection.snapshot_at();
            if last > revision {
                return from_store(ctx, target, params, &filter, revision, token).await;
            }
            let start = token.map(|t| t.start).unwrap_or_default();
            Ok(from_snapshot(&snapshot, params, &filter, revision, &start))
        }
        _ => {
            let version = if token.is_some() { None } else { params.version };
            let revision = freshen(ctx, version).await?;
            let (snapshot, last) = collection.snapshot_at();
            let start = token.map(|t| t.start).unwrap_or_default();
            Ok(from_snapshot(&snapshot, params, &filter, revision.max(last), &start))
        }
    }
}

fn exact(params: &ListParams) -> Option<i64> {
    (params.matching == Some(Match::Exact)).then_some(params.version).flatten().map(|v| v as i64)
}

fn from_snapshot(
    snapshot: &crate::cache::Snapshot,
    params: &ListParams,
    filter: &Filter,
    revision: u64,
    start: &str,
) -> Page {
    // A version of 0 is served whole: that is what informers of old expect.
    let limit = if params.version == Some(0) && start.is_empty() { 0 } else { params.limit };
    let mut page = Page { entries: Vec::new(), revision, continue_: String::new(), remaining: None };
    if let Some(name) =
        filter.name().filter(|_| !filter.namespace.is_empty() || !snapshot_is_namespaced(snapshot))
    {
        let key = crate::cache::collection::join_key(&filter.namespace, name);
        let found = snapshot.get(key.as_str()).filter(|e| filter.matches(e));
        page.entries.extend(found.cloned());
        return page;
    }
    let all =
        in_namespace(snapshot, &filter.namespace).skip_while(|(key, _)| !start.is_empty() && ***key < *start);
    let mut all = all.peekable();
    while let Some((key, entry)) = all.next() {
        if filter.is_plain() || filter.matches(entry) {
            page.entries.push(entry.clone());
        }
        if limit > 0 && page.entries.len() == limit {
            if all.peek().is_some() {
                page.continue_ = Token { rv: revision as i64, start: format!("{key}\0") }.encode();
                page.remaining = filter.is_plain().then(|| all.count());
            }
            break;
        }
    }
    page
}

fn snapshot_is_namespaced(snapshot: &crate::cache::Snapshot) -> bool {
    snapshot.get_min().is_some_and(|(key, _)| key.contains('/'))
}

/// A list at a revision that the cache has left behind.
async fn from_store(
    ctx: &Ctx,
    target: &Target,
    params: &ListParams,
    filter: &Filter,
    revision: u64,
    token: Option<Token>,
) -> Result<Page, Status> {
    let collection = target.stored()?;
    let prefix = match filter.namespace.as_str() {
        "" => collection.prefix.clone(),
        namespace => format!("{}{namespace}/", collection.prefix),
    };
    let end = prefix_end(&prefix);
    let mut from = token.as_ref().map_or(prefix, |t| format!("{}{}", collection.prefix, t.start));
    let mut page = Page { entries: Vec::new(), revision, continue_: String::new(), remaining: None };
    loop {
        let part = ctx.app.storage.list(&from, &end, params.limit as u64, Some(revision)).await;
        let part = part.map_err(|e| list_error(target, &e, token.as_ref()))?;
        let (asked, got) = (params.limit, part.kvs.len());
        let mut left = part.count as usize;
        for kv in part.kvs {
            from = format!("{}\0", kv.key);
            left -= 1;
            let entry = Arc::new(entry_of(target, &kv)?);
            if filter.matches(&entry) {
                page.entries.push(entry);
            }
            if asked > 0 && page.entries.len() == asked {
                break;
            }
        }
        let full = asked > 0 && page.entries.len() == asked;
        if full && left > 0 {
            let start = from.strip_prefix(&collection.prefix).unwrap_or_default().to_owned();
            page.continue_ = Token { rv: revision as i64, start }.encode();
            page.remaining = filter.is_plain().then_some(left);
        }
        if full || !part.more || got == 0 {
            return Ok(page);
        }
    }
}

fn list_error(target: &Target, error: &Error, token: Option<&Token>) -> Status {
    let Error::Compacted(_) = error else { return store_error(target, "list", error) };
    let Some(token) = token else {
        return Status::expired("The resourceVersion for the provided list is too old.");
    };
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.metadata.continue_ = Token { rv: -1, start: token.start.clone() }.encode();
    status
}

/// Where a paged list goes on; the same token as upstream's.
#[derive(Debug, PartialEq)]
struct Token {
    rv: i64,
    start: String,
}

impl Token {
    fn parse(params: &ListParams) -> Result<Option<Self>, Status> {
        if params.continue_.is_empty() {
            return Ok(None);
        }
        if params.version.is_some_and(|v| v > 0) {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let bad = || Status::bad_request("continue key is not valid: illegal base64 data or encoding");
        let text = params.continue_.as_bytes();
        let bytes = URL_SAFE_NO_PAD.decode(text).or_else(|_| URL_SAFE.decode(text)).map_err(|_| bad())?;
        let token: Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        if token["v"] != "meta.k8s.io/v1" {
            return Err(Status::bad_request(
                "continue key is not valid: server does not recognize this encoded version",
            ));
        }
        let (rv, start) = (token["rv"].as_i64().unwrap_or(0), token["start"].as_str().unwrap_or_default());
        if rv == 0 || start.is_empty() || start.split('/').any(|part| part == "..") {
            return Err(bad());
        }
        Ok(Some(Self { rv, start: start.trim_start_matches('/').to_owned() }))
    }

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": self.rv, "start": self.start}).to_string())
    }
}

fn header_text(target: &Target, page: &Page) -> Vec<u8> {
    list_head(&target.resource.list_kind, &target.resource.api_version(), page)
}

fn partial_header(page: &Page, format: &Format) -> Vec<u8> {
    list_head("PartialObjectMetadataList", &format!("meta.k8s.io/{}", format.meta_version), page)
}

fn list_head(kind: &str, api_version: &str, page: &Page) -> Vec<u8> {
    let meta = page.meta();
    format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{meta},"items":["#).into_bytes()
}

/// What stands before and behind the metadata of each item; None when items go out whole.
type Around = Option<(String, &'static str)>;

/// The cached bytes of the entries, end to end.
fn stream(head: Vec<u8>, page: Page, around: Around) -> Response {
    let commas = page.entries.len().saturating_sub(1);
    let item = |e: &Arc<Entry>| match &around {
        Some((before, behind)) => before.len() + e.metadata_json().len() + behind.len(),
        None => e.json().len(),
    };
    let length = head.len() + page.entries.iter().map(item).sum::<usize>() + commas + TAIL.len();
    let list = ListBody {
        head: Some(head),
        entries: page.entries.into_iter(),
        around,
        first: true,
        tail: true,
        left: length as u64,
    };
    let body = if length <= PIECE { Body::full(list.whole()) } else { Body::stream(list) };
    let mut response = http::Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

const TAIL: &[u8] = b"]}\n";

struct ListBody {
    head: Option<Vec<u8>>,
    entries: std::vec::IntoIter<Arc<Entry>>,
    around: Around,
    first: bool,
    tail: bool,
    left: u64,
}

impl ListBody {
    fn next_piece(&mut self) -> Option<Bytes> {
        if !self.tail {
            return None;
        }
        let mut piece = BytesMut::with_capacity((PIECE + PIECE / 4).min(self.left as usize));
        if let Some(head) = self.head.take() {
            piece.put_slice(&head);
        }
        while piece.len() < PIECE {
            let Some(entry) = self.entries.next() else {
                piece.put_slice(TAIL);
                self.tail = false;
                break;
            };
            if !std::mem::replace(&mut self.first, false) {
                piece.put_u8(b',');
            }
            match &self.around {
                Some((before, behind)) => {
                    [before.as_bytes(), entry.metadata_json(), behind.as_bytes()]
                        .iter()
                        .for_each(|part| piece.put_slice(part));
                }
                None => piece.put_slice(entry.json()),
            }
        }
        self.left -= (piece.len() as u64).min(self.left);
        Some(piece.freeze())
    }

    fn whole(mut self) -> Bytes {
        let mut all = BytesMut::with_capacity(self.left as usize);
        while let Some(piece) = self.next_piece() {
            if !self.tail && all.is_empty() {
                return piece;
            }
            all.put_slice(&piece);
        }
        all.freeze()
    }
}

impl HttpBody for ListBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.next_piece().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        !self.tail
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The bare protobuf message of an entry, made once.
pub fn proto_message(target: &Target, entry: &Arc<Entry>) -> Result<Bytes, Status> {
    let make = || -> Result<Bytes, Status> {
        let object_type = target
            .resource
            .object_type
            .ok_or_else(|| Status::not_acceptable(&["application/json", "application/yaml"]))?;
        let value = encode::entry_value(target, entry)?;
        Ok(Bytes::from(codec::proto::encode_message(&value, object_type)))
    };
    if convert::is_foreign(target) {
        return make();
    }
    match entry.proto.get() {
        Some(message) => Ok(message.clone()),
        None => {
            let message = make()?;
            Ok(entry.proto.get_or_init(|| message).clone())
        }
    }
}

fn protobuf(target: &Target, page: &Page) -> Result<Response, Status> {
    let messages = page.entries.iter().map(|e| proto_message(target, e)).collect::<Result<Vec<_>, _>>()?;
    let body = codec::proto::encode_list(
        &page.meta(),
        &messages,
        &target.resource.api_version(),
        &target.resource.list_kind,
    );
    Ok(crate::http::reply(StatusCode::OK, Encoding::Protobuf.media_type(), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let token = Token { rv: 12, start: "ns/a\0".into() };
        let mut params = ListParams { continue_: token.encode(), ..ListParams::default() };
        assert_eq!(Token::parse(&params), Ok(Some(token)));
        params.version = Some(3);
        assert!(Token::parse(&params).is_err());
        for bad in ["???", "e30", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi94In0"] {
            let params = ListParams { continue_: bad.into(), ..ListParams::default() };
            assert_eq!(Token::parse(&params).map_err(|s| s.code), Err(400), "{bad}");
        }
    }
}
