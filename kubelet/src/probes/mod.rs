//! Probes: one task per container and probe kind, results shared with the pod's worker.

pub mod run;
pub mod task;

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Kinds of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// restarts the container when it fails
    Liveness,
    /// takes the pod out of its services when it fails
    Readiness,
    /// holds the others back until it succeeded once
    Startup,
}

impl ProbeKind {
    /// As in events.
    pub fn title(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
            Self::Startup => "Startup",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Verdicts {
    live: Option<bool>,
    ready: Option<bool>,
    started: Option<bool>,
}

/// Verdicts by container id. A new instance of a container starts without any.
#[derive(Clone, Debug, Default)]
pub struct Results {
    inner: Arc<Mutex<HashMap<String, Verdicts>>>,
}

impl Results {
    /// Stores a verdict; true if it is news.
    pub fn set(&self, id: &str, kind: ProbeKind, ok: bool) -> bool {
        let mut map = self.inner.lock();
        let v = map.entry(id.to_owned()).or_default();
        let slot = match kind {
            ProbeKind::Liveness => &mut v.live,
            ProbeKind::Readiness => &mut v.ready,
            ProbeKind::Startup => &mut v.started,
        };
        let news = *slot != Some(ok);
        *slot = Some(ok);
        news
    }

    fn get(&self, id: &str) -> Verdicts {
        self.inner.lock().get(id).copied().unwrap_or_default()
    }

    /// Last liveness verdict.
    pub fn live(&self, id: &str) -> Option<bool> {
        self.get(id).live
    }

    /// Last readiness verdict.
    pub fn ready(&self, id: &str) -> Option<bool> {
        self.get(id).ready
    }

    /// Startup verdict: Some(true) succeeded once, Some(false) failed for good.
    pub fn started(&self, id: &str) -> Option<bool> {
        self.get(id).started
    }

    /// Forgets instances other than these.
    pub fn retain(&self, ids: &std::collections::HashSet<&str>) {
        self.inner.lock().retain(|id, _| ids.contains(id.as_str()));
    }
}

/// Counts equal outcomes in a row against the thresholds of one probe.
#[derive(Clone, Debug)]
pub struct Threshold {
    success: i32,
    failure: i32,
    last: Option<bool>,
    run: i32,
}

impl Threshold {
    /// Thresholds below one count as one.
    pub fn new(success: i32, failure: i32) -> Self {
        Self { success: success.max(1), failure: failure.max(1), last: None, run: 0 }
    }

    /// Feeds one outcome; the verdict once enough equal ones came in a row.
    pub fn feed(&mut self, ok: bool) -> Option<bool> {
        self.run = if self.last == Some(ok) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(ok);
        let need = if ok { self.success } else { self.failure };
        (self.run >= need).then_some(ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let mut t = Threshold::new(1, 3);
        let fed: Vec<_> = [false, false, true, false, false, false, true].map(|o| t.feed(o)).to_vec();
        assert_eq!(fed, [None, None, Some(true), None, None, Some(false), Some(true)]);
    }

    #[test]
    fn news_only_once() {
        let r = Results::default();
        assert!(r.set("a", ProbeKind::Readiness, true));
        assert!(!r.set("a", ProbeKind::Readiness, true));
        assert_eq!((r.ready("a"), r.live("a")), (Some(true), None));
    }
}
