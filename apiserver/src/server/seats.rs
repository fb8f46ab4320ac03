//! How many requests are served at once. What keeps the cluster alive is counted apart, so that a flood of other requests can't
//! starve it: leader elections, and what nodes say about themselves (upstream's levels `leader-election` and `node-high`).
//! Whoever finds no seat waits in line for a while: sent away, a client would only come again, and each time cost more than
//! its place in the line.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::App;
use crate::config::Config;
use crate::request::{RequestInfo, UserInfo};

/// Seats of a lane beyond the two of the flags.
const LEADERS: usize = 100;
const NODES: usize = 200;
/// How many may wait in a lane's line.
const LINE: usize = 5000;
/// The part of a request's time that it may wait, as upstream's.
const WAIT_PART: u32 = 4;

/// Who shares seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Reads,
    Writes,
    Leaders,
    Nodes,
}

/// The seats of all lanes.
pub struct Seats {
    lanes: [Seating; 4],
    wait: Duration,
}

struct Seating {
    /// None: as many as come.
    free: Option<Arc<Semaphore>>,
    waiting: AtomicUsize,
}

impl Seats {
    /// As many as the flags say.
    pub fn new(config: &Config) -> Self {
        let limits = [config.max_requests_inflight, config.max_mutating_requests_inflight, LEADERS, NODES];
        Self::of(limits, config.request_timeout / WAIT_PART)
    }

    fn of(limits: [usize; 4], wait: Duration) -> Self {
        let seating = |limit: usize| Seating {
            free: (limit > 0).then(|| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)))),
            waiting: AtomicUsize::new(0),
        };
        Self { lanes: limits.map(seating), wait }
    }

    /// A seat, after a wait if need be; the outer None when there is none for too long, the inner where none is counted.
    async fn find(&self, lane: Lane) -> Option<Option<OwnedSemaphorePermit>> {
        let seating = &self.lanes[lane as usize];
        let Some(free) = seating.free.clone() else { return Some(None) };
        if let Ok(seat) = free.clone().try_acquire_owned() {
            return Some(Some(seat));
        }
        let _place = Place::take(&seating.waiting)?;
        let seat = tokio::time::timeout(self.wait, free.acquire_owned()).await.ok()?;
        seat.ok().map(Some)
    }
}

/// A place in a line; left when dropped, which also happens when the client goes away.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < LINE).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among the requests being served; given back when dropped.
pub struct Seat {
    app: Arc<App>,
    lane: Lane,
    _seat: Option<OwnedSemaphorePermit>,
}

impl Seat {
    /// A seat for a request; the inner None for one that needs none, the outer for one that gets none.
    pub async fn take(app: &Arc<App>, user: &UserInfo, info: &RequestInfo) -> Option<Option<Self>> {
        if info.is_long_running() {
            return Some(None);
        }
        let lane = Lane::of(user, info);
        let seat = if user.in_group("system:masters") { Some(None) } else { app.seats.find(lane).await };
        let Some(seat) = seat else {
            app.metrics.rejected.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        app.metrics.inflight[lane as usize].fetch_add(1, Ordering::Relaxed);
        Some(Some(Self { app: app.clone(), lane, _seat: seat }))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.app.metrics.inflight[self.lane as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lane {
    fn of(user: &UserInfo, info: &RequestInfo) -> Self {
        match info.resource.as_str() {
            "leases" if info.namespace == "kube-system" && leads(user) => Self::Leaders,
            "leases" | "nodes" if user.in_group("system:nodes") => Self::Nodes,
            _ if info.is_read() => Self::Reads,
            _ => Self::Writes,
        }
    }
}

/// The daemons that elect leaders in kube-system.
fn leads(user: &UserInfo) -> bool {
    matches!(user.name.as_str(), "system:kube-controller-manager" | "system:kube-scheduler")
        || user.name.starts_with("system:serviceaccount:kube-system:")
        || user.name.starts_with("system:cloud-controller-manager")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes() {
        let user = |name: &str, group: &str| UserInfo {
            name: name.into(),
            groups: vec![group.into()],
            ..UserInfo::default()
        };
        let info = |verb: &str, namespace: &str, resource: &str| RequestInfo {
            is_resource: true,
            verb: verb.into(),
            namespace: namespace.into(),
            resource: resource.into(),
            ..RequestInfo::default()
        };
        let scheduler = user("system:kube-scheduler", "system:authenticated");
        let node = user("system:node:a", "system:nodes");
        for (user, verb, namespace, resource, want) in [
            (&scheduler, "update", "kube-system", "leases", Lane::Leaders),
            (&scheduler, "update", "other", "leases", Lane::Writes),
            (&scheduler, "create", "a", "pods", Lane::Writes),
            (&scheduler, "list", "", "pods", Lane::Reads),
            (&node, "update", "kube-node-lease", "leases", Lane::Nodes),
            (&node, "patch", "", "nodes", Lane::Nodes),
            (&node, "get", "a", "secrets", Lane::Reads),
            (&user("me", "us"), "update", "kube-system", "leases", Lane::Writes),
        ] {
            assert_eq!(
                Lane::of(user, &info(verb, namespace, resource)),
                want,
                "{} {verb} {resource}",
                user.name
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_seat_waits_for_one() {
        let seats = Seats::of([1, 0, 1, 1], Duration::from_secs(15));
        let first = seats.find(Lane::Reads).await.expect("free");
        assert!(seats.find(Lane::Leaders).await.is_some(), "another lane");
        assert!(matches!(seats.find(Lane::Writes).await, Some(None)), "none is counted");
        let (second, ()) = tokio::join!(seats.find(Lane::Reads), async { drop(first) });
        assert!(second.is_some(), "left by the first");
        let began = tokio::time::Instant::now();
        assert!(seats.find(Lane::Reads).await.is_none());
        assert_eq!(began.elapsed(), Duration::from_secs(15));
        drop(second);
        assert!(seats.find(Lane::Reads).await.is_some());
        assert_eq!(seats.lanes[0].waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_has_an_end() {
        let seats = Seats::of([1; 4], Duration::from_secs(15));
        let _first = seats.find(Lane::Nodes).await;
        seats.lanes[3].waiting.store(LINE, Ordering::Relaxed);
        let began = tokio::time::Instant::now();
        assert!(seats.find(Lane::Nodes).await.is_none());
        assert_eq!((began.elapsed(), seats.lanes[3].waiting.load(Ordering::Relaxed)), (Duration::ZERO, LINE));
    }
}
