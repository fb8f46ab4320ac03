//! Named checks behind `/healthz`, `/livez` and `/readyz`.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

/// The state of each named check, set by whoever knows it. `ping` always passes.
#[derive(Debug, Default)]
pub struct Health {
    checks: RwLock<BTreeMap<String, Result<(), String>>>,
}

impl Health {
    /// No checks but `ping`.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Sets the state of one check, adding it if new.
    pub fn set(&self, name: &str, state: Result<(), String>) {
        let mut checks = self.checks.write();
        if checks.get(name) != Some(&state) {
            if let Err(why) = &state {
                tracing::debug!(check = name, why, "health check fails");
            }
            checks.insert(name.to_string(), state);
        }
    }

    /// Whether all checks pass, and the verbose text of upstream's form. `path` is the endpoint's name.
    pub fn report(&self, path: &str) -> (bool, String) {
        let checks = self.checks.read();
        let ok = checks.values().all(Result::is_ok);
        let mut text = String::from("[+]ping ok\n");
        for (name, state) in checks.iter() {
            text += &match state {
                Ok(()) => format!("[+]{name} ok\n"),
                Err(_) => format!("[-]{name} failed: reason withheld\n"),
            };
        }
        text += &format!("{path} check {}\n", if ok { "passed" } else { "failed" });
        (ok, text)
    }

    /// The state of one check (`/healthz/<name>`), `None` if there is no such check.
    pub fn one(&self, name: &str) -> Option<Result<(), String>> {
        if name == "ping" { Some(Ok(())) } else { self.checks.read().get(name).cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failing_check_fails_all_and_is_named() {
        let health = Health::new();
        assert_eq!(health.report("healthz"), (true, "[+]ping ok\nhealthz check passed\n".into()));
        health.set("leaderElection", Err("lost".into()));
        let (ok, text) = health.report("healthz");
        assert!(!ok && text.contains("[-]leaderElection failed: reason withheld\n"));
        health.set("leaderElection", Ok(()));
        assert!(health.report("healthz").0);
    }
}
