//! Phases `check-etcd` and `etcd-join`: this machine's etcd becomes a learner, catches up, and gets its vote.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use coxctl_config::{ClusterConfiguration, LocalEtcd};
use etcd_client::Client;
use kube::api::{Api, ListParams};

use super::Run;
use crate::daemons::{self, etcd as unit};
use crate::etcd::client::{CALL, Files, connect_any, within};
use crate::etcd::member::{self, Member};
use crate::init::{limit, local_etcd};
use crate::{etcd, paths, say};

/// Is there an etcd to join, and is it well?
pub async fn check(run: &Run) -> Result<()> {
    let Some(stacked) = stacked(run).await? else { return Ok(()) };
    if run.host.is_dry() {
        return Ok(());
    }
    say::line("check-etcd", "Checking that the etcd cluster is healthy");
    stacked.connect(run).await.map(drop)
}

struct Stacked<'a> {
    cluster: &'a ClusterConfiguration,
    local: LocalEtcd,
    advertise: &'a str,
}

/// `None` on workers and with an etcd elsewhere.
async fn stacked(run: &Run) -> Result<Option<Stacked<'_>>> {
    let Some(control) = run.control() else { return Ok(None) };
    let cluster = &run.fetched().await?.cluster;
    let advertise = control.advertise_address.as_str();
    Ok(local_etcd(cluster).map(|local| Stacked { cluster, local, advertise }))
}

impl Stacked<'_> {
    async fn connect(&self, run: &Run) -> Result<Client> {
        let endpoints = endpoints(run, self.advertise).await?;
        ensure!(!endpoints.is_empty(), "the cluster names no control plane whose etcd could be joined");
        let files = Files::local(Path::new(&self.cluster.certificates_dir));
        Ok(connect_any(&endpoints, &files).await?.0)
    }
}

/// Where other members may be: the addresses of control-plane nodes, and those of the API servers.
async fn endpoints(run: &Run, own: &str) -> Result<Vec<String>> {
    let client = run.admin().await?;
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(client.clone());
    let labelled = ListParams::default().labels(paths::CONTROL_PLANE);
    let nodes =
        tokio::time::timeout(CALL, nodes.list(&labelled)).await.context("listing control planes")??;
    let slices: Api<k8s_openapi::api::discovery::v1::EndpointSlice> = Api::namespaced(client, "default");
    let of_api = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let slices = tokio::time::timeout(CALL, slices.list(&of_api)).await.context("listing API servers")??;
    let mut all = BTreeSet::new();
    for node in nodes {
        let addresses = node.status.and_then(|s| s.addresses).unwrap_or_default();
        all.extend(addresses.into_iter().filter(|a| a.type_ == "InternalIP").map(|a| a.address));
    }
    all.extend(slices.into_iter().filter_map(|s| s.endpoints).flatten().flat_map(|e| e.addresses));
    all.remove(own);
    Ok(all.iter().map(|a| unit::client_url(a)).collect())
}

/// Adds this machine's member, starts it and makes it a voter. Every step looks at what is there first.
pub async fn join(run: &Run) -> Result<()> {
    let Some(stacked) = stacked(run).await? else { return Ok(()) };
    if run.host.is_dry() {
        say::line("dryrun", "Would add a member to etcd and start it");
        return Ok(());
    }
    let patience = limit(run.timeouts().etcd_api_call, 120);
    let mut client = stacked.connect(run).await?;
    let url = unit::peer_url(stacked.advertise);
    revive(&mut client, &stacked, &url).await?;
    if member::add_learner(&mut client, &url, patience).await? {
        say::line(
            "etcd",
            format_args!("Announced new etcd member joining to the existing etcd cluster: {url}"),
        );
        empty(run, &stacked.local.data_dir)?;
    }
    etcd::data_dir(&run.host, &stacked.local.data_dir)?;
    if let Err(first) = begin(run, &stacked, &mut client, &url, Duration::from_secs(20)).await {
        // The members may have changed between the list and the start.
        say::detail(format_args!("[etcd] {first:#}; trying once more with the members of now"));
        begin(run, &stacked, &mut client, &url, patience).await?;
    }
    member::promote(&mut client, &url, patience).await?;
    voting(run, &stacked, patience).await?;
    say::line("etcd", "A new etcd member was added and has its vote");
    Ok(())
}

/// A member that started once and whose data is gone must not come back under its old identity.
async fn revive(client: &mut Client, stacked: &Stacked<'_>, url: &str) -> Result<()> {
    let members = member::list(client).await?;
    let Some(own) = members.iter().find(|m| m.peers.iter().any(|u| u == url)) else { return Ok(()) };
    let has_data = Path::new(&stacked.local.data_dir).join("member/wal").exists();
    if own.name.is_empty() || has_data {
        return Ok(());
    }
    say::line("etcd", format_args!("Removing the member {} ({:x}), whose data is gone", own.name, own.id));
    within(CALL, client.member_remove(own.id)).await.map(drop)
}

/// A new member begins without data; what an earlier attempt left is ours to take.
fn empty(run: &Run, dir: &str) -> Result<()> {
    let path = Path::new(dir);
    let left = std::fs::read_dir(path)
        .map(|d| d.flatten().map(|e| e.path()).collect::<Vec<_>>())
        .unwrap_or_default();
    if left.is_empty() {
        return Ok(());
    }
    if !left.iter().all(|p| run.host.made().contains(p)) {
        bail!("{dir} holds data of an earlier etcd; move it away or run \"coxctl reset\"");
    }
    run.host.services().stop(daemons::ETCD)?;
    for entry in left {
        let removed =
            if entry.is_dir() { std::fs::remove_dir_all(&entry) } else { std::fs::remove_file(&entry) };
        removed.with_context(|| format!("removing {}", entry.display()))?;
    }
    Ok(())
}

/// Starts the member with the members of now and waits until the others know it as started.
async fn begin(
    run: &Run,
    stacked: &Stacked<'_>,
    client: &mut Client,
    url: &str,
    patience: Duration,
) -> Result<()> {
    let members = member::list(client).await?;
    let existing = member::peers(&members, url, run.node());
    let daemon = crate::patches::daemon(
        run.config.join.patches.as_ref(),
        unit::unit(&unit::Member {
            name: run.node(),
            advertise: stacked.advertise,
            pki: &stacked.cluster.certificates_dir,
            local: &stacked.local,
            existing: &existing,
            version: etcd::program_version(&run.host),
        }),
    )?;
    if already(&members, url) {
        run.host.install(&daemon)?;
        run.host.go(daemons::ETCD, false)?;
    } else {
        run.host.run(&daemon)?;
    }
    let shared = tokio::sync::Mutex::new(client.clone());
    let check = async || {
        let members = member::list(&mut *shared.lock().await).await?;
        ensure!(already(&members, url), "the member has not started");
        Ok(())
    };
    run.host.healthy(daemons::ETCD, check, patience).await
}

fn already(members: &[Member], url: &str) -> bool {
    members.iter().any(|m| !m.name.is_empty() && m.peers.iter().any(|u| u == url))
}

/// Waits until the member itself answers and sees a leader.
async fn voting(run: &Run, stacked: &Stacked<'_>, patience: Duration) -> Result<()> {
    let files = Files::local(Path::new(&stacked.cluster.certificates_dir));
    let own = [unit::client_url(stacked.advertise)];
    let check = async || connect_any(&own, &files).await.map(drop);
    run.host.healthy(daemons::ETCD, check, patience).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_started_when_it_has_a_name() {
        let mut m = Member {
            id: 1,
            name: String::new(),
            peers: vec!["u".into()],
            clients: Vec::new(),
            learner: true,
        };
        assert!(!already(std::slice::from_ref(&m), "u"));
        m.name = "n".into();
        assert!(already(std::slice::from_ref(&m), "u") && !already(&[m], "v"));
    }
}
