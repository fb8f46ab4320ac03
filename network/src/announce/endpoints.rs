//! On which nodes a Service has ready endpoints. Only Services with policy Local are followed.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;

/// A Service's namespace and name.
pub type Service = (String, String);

/// Nodes with ready endpoints of one slice. Endpoints that end but still serve do not count: who holds an address for
/// them should let it go in time.
pub fn nodes(slice: &EndpointSlice) -> BTreeSet<String> {
    let ready = |c: &Option<k8s_openapi::api::discovery::v1::EndpointConditions>| {
        c.as_ref().and_then(|c| c.ready).unwrap_or(true)
    };
    let all = slice.endpoints.iter().flatten().filter(|e| ready(&e.conditions));
    all.filter_map(|e| e.node_name.clone()).collect()
}

/// Follows a Service's slices and tells the nodes whenever they change, until nobody listens.
pub async fn follow(client: Client, service: Service, tell: mpsc::Sender<(Service, BTreeSet<String>)>) {
    let api = Api::<EndpointSlice>::namespaced(client, &service.0);
    let config = watcher::Config::default().any_semantic();
    let config = config.labels(&format!("kubernetes.io/service-name={}", service.1));
    let mut events = Box::pin(watcher(api, config).backoff(daemon::patience::Patience::default()));
    let (mut slices, mut listing, mut complete) = (BTreeMap::new(), BTreeMap::new(), false);
    let mut told: Option<BTreeSet<String>> = None;
    while let Some(event) = events.next().await {
        let name = |s: &EndpointSlice| s.metadata.name.clone().unwrap_or_default();
        match event {
            Ok(Event::Init) => listing = BTreeMap::new(),
            Ok(Event::InitApply(slice)) => drop(listing.insert(name(&slice), nodes(&slice))),
            Ok(Event::InitDone) => {
                slices = std::mem::take(&mut listing);
                complete = true;
            }
            Ok(Event::Apply(slice)) => drop(slices.insert(name(&slice), nodes(&slice))),
            Ok(Event::Delete(slice)) => drop(slices.remove(&name(&slice))),
            Err(error) => tracing::debug!(%error, "watching endpoints"),
        }
        let all: BTreeSet<String> = slices.values().flatten().cloned().collect();
        if complete && told.as_ref() != Some(&all) {
            told = Some(all.clone());
            if tell.send((service.clone(), all)).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_endpoints_count() {
        let slice: EndpointSlice = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "x"}, "addressType": "IPv4", "endpoints": [
                {"addresses": ["1.1.1.1"], "nodeName": "a"},
                {"addresses": ["1.1.1.2"], "nodeName": "b", "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["1.1.1.3"], "nodeName": "c", "conditions": {"ready": true}},
                {"addresses": ["1.1.1.4"]}]}))
        .unwrap();
        assert_eq!(nodes(&slice).into_iter().collect::<Vec<_>>(), ["a", "c"]);
    }
}
