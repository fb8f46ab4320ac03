//! Who serves: the EndpointSlices of the Service `default/kubernetes`, where living API servers enter themselves.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};

const LABEL: &str = "kubernetes.io/service-name=kubernetes";

/// What is kept on disk.
#[derive(Serialize, Deserialize, Default)]
struct Remembered {
    servers: Vec<String>,
}

/// What was learned before; nothing if the file is missing or damaged.
pub fn recall(path: &Path) -> Vec<String> {
    let text = std::fs::read(path).unwrap_or_default();
    if text.is_empty() {
        return Vec::new();
    }
    match serde_json::from_slice::<Remembered>(&text) {
        Ok(remembered) => remembered.servers,
        Err(error) => {
            tracing::warn!(%error, file = %path.display(), "what was learned before is unreadable");
            Vec::new()
        }
    }
}

/// Keeps what was learned, in one step.
///
/// # Errors
/// When the file cannot be written.
pub fn remember(path: &Path, servers: &[String]) -> Result<()> {
    let what = || format!("write {}", path.display());
    let mut text = serde_json::to_vec_pretty(&Remembered { servers: servers.to_vec() })?;
    text.push(b'\n');
    if std::fs::read(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).with_context(what)?;
    let partial = path.with_extension("partial");
    let mut file = std::fs::File::create(&partial).with_context(what)?;
    // Nothing secret, and of use to whoever looks for the reason of something
    file.set_permissions(std::fs::Permissions::from_mode(0o644)).with_context(what)?;
    file.write_all(&text).and_then(|()| file.sync_all()).with_context(what)?;
    std::fs::rename(&partial, path).with_context(what)
}

/// The servers as of now, each time they change, for as long as the process lives. An empty list, which a cluster in
/// trouble might show, is never told.
pub async fn follow(client: Client, mut told: impl FnMut(Vec<String>)) {
    let api = Api::<EndpointSlice>::namespaced(client, "default");
    let config = watcher::Config::default().labels(LABEL).any_semantic();
    let mut events = Box::pin(watcher(api, config).backoff(daemon::patience::Patience::default()));
    let (mut slices, mut listing, mut last) = (Slices::new(), None, Vec::new());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if take(event, &mut slices, &mut listing) {
                    let now = servers(&slices);
                    if !now.is_empty() && now != last {
                        last = now.clone();
                        told(now);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "watching the API servers"),
        }
    }
}

type Slices = BTreeMap<String, EndpointSlice>;

/// Takes in an event. True when `slices` is whole and may be looked at.
fn take(event: Event<EndpointSlice>, slices: &mut Slices, listing: &mut Option<Slices>) -> bool {
    let name = |s: &EndpointSlice| s.metadata.name.clone().unwrap_or_default();
    match event {
        Event::Init => *listing = Some(Slices::new()),
        Event::InitApply(slice) => {
            listing.get_or_insert_default().insert(name(&slice), slice);
        }
        Event::InitDone => *slices = listing.take().unwrap_or_default(),
        Event::Apply(slice) => {
            slices.insert(name(&slice), slice);
        }
        Event::Delete(slice) => {
            slices.remove(&name(&slice));
        }
    }
    listing.is_none()
}

/// All servers of the slices, each once, in order.
fn servers(slices: &Slices) -> Vec<String> {
    let mut all: Vec<String> = slices.values().flat_map(of_slice).collect();
    all.sort();
    all.dedup();
    all
}

fn of_slice(slice: &EndpointSlice) -> Vec<String> {
    let ports = slice.ports.iter().flatten();
    let mut ports = ports.filter(|p| matches!(p.name.as_deref(), None | Some("" | "https")));
    let Some(port) = ports.find_map(|p| u16::try_from(p.port?).ok()) else { return Vec::new() };
    let ready = slice
        .endpoints
        .iter()
        .flatten()
        .filter(|e| e.conditions.as_ref().and_then(|c| c.ready) != Some(false));
    let addresses = ready.flat_map(|e| &e.addresses).filter_map(|a| a.parse::<IpAddr>().ok());
    addresses.map(|ip| SocketAddr::new(ip, port).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(name: &str, endpoints: serde_json::Value, port: &str) -> EndpointSlice {
        let value = json!({"metadata": {"name": name}, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": port, "port": 6443, "protocol": "TCP"}]});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn ready_https_endpoints_count() {
        let mut slices = Slices::new();
        let endpoints = json!([{"addresses": ["10.0.0.2"], "conditions": {"ready": true}}, {"addresses": ["10.0.0.1"]},
            {"addresses": ["10.0.0.9"], "conditions": {"ready": false}}]);
        slices.insert("a".into(), slice("a", endpoints, "https"));
        slices.insert(
            "b".into(),
            slice("b", json!([{"addresses": ["10.0.0.1"]}, {"addresses": ["fd00::1"]}]), "https"),
        );
        slices.insert("c".into(), slice("c", json!([{"addresses": ["10.0.0.7"]}]), "metrics"));
        assert_eq!(servers(&slices), ["10.0.0.1:6443", "10.0.0.2:6443", "[fd00::1]:6443"]);
    }

    #[test]
    fn a_listing_counts_when_it_is_whole() {
        let (mut slices, mut listing) = (Slices::new(), None);
        let one = || slice("a", json!([{"addresses": ["10.0.0.1"]}]), "https");
        assert!(take(Event::Apply(one()), &mut slices, &mut listing));
        assert!(!take(Event::Init, &mut slices, &mut listing));
        assert!(!take(Event::InitApply(slice("b", json!([]), "https")), &mut slices, &mut listing));
        assert_eq!(servers(&slices).len(), 1);
        assert!(take(Event::InitDone, &mut slices, &mut listing));
        assert!(servers(&slices).is_empty());
    }

    #[test]
    fn what_was_learned_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/servers.json");
        assert!(recall(&path).is_empty());
        remember(&path, &["a:1".into(), "b:2".into()]).unwrap();
        assert_eq!(recall(&path), ["a:1", "b:2"]);
        std::fs::write(&path, "{\"servers\": [").unwrap();
        assert!(recall(&path).is_empty());
        remember(&path, &["c:3".into()]).unwrap();
        assert_eq!(recall(&path), ["c:3"]);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
