//! Claims on addresses, kept as Leases that the nodes' network agents hold.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use control::Cache;
use control::cache::Options;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams, Preconditions};
use parking_lot::Mutex;

use super::pool::{Claim, Party, Plan, Pool, Request, View, plan};
use crate::Context;
use crate::provider::Waker;

/// Where the Leases are.
pub const NAMESPACE: &str = "coxswain-load-balancer";
/// The address a Lease is for.
pub const ADDRESS: &str = "coxswain.io/address";
/// The Services that use it, as JSON; agents read `namespace`, `name` and `local` of each.
pub const SERVICES: &str = "coxswain.io/services";
/// On which links the address may be announced, a regular expression.
pub const INTERFACES: &str = "coxswain.io/interfaces";
/// Seconds after which another node takes over from one that does not renew.
const SECONDS: i32 = 5;
/// Others may take the address that was chosen; so often another is chosen.
const TRIES: usize = 20;

/// The claims there are.
#[derive(Clone)]
pub struct Claims {
    api: Api<Lease>,
    client: kube::Client,
    cache: Cache<Lease>,
    nodes: Cache<Node>,
    waker: Arc<Mutex<Option<Waker>>>,
}

/// The Lease's name: the address in letters that names may have.
pub fn lease_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => expanded(ip),
    }
}

fn expanded(ip: Ipv6Addr) -> String {
    ip.segments().iter().map(|s| format!("{s:04x}")).collect::<Vec<_>>().join("-")
}

fn read(lease: &Lease) -> Option<Claim> {
    let note = |key: &str| lease.metadata.annotations.as_ref()?.get(key);
    let address = note(ADDRESS)?.parse().ok()?;
    let parties = note(SERVICES).and_then(|s| serde_json::from_str(s).ok()).unwrap_or_default();
    Some(Claim { address, parties })
}

fn write(lease: &mut Lease, claim: &Claim) -> Result<()> {
    let notes = lease.metadata.annotations.get_or_insert_default();
    notes.insert(ADDRESS.into(), claim.address.to_string());
    notes.insert(SERVICES.into(), serde_json::to_string(&claim.parties)?);
    Ok(())
}

fn restrict(lease: &mut Lease, claim: &Claim, pools: &[Pool]) {
    let notes = lease.metadata.annotations.get_or_insert_default();
    match pools.iter().find(|p| p.has(claim.address)).and_then(|p| p.interfaces.clone()) {
        Some(pattern) => notes.insert(INTERFACES.into(), pattern),
        None => notes.remove(INTERFACES),
    };
}

impl Claims {
    /// Starts watching.
    pub fn start(context: &Context) -> Self {
        let api: Api<Lease> = Api::namespaced(context.client.clone(), NAMESPACE);
        let cache = Cache::start(api.clone(), Options::default(), &context.tasks);
        let waker: Arc<Mutex<Option<Waker>>> = Arc::default();
        let called = waker.clone();
        cache.handle(move |event| {
            let parties = |lease: &Option<Arc<Lease>>| {
                lease.as_ref().and_then(|l| read(l)).map_or(0, |claim| claim.parties.len())
            };
            if parties(&event.new) < parties(&event.old)
                && let Some(waker) = called.lock().as_ref()
            {
                waker();
            }
        });
        let (client, nodes) = (context.client.clone(), context.nodes.clone());
        Self { api, client, cache, nodes, waker }
    }

    /// Whom to call when an address became free.
    pub fn wake(&self, waker: Waker) {
        *self.waker.lock() = Some(waker);
    }

    /// Frees what Services have that are no more. Services that end while this process runs are told of one by one.
    pub fn tidy(&self, context: &Context) {
        let (claims, services) = (self.clone(), context.services.clone());
        context.tasks.spawn_result("claims of services that are gone", async move {
            claims.cache.synced().await;
            services.synced().await;
            for uid in claims.strays(&services) {
                tracing::info!(uid, "a service is gone, its address is free");
                if let Err(error) = claims.release_all(&uid).await {
                    tracing::warn!("{error:#}");
                }
            }
            Ok(())
        });
    }

    fn strays(&self, services: &Cache<Service>) -> Vec<String> {
        let parties = self.cache.list().into_iter().filter_map(|l| read(&l)).flat_map(|c| c.parties);
        let gone = |p: &Party| {
            let found = services.get(&p.namespace, &p.name);
            found.is_none_or(|s| s.metadata.uid.as_deref() != Some(&p.uid))
        };
        parties.filter(gone).map(|p| p.uid).collect()
    }

    fn all(&self) -> Vec<Claim> {
        self.cache.list().iter().filter_map(|l| read(l)).collect()
    }

    /// Addresses of the Service of this uid.
    pub fn of(&self, uid: &str) -> Vec<IpAddr> {
        let mut own: Vec<IpAddr> =
            self.all().into_iter().filter(|c| c.is_of(uid)).map(|c| c.address).collect();
        own.sort();
        own
    }

    fn node_addresses(&self) -> Vec<IpAddr> {
        let nodes = self.nodes.list();
        let all = nodes.iter().filter_map(|n| n.status.as_ref()?.addresses.as_ref()).flatten();
        all.filter_map(|a| a.address.parse().ok()).collect()
    }

    /// Gives a Service its addresses.
    ///
    /// # Errors
    /// When there are none for it, or the API server refuses.
    pub async fn ensure(&self, pools: &[Pool], request: &Request) -> Result<Vec<IpAddr>> {
        self.cache.synced().await;
        let nodes = self.node_addresses();
        // What is learned by trying is newer than the cache.
        let mut learned: BTreeMap<IpAddr, Option<Claim>> = BTreeMap::new();
        for _ in 0..TRIES {
            let mut claims = self.all();
            claims.retain(|c| !learned.contains_key(&c.address));
            claims.extend(learned.values().flatten().cloned());
            let plan = plan(request, &View { pools, claims: &claims, nodes: &nodes })?;
            if self.carry_out(&plan, pools, request, &mut learned).await? {
                return Ok(plan.keep.into_iter().chain(plan.take).collect());
            }
        }
        bail!("others took every address that was chosen; trying again later")
    }

    /// True when all went as planned; otherwise `learned` says what is different.
    async fn carry_out(
        &self,
        plan: &Plan,
        pools: &[Pool],
        request: &Request,
        learned: &mut BTreeMap<IpAddr, Option<Claim>>,
    ) -> Result<bool> {
        for ip in plan.keep.iter().chain(&plan.take) {
            let (claim, ours) = self.claim(*ip, pools, request).await?;
            learned.insert(*ip, Some(claim));
            if !ours {
                return Ok(false);
            }
        }
        for ip in &plan.release {
            self.release(*ip, &request.party.uid).await?;
        }
        Ok(true)
    }

    /// Puts the Service among the parties of an address: the claim as it is then, and whether that succeeded.
    async fn claim(&self, ip: IpAddr, pools: &[Pool], request: &Request) -> Result<(Claim, bool)> {
        let name = lease_name(ip);
        let known = self.cache.get(NAMESPACE, &name);
        let mut current = known.map(|l| (*l).clone());
        for _ in 0..TRIES {
            let Some(lease) = current else {
                let claim = Claim { address: ip, parties: vec![request.party.clone()] };
                match self.create(&name, &claim, pools).await {
                    Ok(()) => return Ok((claim, true)),
                    Err(error) if code(&error) == Some(409) => {}
                    Err(error) => return Err(error),
                }
                current = self.fetch(&name).await?;
                continue;
            };
            let before = read(&lease).unwrap_or(Claim { address: ip, parties: Vec::new() });
            let after = joined(&before, &request.party);
            // Somebody is in the way that the plan did not know of.
            let only = Claim {
                parties: before.parties.iter().filter(|p| p.uid != request.party.uid).cloned().collect(),
                ..before.clone()
            };
            let view = View { pools, claims: &[only], nodes: &[] };
            if !before.is_of(&request.party.uid)
                && super::pool::plan(&Request { wish: vec![ip], pool: None, ..request.clone() }, &view)
                    .is_err()
            {
                return Ok((before, false));
            }
            let mut changed = lease.clone();
            write(&mut changed, &after)?;
            restrict(&mut changed, &after, pools);
            if changed.metadata.annotations == lease.metadata.annotations {
                return Ok((after, true));
            }
            match self.replace(&name, &changed).await {
                Ok(()) => return Ok((after, true)),
                Err(error) if matches!(code(&error), Some(404 | 409)) => current = self.fetch(&name).await?,
                Err(error) => return Err(error),
            }
        }
        bail!("the lease {NAMESPACE}/{name} changes faster than it can be written")
    }

    /// Takes a Service out of all its claims.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn release_all(&self, uid: &str) -> Result<()> {
        for ip in self.of(uid) {
            self.release(ip, uid).await?;
        }
        Ok(())
    }

    async fn release(&self, ip: IpAddr, uid: &str) -> Result<()> {
        let name = lease_name(ip);
        let mut current = self.cache.get(NAMESPACE, &name).map(|l| (*l).clone());
        for _ in 0..TRIES {
            let Some(lease) = current else { return Ok(()) };
            let Some(mut claim) = read(&lease).filter(|c| c.is_of(uid)) else { return Ok(()) };
            claim.parties.retain(|p| p.uid != uid);
            let done = match claim.parties.is_empty() {
                true => self.delete(&name, &lease).await,
                false => {
                    let mut changed = lease.clone();
                    write(&mut changed, &claim)?;
                    self.replace(&name, &changed).await
                }
            };
            match done {
                Ok(()) => return Ok(()),
                Err(error) if code(&error) == Some(404) => return Ok(()),
                Err(error) if code(&error) == Some(409) => current = self.fetch(&name).await?,
                Err(error) => return Err(error),
            }
        }
        bail!("the lease {NAMESPACE}/{name} changes faster than it can be written")
    }

    async fn fetch(&self, name: &str) -> Result<Option<Lease>> {
        within(self.api.get_opt(name)).await
    }

    async fn replace(&self, name: &str, lease: &Lease) -> Result<()> {
        within(self.api.replace(name, &PostParams::default(), lease)).await.map(drop)
    }

    async fn delete(&self, name: &str, lease: &Lease) -> Result<()> {
        let meta = &lease.metadata;
        let same = Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        within(self.api.delete(name, &params)).await.map(drop)
    }

    async fn create(&self, name: &str, claim: &Claim, pools: &[Pool]) -> Result<()> {
        let spec = LeaseSpec { lease_duration_seconds: Some(SECONDS), ..LeaseSpec::default() };
        let meta = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        let mut lease = Lease { metadata: meta, spec: Some(spec), ..Lease::default() };
        write(&mut lease, claim)?;
        restrict(&mut lease, claim, pools);
        let params = PostParams::default();
        match within(self.api.create(&params, &lease)).await {
            Err(error) if code(&error) == Some(404) => self.make_namespace().await?,
            other => return other.map(drop),
        }
        within(self.api.create(&params, &lease)).await.map(drop)
    }

    async fn make_namespace(&self) -> Result<()> {
        let meta = ObjectMeta { name: Some(NAMESPACE.into()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata: meta, ..Namespace::default() };
        let all: Api<Namespace> = Api::all(self.client.clone());
        match within(all.create(&PostParams::default(), &namespace)).await {
            Err(error) if code(&error) != Some(409) => {
                Err(error).context("making the namespace of addresses")
            }
            _ => Ok(()),
        }
    }
}

/// The claim with the Service among its parties, as it is now.
fn joined(claim: &Claim, party: &Party) -> Claim {
    let mut all = claim.clone();
    match all.parties.iter_mut().find(|p| p.uid == party.uid) {
        Some(old) => *old = party.clone(),
        None => all.parties.push(party.clone()),
    }
    all
}

async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T> {
    let answer = tokio::time::timeout(std::time::Duration::from_secs(10), call).await;
    answer.map_err(|_| anyhow!("the API server does not answer"))?.map_err(Into::into)
}

fn code(error: &anyhow::Error) -> Option<u16> {
    match error.downcast_ref() {
        Some(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_named_after_addresses() {
        assert_eq!(lease_name("10.0.0.7".parse().unwrap()), "10.0.0.7");
        assert_eq!(lease_name("fd00::7".parse().unwrap()), "fd00-0000-0000-0000-0000-0000-0000-0007");
    }

    #[test]
    fn a_claim_survives_its_lease() {
        let party =
            Party { name: "s".into(), uid: "u".into(), ports: vec!["TCP/80".into()], ..Party::default() };
        let claim = Claim { address: "10.0.0.7".parse().unwrap(), parties: vec![party] };
        let mut lease = Lease::default();
        write(&mut lease, &claim).unwrap();
        assert_eq!(read(&lease), Some(claim.clone()));
        let changed = Party { ports: vec!["TCP/81".into()], ..claim.parties[0].clone() };
        assert_eq!(joined(&claim, &changed).parties, [changed]);
        assert_eq!(read(&Lease::default()), None);
    }
}
