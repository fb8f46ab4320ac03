//! Phases `mark-control-plane`, `bootstrap-token` and `kubelet-finalize`.

use std::time::Duration;

use anyhow::{Context, Result};
use coxctl_config::{BootstrapToken, GoDuration, control_plane_endpoint};
use coxctl_pki::token::{Token, sign};
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Run, limit};
use crate::api::objects;
use crate::phase::Phase;
use crate::token::secret::{Entry, expiry};
use crate::{clusterinfo, daemons, node, nodes, paths, say};

/// The parts of `kubelet-finalize`.
pub static FINALIZE: &[Phase<Run>] =
    &[Phase::step("enable-client-cert-rotation", "Enable kubelet client certificate rotation", |r| {
        async { finalize(r) }.boxed_local()
    })
    .together()];

/// Labels and taints the node, once it is there.
pub async fn mark(run: &Run) -> Result<()> {
    let taints = node::taints(&run.config.init.node_registration, true);
    say::line("mark-control-plane", format_args!("Marking the node {} as control-plane", run.node()));
    if run.host.is_dry() {
        return Ok(());
    }
    let patience = limit(run.timeouts().kubelet_health_check, 240).min(Duration::from_secs(60));
    nodes::mark(&run.host, run.admin().await?, run.node(), &taints, patience).await
}

/// Tokens, the rights of those who show them, and cluster-info with its signatures.
pub async fn token(run: &Run) -> Result<()> {
    say::line("bootstrap-token", "Configuring bootstrap tokens, cluster-info ConfigMap, RBAC Roles");
    // A phase alone shows the token nowhere else.
    if !run.args.only().is_empty() && !run.args.skip_token_print {
        let tokens = run.config.init.bootstrap_tokens.iter();
        tokens.for_each(|t| say::line("bootstrap-token", format_args!("Using token: {}", t.token)));
    }
    let entries: Vec<Entry> =
        run.config.init.bootstrap_tokens.iter().map(|t| entry(t, Timestamp::now())).collect::<Result<_>>()?;
    let mut all: Vec<Value> = entries.iter().map(Entry::object).collect();
    all.extend(objects::bootstrap_rights()?);
    all.extend(objects::cluster_info_rights());
    all.push(cluster_info(run, &entries)?);
    run.apply(all).await
}

/// Signed here already, so that nobody waits for the signer; it will find the same.
fn cluster_info(run: &Run, entries: &[Entry]) -> Result<Value> {
    let endpoint = control_plane_endpoint(&run.config.cluster, &run.config.init.local_api_endpoint);
    let text = clusterinfo::kubeconfig(&format!("https://{endpoint}"), &run.ca()?)?;
    let mut object = clusterinfo::object(&text);
    for entry in entries.iter().filter(|e| e.usages.iter().any(|u| u == "signing")) {
        let key = clusterinfo::signature_key(&entry.token.id);
        object["data"][key] = json!(sign(&text, &entry.token));
    }
    Ok(object)
}

/// A token of the configuration as it will be kept.
pub fn entry(token: &BootstrapToken, now: Timestamp) -> Result<Entry> {
    let life = token.ttl.map(|GoDuration(n)| SignedDuration::from_nanos(n));
    let mut entry = Entry::usual(Token::parse(&token.token)?, life, now);
    entry.description.clone_from(&token.description);
    if let Some(at) = &token.expires {
        entry.expires = Some(at.parse().with_context(|| format!("token expiration {at:?}"))?);
    } else {
        entry.expires = expiry(life, now);
    }
    if !token.usages.is_empty() {
        entry.usages.clone_from(&token.usages);
    }
    if !token.groups.is_empty() {
        entry.groups.clone_from(&token.groups);
    }
    Ok(entry)
}

/// Makes kubelet.conf name the rotating certificate; already done when the kubelet was started by us.
fn finalize(run: &Run) -> Result<()> {
    if run.host.is_dry() {
        return Ok(());
    }
    say::line(
        "kubelet-finalize",
        format_args!(
            "Updating {:?} to point to a rotatable kubelet client certificate and key",
            paths::KUBELET_CONF
        ),
    );
    if super::machine::wants(run, daemons::CERTS, "rotation")? {
        super::machine::rotation(run)?;
    }
    node::adopt_identity()?;
    if coxctl_pki::finalize_kubelet_conf(paths::KUBELET_CONF.as_ref(), paths::KUBELET_CLIENT.as_ref())? {
        run.host.services().restart(daemons::KUBELET)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_the_configuration_are_filled_in() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut token =
            BootstrapToken { token: "abcdef.0123456789abcdef".into(), ..BootstrapToken::default() };
        token.ttl = Some(GoDuration::hours(1));
        let made = entry(&token, now).unwrap();
        assert_eq!(made.expires.unwrap().to_string(), "2026-01-01T01:00:00Z");
        assert_eq!(made.groups, [paths::BOOTSTRAPPERS]);
        token.ttl = Some(GoDuration(0));
        assert_eq!(entry(&token, now).unwrap().expires, None);
        token.expires = Some("2026-02-01T00:00:00Z".into());
        assert!(entry(&token, now).unwrap().expires.is_some());
    }
}
