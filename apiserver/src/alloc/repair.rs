//! Puts right what a crash left behind: addresses and ports that belong to no service, and services that hold what is
//! not written down. Runs at start and every three minutes.

use super::addresses::{Book, MANAGED_BY, Objects, Owner, RESOURCE};
use super::service::{held, held_ports};
use crate::app::App;
use machinery::meta;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(180);
/// An address without a service is only taken back when it is older: its service may be on its way.
const YOUNG_SECONDS: i64 = 60;
/// A port without a service is only taken back when it was so in this many passes.
const ROUNDS: u32 = 3;

/// Repairs until cancelled.
pub async fn run(app: Arc<App>, cancel: CancellationToken) {
    let mut leaks = Leaks::default();
    loop {
        pass(&app, &mut leaks).await;
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// One pass over all services.
async fn pass(app: &Arc<App>, leaks: &mut Leaks) {
    app.reader.synced().await;
    if let Err(status) = app.reader.caught_up().await {
        tracing::warn!(error = %status.message, "service addresses and ports not checked");
        return;
    }
    let services: Vec<Value> = app.reader.list("services", "").iter().map(|e| e.parse()).collect();
    let held_now: Vec<Held> =
        app.reader.list(RESOURCE, "").iter().filter_map(|e| Held::read(&e.parse())).collect();
    let plan = addresses(&services, &held_now, machinery::time::now_unix());
    apply(app, plan).await;
    if let Err(why) = ports(app, &services, leaks).await {
        tracing::warn!(error = %why, "node ports not checked");
    }
}

/// An address that is written down, and for whom.
struct Held {
    ip: IpAddr,
    owner: Owner,
    since: i64,
    ours: bool,
}

impl Held {
    fn read(object: &Value) -> Option<Self> {
        let parent = object.get("spec")?.get("parentRef")?;
        let of = |key: &str| parent.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let since =
            machinery::time::parse(meta::creation_timestamp(object)).map_or(0, machinery::time::to_unix);
        let ours = meta::label(object, "ipaddress.kubernetes.io/managed-by") == Some(MANAGED_BY)
            && of("resource") == "services";
        Some(Self {
            ip: meta::name(object).parse().ok()?,
            owner: Owner { namespace: of("namespace"), name: of("name") },
            since,
            ours,
        })
    }
}

/// What has to be done about addresses.
#[derive(Default, Debug, PartialEq, Eq)]
struct Plan {
    claim: Vec<(IpAddr, Owner)>,
    release: Vec<IpAddr>,
}

fn addresses(services: &[Value], book: &[Held], now: i64) -> Plan {
    let mut wanted: BTreeMap<IpAddr, Owner> = BTreeMap::new();
    for service in services {
        let owner =
            Owner { namespace: meta::namespace(service).to_owned(), name: meta::name(service).to_owned() };
        for ip in held(service) {
            if let Some(other) = wanted.insert(ip, owner.clone()) {
                tracing::warn!(%ip, a = ?other, b = ?owner, "two services have the same address");
            }
        }
    }
    let known: BTreeSet<IpAddr> = book.iter().map(|h| h.ip).collect();
    let stale = |h: &&Held| h.ours && now - h.since > YOUNG_SECONDS && wanted.get(&h.ip) != Some(&h.owner);
    let release: Vec<IpAddr> = book.iter().filter(stale).map(|h| h.ip).collect();
    let claim = wanted.into_iter().filter(|(ip, _)| !known.contains(ip) || release.contains(ip)).collect();
    Plan { claim, release }
}

async fn apply(app: &Arc<App>, plan: Plan) {
    let book = Objects(app.clone());
    for ip in plan.release {
        tracing::info!(%ip, "releasing an address that no service has");
        book.release(&ip).await;
    }
    for (ip, owner) in plan.claim {
        tracing::info!(%ip, ?owner, "writing down the address of a service");
        if let Err(status) = book.claim(&ip, &owner).await {
            tracing::warn!(%ip, error = %status.message, "could not write down an address");
        }
    }
}

/// Ports without a service, and in how many passes each was so.
#[derive(Default)]
struct Leaks(BTreeMap<u16, u32>);

impl Leaks {
    /// Counts this pass and says which ports were without a service often enough.
    fn count(&mut self, taken: &[u16], used: &BTreeSet<u16>) -> Vec<u16> {
        let now = taken.iter().filter(|p| !used.contains(p));
        self.0 = now.map(|p| (*p, self.0.get(p).copied().unwrap_or(0) + 1)).collect();
        self.0.iter().filter(|(_, n)| **n > ROUNDS).map(|(p, _)| *p).collect()
    }
}

async fn ports(app: &Arc<App>, services: &[Value], leaks: &mut Leaks) -> Result<(), super::ports::Refused> {
    let record = app.node_ports.clone();
    let used: BTreeSet<u16> = services.iter().flat_map(held_ports).collect();
    let taken = record.taken().await?;
    let freed = leaks.count(&taken, &used);
    let missing: Vec<u16> = used.iter().copied().filter(|p| !taken.contains(p)).collect();
    if missing.is_empty() && freed.is_empty() {
        return Ok(());
    }
    tracing::info!(?missing, ?freed, "correcting the record of node ports");
    record.correct(&missing, &freed).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(name: &str, ip: &str) -> Value {
        json!({"metadata": {"namespace": "d", "name": name}, "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip]}})
    }

    fn book(ip: &str, name: &str, since: i64) -> Held {
        let owner = Owner { namespace: "d".into(), name: name.into() };
        Held { ip: ip.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])), owner, since, ours: true }
    }

    #[test]
    fn missing_claims_and_old_leftovers() {
        let services = [service("a", "10.0.0.1"), service("b", "10.0.0.2")];
        let held = [book("10.0.0.1", "a", 0), book("10.0.0.9", "gone", 0), book("10.0.0.8", "coming", 990)];
        let plan = addresses(&services, &held, 1000);
        assert_eq!(plan.release.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.9"]);
        assert_eq!(
            plan.claim.iter().map(|(ip, o)| format!("{ip} {}", o.name)).collect::<Vec<_>>(),
            ["10.0.0.2 b"]
        );
    }

    #[test]
    fn ports_leak_only_after_some_passes() {
        let mut leaks = Leaks::default();
        let used = BTreeSet::from([30001]);
        for _ in 0..3 {
            assert!(leaks.count(&[30000, 30001], &used).is_empty());
        }
        assert_eq!(leaks.count(&[30000, 30001], &used), [30000]);
        assert!(leaks.count(&[30001], &used).is_empty());
    }
}
