//! Watches that feed the catalog.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use parking_lot::RwLock;

use crate::catalog::{Catalog, service, slice};

type Name = (Box<str>, Box<str>);
type Stream<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

/// Keeps the catalog as the cluster is; `synced` is set when it is complete for the first time. Never ends by itself.
pub async fn run(client: Client, catalog: Arc<RwLock<Catalog>>, synced: Arc<AtomicBool>) -> Result<()> {
    let mut namespaces = stream(Api::<Namespace>::all(client.clone()));
    let mut services = stream(Api::<Service>::all(client.clone()));
    let mut slices = stream(Api::<EndpointSlice>::all(client));
    let (mut n, mut s, mut e) = (Listing::default(), Listing::default(), Listing::default());
    loop {
        tokio::select! {
            x = namespaces.next() => follow(x, &mut n, &catalog, &Namespaces)?,
            x = services.next() => follow(x, &mut s, &catalog, &Services)?,
            x = slices.next() => follow(x, &mut e, &catalog, &Slices)?,
        }
        if n.complete && s.complete && e.complete && !synced.swap(true, Ordering::AcqRel) {
            tracing::info!("the catalog is complete");
        }
    }
}

fn stream<K>(api: Api<K>) -> Stream<K>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    K::DynamicType: Clone,
{
    watcher(api, watcher::Config::default().any_semantic())
        .backoff(daemon::patience::Patience::default())
        .boxed()
}

/// Names seen since a listing began.
#[derive(Default)]
struct Listing {
    seen: HashSet<Name>,
    complete: bool,
}

/// How one kind goes into the catalog.
trait Kind<K> {
    fn put(&self, catalog: &mut Catalog, name: &Name, object: Option<&K>);
    fn known(&self, catalog: &Catalog) -> Vec<Name>;
}

struct Namespaces;
struct Services;
struct Slices;

impl Kind<Namespace> for Namespaces {
    fn put(&self, catalog: &mut Catalog, name: &Name, object: Option<&Namespace>) {
        catalog.set_namespace(&name.1, object.is_some());
    }

    fn known(&self, catalog: &Catalog) -> Vec<Name> {
        catalog.namespace_names().into_iter().map(|n| (Box::from(""), n)).collect()
    }
}

impl Kind<Service> for Services {
    fn put(&self, catalog: &mut Catalog, name: &Name, object: Option<&Service>) {
        catalog.set_service(&name.0, &name.1, object.and_then(service));
    }

    fn known(&self, catalog: &Catalog) -> Vec<Name> {
        catalog.names().0
    }
}

impl Kind<EndpointSlice> for Slices {
    fn put(&self, catalog: &mut Catalog, name: &Name, object: Option<&EndpointSlice>) {
        catalog.set_slice(&name.0, &name.1, object.and_then(slice));
    }

    fn known(&self, catalog: &Catalog) -> Vec<Name> {
        catalog.names().1
    }
}

fn follow<K: kube::Resource>(
    event: Option<Result<Event<K>, watcher::Error>>,
    listing: &mut Listing,
    catalog: &RwLock<Catalog>,
    kind: &impl Kind<K>,
) -> Result<()> {
    let name = |o: &K| (o.meta().namespace.as_deref().unwrap_or_default().into(), o.name_any().into());
    match event {
        None => anyhow::bail!("a watch ended"),
        Some(Err(error)) => tracing::warn!(%error, "watching"),
        Some(Ok(Event::Init)) => listing.seen.clear(),
        Some(Ok(Event::InitApply(o))) => {
            let name = name(&o);
            kind.put(&mut catalog.write(), &name, Some(&o));
            listing.seen.insert(name);
        }
        Some(Ok(Event::InitDone)) => {
            let seen = std::mem::take(&mut listing.seen);
            let mut catalog = catalog.write();
            for gone in kind.known(&catalog).into_iter().filter(|n| !seen.contains(n)) {
                kind.put(&mut catalog, &gone, None);
            }
            listing.complete = true;
        }
        Some(Ok(Event::Apply(o))) => kind.put(&mut catalog.write(), &name(&o), Some(&o)),
        Some(Ok(Event::Delete(o))) => kind.put(&mut catalog.write(), &name(&o), None),
    }
    Ok(())
}
