//! The KubeSchedulerConfiguration file, v1: read, checked as a whole, with every fault named by its path.

pub mod args;
pub mod election;
pub mod extenders;
pub mod fault;
pub mod points;
pub mod profiles;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::extender::Extender;
use crate::framework::profile::Profile;
use crate::plugins;
use election::Election;
use fault::Reader;

const VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";

/// What a configuration comes to.
pub struct Configuration {
    /// A kubeconfig named in the file.
    pub kubeconfig: Option<PathBuf>,
    /// How to stand for election.
    pub election: Election,
    /// The first pause after a refusal, and the longest.
    pub backoff: (Duration, Duration),
    /// By scheduler name.
    pub profiles: Vec<Profile>,
    /// In order.
    pub extenders: Vec<Extender>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            election: Election::default(),
            backoff: (Duration::from_secs(1), Duration::from_secs(10)),
            profiles: vec![plugins::default_profile()],
            extenders: Vec::new(),
        }
    }
}

impl Configuration {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// All faults, each with the path of the field, the value and the rule.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// The same from its text.
    ///
    /// # Errors
    /// As [`Configuration::read`].
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_yaml::from_str(text).context("no YAML")?;
        let mut faults = Vec::new();
        let all = Self::of(&mut Reader::new(&value, &mut faults));
        match faults.as_slice() {
            [] => Ok(all),
            [one] => bail!("{one}"),
            many => bail!("[{}]", many.join(", ")),
        }
    }

    fn of(r: &mut Reader<'_>) -> Self {
        r.known(&[
            "apiVersion",
            "kind",
            "parallelism",
            "leaderElection",
            "clientConnection",
            "enableProfiling",
            "enableContentionProfiling",
            "percentageOfNodesToScore",
            "podInitialBackoffSeconds",
            "podMaxBackoffSeconds",
            "profiles",
            "extenders",
            "delayCacheUntilActive",
        ]);
        for (field, want) in [("apiVersion", VERSION), ("kind", KIND)] {
            if r.text(field).as_deref() != Some(want) {
                let value = r.get(field);
                r.unsupported(field, &value, &[want]);
            }
        }
        if let Some(n) = r.int("parallelism").filter(|n| *n <= 0) {
            r.invalid("parallelism", &json!(n), "should be an integer value greater than zero");
        }
        let percentage = percentage(r);
        let backoff = backoff(r);
        let kubeconfig = connection(r);
        let election = Election::read(r);
        let extenders = extenders::read(r);
        let ignored = extenders.iter().flat_map(|e| &e.resources).filter(|(_, ignored)| **ignored);
        let ignored: Vec<String> = ignored.map(|(name, _)| name.clone()).collect();
        let profiles = profiles::read(r, percentage.unwrap_or(0), &ignored);
        Self { kubeconfig, election, backoff, profiles, extenders }
    }
}

/// `percentageOfNodesToScore`, of the file or a profile.
fn percentage(r: &mut Reader<'_>) -> Option<usize> {
    let value = r.int("percentageOfNodesToScore")?;
    if !(0..=100).contains(&value) {
        r.invalid("percentageOfNodesToScore", &json!(value), "not in valid range [0-100]");
    }
    usize::try_from(value).ok()
}

fn backoff(r: &mut Reader<'_>) -> (Duration, Duration) {
    let first = r.int("podInitialBackoffSeconds").unwrap_or(1);
    let longest = r.int("podMaxBackoffSeconds").unwrap_or(10);
    if first <= 0 {
        r.invalid("podInitialBackoffSeconds", &json!(first), "must be greater than 0");
    }
    if longest < first {
        let rule = "must be greater than or equal to PodInitialBackoffSeconds";
        r.invalid("podMaxBackoffSeconds", &json!(longest), rule);
    }
    let seconds = |n: i64| Duration::from_secs(n.clamp(0, i64::from(u32::MAX)) as u64);
    (seconds(first), seconds(longest))
}

fn connection(r: &mut Reader<'_>) -> Option<PathBuf> {
    let mut c = r.child("clientConnection")?;
    c.known(&["kubeconfig", "acceptContentTypes", "contentType", "qps", "burst"]);
    c.text("kubeconfig").filter(|s| !s.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests;
