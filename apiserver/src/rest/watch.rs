//! watch.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body as HttpBody, Frame};
use machinery::status::Status;
use rand::Rng;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch as signal};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::list::{freshen, proto_message};
use super::negotiate::{Encoding, Format, View};
use super::params::{ListParams, Query};
use super::{Target, convert, encode};
use crate::cache::collection::{Delivery, From, in_namespace};
use crate::cache::entry::FRAME_END;
use crate::cache::{Entry, EventType, Filter, Subscription};
use crate::http::{Body, BoxError, Response};
use crate::request::Ctx;

/// Bookmarks come about this often.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Bookmarks of all watches fall into slots of this length.
const BOOKMARK_SLOT: Duration = Duration::from_secs(6);
/// Several waiting events go out as one piece up to this size.
const PIECE: usize = 64 * 1024;
const END_OF_INITIAL: &str = "k8s.io/initial-events-end";

/// Serves a watch.
pub async fn watch(
    ctx: &Ctx,
    target: &Target,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response, Status> {
    let format = Format::from_headers(headers, query, true)?;
    let mut params = ListParams::from_query(query)?;
    params.watch = true;
    let encoder = Encoder::new(target.clone(), format.clone(), query.get("includeObject"))?;
    let body = match subscribe(ctx, target, &params).await {
        Ok((subscription, marks_end)) => {
            Body::stream(WatchBody::new(ctx, encoder, subscription, &params, marks_end))
        }
        // Clients look for "too old" in the stream, and list again; many do not when the request itself fails.
        Err(status) if status.code == 410 => Body::full(encoder.frame("ERROR", &status.to_value())?),
        Err(status) => return Err(status),
    };
    let mut response = http::Response::new(body);
    let content_type = HeaderValue::from_static(format.encoding.stream_type());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// Starts the subscription; also says whether the end of the initial events is to be marked.
async fn subscribe(ctx: &Ctx, target: &Target, params: &ListParams) -> Result<(Subscription, bool), Status> {
    let collection = target.stored()?;
    let mut fields = params.fields.clone();
    if !target.name.is_empty() && fields.requires_exact("metadata.name").is_none() {
        // The deprecated path /watch/.../NAME names the object beside the selector.
        let (field, value) = ("metadata.name".into(), target.name.clone());
        fields.terms.push(machinery::selector::FieldTerm { field, value, negated: false });
    }
    let filter =
        Filter::new(&target.resource, collection, &target.namespace, params.labels.clone(), &fields)?;
    let filter = Arc::new(filter);
    let from = match (params.send_initial, params.version) {
        (Some(true), version) => {
            let revision = freshen(ctx, version).await?;
            return start(target, filter, From::Now, revision).map(|s| (s, true));
        }
        (Some(false), None) => From::Revision(freshen(ctx, None).await?),
        (Some(false), Some(0)) => From::Revision(freshen(ctx, Some(0)).await?),
        (None, None | Some(0)) => {
            let revision = freshen(ctx, params.version).await?;
            return start(target, filter, From::Now, revision).map(|s| (s, false));
        }
        (_, Some(version)) => {
            ctx.app.cache.wait_for(version).await?;
            From::Revision(version)
        }
    };
    let revision = ctx.app.cache.revision();
    start(target, filter, from, revision).map(|s| (s, false))
}

fn start(target: &Target, filter: Arc<Filter>, from: From, revision: u64) -> Result<Subscription, Status> {
    let asked = match from {
        From::Revision(version) => version,
        From::Now => revision,
    };
    (target.stored()?.subscribe(filter, from, revision))
        .map_err(|oldest| Status::expired(format!("too old resource version: {asked} ({oldest})")))
}

/// Turns events into frames.
struct Encoder {
    target: Target,
    format: Format,
    include: String,
    shared: bool,
    columns_sent: bool,
}

impl Encoder {
    fn new(target: Target, format: Format, include: &str) -> Result<Self, Status> {
        if format.encoding == Encoding::Protobuf
            && format.view == View::Whole
            && target.resource.object_type.is_none()
        {
            return Err(Status::not_acceptable(&["application/json", "application/yaml"]));
        }
        let shared =
            format.encoding == Encoding::Json && format.view == View::Whole && !convert::is_foreign(&target);
        Ok(Self { target, format, include: include.to_owned(), shared, columns_sent: false })
    }

    fn event(&mut self, seen: EventType, entry: &Arc<Entry>) -> Result<Bytes, Status> {
        if self.shared {
            return Ok(entry.frame(seen));
        }
        if self.format.encoding == Encoding::Protobuf && self.format.view == View::Whole {
            let message = proto_message(&self.target, entry)?;
            let (api_version, kind) = (self.target.resource.api_version(), &self.target.resource.kind);
            let object = codec::proto::envelope(&message, &api_version, kind);
            return Ok(frame_proto(seen.as_str(), &object));
        }
        if self.format.is_plain_partial() && !convert::is_foreign(&self.target) {
            let (before, behind) = encode::partial_frame(&self.format);
            let parts =
                [seen.frame_start(), before.as_bytes(), entry.metadata_json(), behind.as_bytes(), FRAME_END];
            return Ok(parts.concat().into());
        }
        let object = encode::entry_value(&self.target, entry)?;
        self.object(seen.as_str(), object)
    }

    fn object(&mut self, kind: &str, object: Value) -> Result<Bytes, Status> {
        let shown = match self.format.view {
            View::Whole => object,
            View::Partial => encode::partial(&object, &self.format),
            View::Table => {
                let meta = json!({"resourceVersion": machinery::meta::resource_version(&object)});
                let mut table = encode::table(&self.target, &self.format, &self.include, &[object], meta);
                if std::mem::replace(&mut self.columns_sent, true) {
                    table["columnDefinitions"] = json!([]);
                }
                table
            }
        };
        self.frame(kind, &shown)
    }

    fn frame(&self, kind: &str, shown: &Value) -> Result<Bytes, Status> {
        match self.format.encoding {
            Encoding::Protobuf => Ok(frame_proto(kind, &encode::proto(shown)?)),
            Encoding::Json => {
                let mut frame = format!("{{\"type\":\"{kind}\",\"object\":").into_bytes();
                serde_json::to_writer(&mut frame, shown).map_err(Status::internal)?;
                frame.extend_from_slice(b"}\n");
                Ok(frame.into())
            }
            Encoding::Yaml => {
                let text =
                    codec::yaml::encode(&json!({"type": kind, "object": shown})).map_err(Status::internal)?;
                Ok(format!("---\n{text}").into())
            }
        }
    }

    fn bookmark(&mut self, revision: u64, ends_initial: bool) -> Result<Bytes, Status> {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if ends_initial {
            metadata["annotations"] = json!({END_OF_INITIAL: "true"});
        }
        let resource = &self.target.resource;
        let object =
            json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata});
        match self.format.view {
            View::Table => {
                let mut metadata = metadata;
                if let Some(map) = metadata.as_object_mut() {
                    map.remove("creationTimestamp");
                    map.remove("annotations");
                }
                let api_version = format!("meta.k8s.io/{}", self.format.meta_version);
                let row = json!({"cells": [], "object": encode::partial(&object, &self.format)});
                let rows = if ends_initial { json!([row]) } else { json!([]) };
                self.frame("BOOKMARK", &json!({"kind": "Table", "apiVersion": api_version, "metadata": metadata, "columnDefinitions": [], "rows": rows}))
            }
            _ => self.object("BOOKMARK", object),
        }
    }
}

/// A bare WatchEvent message behind its length.
fn frame_proto(kind: &str, object: &[u8]) -> Bytes {
    let event = codec::proto::watch_event(kind, object);
    let mut frame = BytesMut::with_capacity(event.len() + 4);
    frame.put_u32(event.len() as u32);
    frame.put_slice(&event);
    frame.freeze()
}

struct WatchBody {
    encoder: Encoder,
    initial: VecDeque<Arc<Entry>>,
    /// The revision of the initial events, while their end is yet to be marked.
    mark_end: Option<u64>,
    backlog: VecDeque<Delivery>,
    events: mpsc::Receiver<Delivery>,
    revisions: signal::Receiver<u64>,
    bookmarks: Option<Interval>,
    floor: u64,
    deadline: Pin<Box<Sleep>>,
    /// The server closes: the client is to go on elsewhere at once.
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    last_bookmark_due: bool,
    ended: bool,
}

impl WatchBody {
    fn new(
        ctx: &Ctx,
        encoder: Encoder,
        subscription: Subscription,
        params: &ListParams,
        marks_end: bool,
    ) -> Self {
        let (initial, at) = match subscription.initial {
            Some((snapshot, at)) => (snapshot, at),
            None => (Default::default(), subscription.revision),
        };
        let filter = subscription.filter;
        let initial = in_namespace(&initial, &filter.namespace)
            .filter(|(_, e)| filter.matches(e))
            .map(|(_, e)| e.clone())
            .collect();
        let life = match params.timeout {
            Some(seconds) => Duration::from_secs(seconds),
            None => Duration::from_secs(ctx.app.config.min_request_timeout)
                .mul_f64(rand::rng().random_range(1.0..2.0)),
        };
        Self {
            encoder,
            initial,
            mark_end: (marks_end && params.bookmarks).then_some(at),
            backlog: subscription.backlog.into(),
            events: subscription.events,
            revisions: ctx.app.cache.revisions(),
            bookmarks: params.bookmarks.then(bookmark_ticks),
            floor: at,
            deadline: Box::pin(tokio::time::sleep(life)),
            closing: Box::pin(ctx.app.closing.clone().cancelled_owned()),
            last_bookmark_due: params.bookmarks,
            ended: false,
        }
    }

    /// Frames that can be sent without waiting, as one piece.
    fn ready_piece(&mut self, cx: &mut Context<'_>) -> Result<Option<Bytes>, Status> {
        let mut piece = Piece::default();
        while piece.len < PIECE {
            let frame = if let Some(entry) = self.initial.pop_front() {
                self.encoder.event(EventType::Added, &entry)?
            } else if let Some(at) = self.mark_end.take() {
                self.encoder.bookmark(at, true)?
            } else if let Some(delivery) = self.next_delivery(cx) {
                self.encoder.event(delivery.seen, delivery.event.shown(delivery.seen))?
            } else {
                break;
            };
            piece.push(frame);
        }
        Ok(piece.finish())
    }

    fn next_delivery(&mut self, cx: &mut Context<'_>) -> Option<Delivery> {
        if let Some(delivery) = self.backlog.pop_front() {
            return Some(delivery);
        }
        match self.events.poll_recv(cx) {
            Poll::Ready(Some(delivery)) => Some(delivery),
            Poll::Ready(None) => {
                self.ended = true;
                None
            }
            Poll::Pending => None,
        }
    }

    /// A bookmark is true only when all events up to its revision were sent: the revision is read first, and the events
    /// are drained before it goes out.
    fn bookmark(&mut self, cx: &mut Context<'_>) -> Result<Option<Bytes>, Status> {
        let revision = (*self.revisions.borrow()).max(self.floor);
        let events = self.ready_piece(cx)?;
        if events.is_some() {
            return Ok(events);
        }
        self.floor = revision;
        self.encoder.bookmark(revision, false).map(Some)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let piece = match self.next(cx) {
            Ok(piece) => piece,
            Err(status) => {
                self.ended = true;
                Poll::Ready(self.encoder.frame("ERROR", &status.to_value()).ok())
            }
        };
        if self.ended && piece.is_pending() {
            return Poll::Ready(None);
        }
        piece
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Result<Poll<Option<Bytes>>, Status> {
        if let Some(piece) = self.ready_piece(cx)? {
            return Ok(Poll::Ready(Some(piece)));
        }
        if self.ended {
            return Ok(Poll::Ready(None));
        }
        if self.deadline.as_mut().poll(cx).is_ready() || self.closing.as_mut().poll(cx).is_ready() {
            self.ended = true;
            if std::mem::take(&mut self.last_bookmark_due) {
                return Ok(Poll::Ready(self.bookmark(cx)?));
            }
            return Ok(Poll::Ready(None));
        }
        if self.bookmarks.as_mut().is_some_and(|ticks| ticks.poll_tick(cx).is_ready()) {
            cx.waker().wake_by_ref();
            return Ok(Poll::Ready(self.bookmark(cx)?));
        }
        Ok(Poll::Pending)
    }
}

/// Ticks that fall together with those of other watches, so that an idle server wakes seldom and sends to a client with many
/// watches at once.
fn bookmark_ticks() -> Interval {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let (began, now) = (*BEGAN.get_or_init(Instant::now), Instant::now());
    let slots = |time: Duration| (time.as_secs_f64() / BOOKMARK_SLOT.as_secs_f64()).round() as u32;
    let every = BOOKMARK_EVERY.mul_f64(rand::rng().random_range(0.9..1.1));
    let first = began + BOOKMARK_SLOT * slots(now.saturating_duration_since(began) + every);
    let mut ticks = tokio::time::interval_at(first, BOOKMARK_SLOT * slots(every));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// One frame is passed on as it is; several are joined.
#[derive(Default)]
struct Piece {
    first: Option<Bytes>,
    joined: BytesMut,
    len: usize,
}

impl Piece {
    fn push(&mut self, frame: Bytes) {
        self.len += frame.len();
        match self.first.take() {
            None if self.joined.is_empty() => self.first = Some(frame),
            None => self.joined.put_slice(&frame),
            Some(first) => {
                self.joined.put_slice(&first);
                self.joined.put_slice(&frame);
            }
        }
    }

    fn finish(self) -> Option<Bytes> {
        match self.first {
            Some(frame) => Some(frame),
            None if self.joined.is_empty() => None,
            None => Some(self.joined.freeze()),
        }
    }
}

impl HttpBody for WatchBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.poll_piece(cx).map(|piece| piece.map(|p| Ok(Frame::data(p))))
    }
}
