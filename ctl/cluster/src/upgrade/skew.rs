//! Which version may follow which: kubeadm's rules.

use anyhow::{Result, bail};

use super::Run;
use crate::say;

/// The minor version this build serves.
const MINOR: u32 = 36;

/// Refuses a bundle whose Kubernetes version may not follow the cluster's.
///
/// # Errors
/// With the rule that is broken.
pub async fn check(run: &Run) -> Result<()> {
    let Some(bundle) = &run.bundle else { return Ok(()) };
    let cluster = super::cluster::configuration(run).await.kubernetes_version;
    let Some((rule, firm)) = broken(&cluster, &bundle.index.kubernetes, run.whole) else { return Ok(()) };
    let words =
        format!("the bundle is of Kubernetes {}, the cluster of {cluster}: {rule}", bundle.index.kubernetes);
    if firm || !run.args.force {
        bail!("[ERROR VersionSkew]: {words}{}", if firm { "" } else { ", or use --force" });
    }
    say::warn("preflight", words);
    Ok(())
}

/// The rule that stands against going from one version to another with its cure, and whether it is firm.
fn broken(from: &str, to: &str, whole: bool) -> Option<(String, bool)> {
    let (old, new) = (number(from)?, number(to)?);
    let firm = |rule: String| Some((rule, true));
    match () {
        () if new.1 > old.1 + 1 => {
            firm(format!("versions go up by one minor at a time; take a bundle of 1.{} first", old.1 + 1))
        }
        () if new.1 + 1 < old.1 => firm("versions go down by one minor at most; take a newer bundle".into()),
        () if new.1 > MINOR => {
            firm(format!("this coxctl knows 1.{MINOR}; use the coxctl that is in the bundle (bin/coxctl)"))
        }
        () if !whole && new > old => {
            firm("the cluster comes first; run \"coxctl upgrade apply\" on the first control plane".into())
        }
        () if whole && new < old => Some(("it is older; take a newer bundle".into(), false)),
        () => None,
    }
}

/// Major, minor and patch of `v1.36.2`.
fn number(version: &str) -> Option<(u32, u32, u32)> {
    let plain = version.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
    let mut parts = plain.split('.').map(|p| p.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for (from, to, whole, want) in [
            ("v1.36.2", "v1.36.2", true, None),
            ("v1.36.2", "v1.36.3", true, None),
            ("v1.35.9", "v1.36.0", true, None),
            ("v1.36.2", "v1.38.0", true, Some(("by one minor at a time", true))),
            ("v1.36.2", "v1.37.0", true, Some(("use the coxctl that is in the bundle", true))),
            ("v1.36.2", "v1.34.0", true, Some(("one minor at most", true))),
            ("v1.36.2", "v1.35.0", true, Some(("it is older", false))),
            ("v1.36.2", "v1.36.3", false, Some(("the cluster comes first", true))),
            ("v1.36.2", "v1.36.1", false, None),
            ("stable", "v1.36.1", true, None),
        ] {
            let got = broken(from, to, whole);
            let fits = match (&got, want) {
                (Some((rule, firm)), Some((words, wanted))) => rule.contains(words) && *firm == wanted,
                (None, None) => true,
                _ => false,
            };
            assert!(fits, "{from} {to} {whole}: {got:?}");
        }
    }
}
