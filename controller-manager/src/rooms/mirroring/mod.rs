//! EndpointSlices for Endpoints that somebody keeps by hand, for Services without a selector.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::endpointslice::plan::SERVICE_LABEL;
use crate::kit::meta::{label, namespace};
use crate::kit::seen::Seen;
use crate::kit::slices::{Slices, sizes};
use crate::kit::{Context, Plan, Step};
use plan::{Observed, ours, plan};

const PREFIX: &str = "endpoint_slice_mirroring_controller";
const MIRRORED: &str = "mirrored";

struct Room {
    context: Context,
    services: Cache<Service>,
    endpoints: Cache<Endpoints>,
    slices: Cache<EndpointSlice>,
    seen: Seen<Key>,
    counts: Slices,
    updated: Histogram,
    skipped: Histogram,
    took: Histogram,
}

/// Starts the controller.
pub fn start(context: Context) {
    let room = Arc::new(Room {
        services: context.caches.of(),
        endpoints: context.caches.of(),
        slices: context.caches.of(),
        seen: Seen::default(),
        counts: Slices::register(&context.metrics, PREFIX),
        updated: histogram(
            &context,
            "endpoints_updated_per_sync",
            "Number of endpoints updated on each sync",
            sizes(),
        ),
        skipped: histogram(
            &context,
            "addresses_skipped_per_sync",
            "Number of addresses skipped on each sync due to being invalid or too many",
            sizes(),
        ),
        took: histogram(
            &context,
            "endpoints_sync_duration",
            "Duration of syncing one Endpoints object in seconds",
            Histogram::new(exponential_buckets(0.001, 2.0, 15)),
        ),
        context: context.clone(),
    });
    room.slices.add_index(MIRRORED, |slice: &EndpointSlice| {
        source_of(slice).map(|k| k.to_string()).into_iter().collect()
    });
    let queue = Queue::with_backoff(Duration::from_secs(1), Duration::from_secs(100));
    let q = queue.clone();
    room.services.handle(move |event| q.add(event.key.clone()));
    let q = queue.clone();
    room.endpoints.handle(move |event| q.add(event.key.clone()));
    let q = queue.clone();
    room.slices.handle(move |event| {
        event.old.iter().chain(&event.new).filter_map(|s| source_of(s)).for_each(|k| q.add(k));
    });
    let workers = context.config.mirroring_concurrent_service_endpoint_syncs;
    context.run(Options::new("endpointslice-mirroring-controller", workers), queue, move |key| {
        let room = room.clone();
        async move {
            let began = tokio::time::Instant::now();
            let outcome = room.sync(key).await;
            room.took.observe(began.elapsed().as_secs_f64());
            outcome
        }
    });
}

fn histogram(context: &Context, what: &str, help: &str, made: Histogram) -> Histogram {
    context.metrics.register(&format!("{PREFIX}_{what}"), help, made)
}

/// The Endpoints object a slice of ours mirrors.
fn source_of(slice: &EndpointSlice) -> Option<Key> {
    let name = label(&slice.metadata, SERVICE_LABEL).filter(|_| ours(slice))?;
    Some(Key::new(namespace(&slice.metadata), name))
}

impl Room {
    async fn sync(&self, key: Key) -> Outcome {
        if self.seen.behind(&key, self.slices.resource_version()) {
            // The slice's event wakes us; the time is for the event that never comes.
            return Ok(Some(Duration::from_secs(1)));
        }
        let (endpoints, service) = (self.endpoints.get_key(&key), self.services.get_key(&key));
        let slices = self.slices.by_index(MIRRORED, &key.to_string());
        let slices: Vec<_> = slices.iter().map(|s| &**s).collect();
        let max = self.context.config.mirroring_max_endpoints_per_subset.clamp(1, 1000);
        let observed = Observed { endpoints: endpoints.as_deref(), service: service.as_deref(), slices, max };
        let (plan, skipped) = plan(&observed);
        self.note(&key, &observed, &plan, skipped);
        for step in plan.steps {
            match &step {
                Step::Write(write) | Step::Vanishing(write) => match self.context.writer.send(write).await {
                    Ok(answer) => self.seen.wrote(key.clone(), &answer),
                    Err(failure) if failure.not_found() || failure.namespace_terminating() => {}
                    Err(failure) => return Err(failure.into()),
                },
                Step::Event { object, kind, reason, message } => {
                    self.context.recorder.record(object, *kind, reason, message.clone());
                }
            }
        }
        Ok(None)
    }

    /// Counts what is about to be done.
    fn note(&self, key: &Key, observed: &Observed<'_>, plan: &Plan, skipped: usize) {
        if observed.endpoints.is_none() && observed.slices.is_empty() {
            return self.counts.forget(key);
        }
        let writes = plan.steps.iter().filter_map(|step| match step {
            Step::Write(write) | Step::Vanishing(write) => Some(write),
            Step::Event { .. } => None,
        });
        // A slice here has all addresses of its ports, however many.
        let changed = self.counts.looked(key, &observed.slices, &writes.collect::<Vec<_>>(), usize::MAX);
        self.updated.observe(changed.updated as f64);
        self.skipped.observe(skipped as f64);
    }
}
