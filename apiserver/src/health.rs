//! Named checks behind /healthz, /livez and /readyz.

use std::sync::atomic::{AtomicBool, Ordering};

use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Which endpoints a check counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// /healthz, /livez and /readyz.
    All,
    /// /readyz alone.
    Ready,
    /// /healthz and /livez.
    Live,
}

struct Check {
    scope: Scope,
    state: Result<(), String>,
}

/// The state of all checks, in the order they were named.
#[derive(Default)]
pub struct Health {
    checks: Mutex<IndexMap<String, Check>>,
    stopping: AtomicBool,
    changed: watch::Sender<()>,
}

impl Health {
    /// Sets a check, adding it (for all endpoints) if it is new.
    pub fn set(&self, name: &str, state: Result<(), String>) {
        self.set_scoped(name, Scope::All, state);
    }

    /// Sets a check and the endpoints it counts for.
    pub fn set_scoped(&self, name: &str, scope: Scope, state: Result<(), String>) {
        let mut checks = self.checks.lock();
        match checks.get_mut(name) {
            Some(check) if check.state == state => return,
            Some(check) => check.state = state,
            None => {
                checks.insert(name.to_owned(), Check { scope, state });
            }
        }
        drop(checks);
        self.changed.send_replace(());
    }

    /// Wakes whenever the state of a check changes.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// From now on /readyz fails.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Name and state of each check of an endpoint (`healthz`, `livez`, `readyz`).
    pub fn report(&self, endpoint: &str) -> Vec<(String, Result<(), String>)> {
        let ready = endpoint == "readyz";
        let mut lines: Vec<_> = (self.checks.lock().iter())
            .filter(|(_, c)| c.scope == Scope::All || (c.scope == Scope::Ready) == ready)
            .map(|(name, check)| (name.clone(), check.state.clone()))
            .collect();
        if ready {
            let stopping = self.stopping.load(Ordering::Relaxed);
            lines.push((
                "shutdown".into(),
                if stopping { Err("process is shutting down".into()) } else { Ok(()) },
            ));
        }
        lines
    }
}
