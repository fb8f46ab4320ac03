//! Reading what a description needs besides its object.

use super::ingress;
use super::list::Reads;
use super::subject::Subject;
use super::template;
use crate::dig;
use coxctl_kit::{Call, Cluster, Error, Result};
use jiff::Timestamp;
use serde_json::Value;

/// How things are read.
#[derive(Clone, Copy)]
pub struct Settings {
    pub show_events: bool,
    /// Items a page of a list; 0 reads lists whole.
    pub chunk: u32,
}

/// What an annotation of a mirror pod names in place of its uid.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Makes the subject of a description.
///
/// # Errors
/// When the server refuses what the description can't do without.
pub async fn subject(cluster: &Cluster, object: Value, reads: Reads, settings: Settings) -> Result<Subject> {
    let mut subject = Subject { object, now: Timestamp::now(), ..Subject::default() };
    let reader = Reader { cluster, settings };
    match reads {
        Reads::Nothing => return Ok(subject),
        Reads::Events | Reads::PodEvents => {}
        Reads::Pods => reader.pods(&mut subject).await?,
        Reads::ReplicaSets => reader.replica_sets(&mut subject).await,
        Reads::Slices => reader.slices(&mut subject).await,
        Reads::Backends => reader.backends(&mut subject).await,
        Reads::Node => reader.node(&mut subject).await?,
        Reads::Quotas => return reader.quotas(subject).await,
        Reads::Users => reader.users(&mut subject).await?,
        Reads::Autoscaler => reader.autoscaler(&mut subject).await,
    }
    if settings.show_events {
        subject.events = reader.events(&subject.object, reads).await;
    }
    Ok(subject)
}

struct Reader<'a> {
    cluster: &'a Cluster,
    settings: Settings,
}

impl Reader<'_> {
    /// All items of a list.
    async fn list(&self, path: &str, labels: &str, fields: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let limit = (self.settings.chunk > 0).then(|| self.settings.chunk.to_string());
            let call = Call::get(path)
                .query_some("continue", next)
                .query_some("fieldSelector", some(fields))
                .query_some("labelSelector", some(labels))
                .query_some("limit", limit);
            let mut page = self.cluster.send(call).await?.json()?;
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            next = dig::at(&page, "metadata.continue")
                .as_str()
                .filter(|token| !token.is_empty())
                .map(str::to_string);
            if next.is_none() {
                return Ok(items);
            }
        }
    }

    /// The events of an object; an empty list where they can't be read.
    async fn events(&self, object: &Value, reads: Reads) -> Option<Vec<Value>> {
        let uid = match object["metadata"]["annotations"].get(MIRROR).and_then(Value::as_str) {
            Some(hash) if reads == Reads::PodEvents => hash,
            _ => dig::text(object, "metadata.uid"),
        };
        let kind = if reads == Reads::PodEvents { "" } else { dig::text(object, "kind") };
        let mut events = self.events_of(object, kind, uid).await.unwrap_or_default();
        if reads == Reads::Node {
            // A kubelet knows its node by name alone when it speaks of it.
            let name = dig::text(object, "metadata.name");
            events.extend(self.events_of(object, kind, name).await.unwrap_or_default());
        }
        Some(events)
    }

    async fn events_of(&self, object: &Value, kind: &str, uid: &str) -> Result<Vec<Value>> {
        let (name, namespace) = (dig::text(object, "metadata.name"), dig::text(object, "metadata.namespace"));
        let mut fields = format!("involvedObject.name={name},involvedObject.namespace={namespace}");
        for (field, value) in [("kind", kind), ("uid", uid)] {
            if !value.is_empty() {
                fields += &format!(",involvedObject.{field}={value}");
            }
        }
        self.list(&path("/api/v1", namespace, "events"), "", &fields).await
    }

    async fn pods(&self, subject: &mut Subject) -> Result<()> {
        let object = &subject.object;
        let selector = match dig::text(object, "kind") {
            "ReplicationController" => {
                let labels = dig::strings(object, "spec.selector");
                labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
            }
            _ => dig::selector(&object["spec"]["selector"]).map_err(Error::message)?,
        };
        let path = path("/api/v1", dig::text(object, "metadata.namespace"), "pods");
        match self.list(&path, &selector, "").await {
            Ok(pods) => subject.pods = pods,
            Err(error) if dig::text(object, "kind") == "ReplicaSet" => {
                subject.refused = Some(error.to_string())
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn replica_sets(&self, subject: &mut Subject) {
        let object = &subject.object;
        let Ok(selector) = dig::selector(&object["spec"]["selector"]) else { return };
        let path = path("/apis/apps/v1", dig::text(object, "metadata.namespace"), "replicasets");
        if let Ok(sets) = self.list(&path, &selector, "").await {
            subject.replica_sets = template::old_and_new(object, sets);
        }
    }

    /// The endpoint slices of a service. They are not read in pages.
    async fn slices_of(&self, namespace: &str, service: &str) -> Result<Vec<Value>> {
        let reader = Reader { cluster: self.cluster, settings: Settings { chunk: 0, ..self.settings } };
        let path = path("/apis/discovery.k8s.io/v1", namespace, "endpointslices");
        reader.list(&path, &format!("kubernetes.io/service-name={service}"), "").await
    }

    async fn slices(&self, subject: &mut Subject) {
        let name = subject.name().to_string();
        let namespace = dig::text(&subject.object, "metadata.namespace").to_string();
        let slices = self.slices_of(&namespace, &name).await.map_err(|error| error.to_string());
        subject.slices.insert(name, slices);
    }

    async fn backends(&self, subject: &mut Subject) {
        let namespace = dig::text(&subject.object, "metadata.namespace").to_string();
        let names: Vec<String> = ingress::services(&subject.object).into_iter().map(str::to_string).collect();
        for name in names {
            let slices = self.slices_of(&namespace, &name).await.map_err(|error| error.to_string());
            let path =
                format!("{}/{}", path("/api/v1", &namespace, "services"), coxctl_kit::kind::escape(&name));
            let service = self.one(&path).await.map_err(|error| error.to_string());
            subject.slices.insert(name.clone(), slices);
            subject.services.insert(name, service);
        }
    }

    async fn one(&self, path: &str) -> Result<Value> {
        self.cluster.send(Call::get(path)).await?.json()
    }

    async fn node(&self, subject: &mut Subject) -> Result<()> {
        let name = subject.name().to_string();
        let fields = format!("spec.nodeName={name},status.phase!=Failed,status.phase!=Succeeded");
        match self.list("/api/v1/pods", "", &fields).await {
            Ok(pods) => subject.pods = pods,
            Err(error) if error.is("Forbidden") => subject.refused = Some(error.to_string()),
            Err(error) => return Err(error),
        }
        let slices =
            self.list("/apis/resource.k8s.io/v1/resourceslices", "", &format!("spec.nodeName={name}")).await;
        subject.resource_slices = slices.unwrap_or_default();
        let lease = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}");
        subject.lease = Some(self.one(&lease).await.map_err(|error| error.to_string()));
        Ok(())
    }

    async fn quotas(&self, mut subject: Subject) -> Result<Subject> {
        let name = subject.name().to_string();
        subject.quotas = known(self.list(&path("/api/v1", &name, "resourcequotas"), "", "").await)?;
        subject.limit_ranges = known(self.list(&path("/api/v1", &name, "limitranges"), "", "").await)?;
        Ok(subject)
    }

    /// The older versions don't tell all.
    async fn autoscaler(&self, subject: &mut Subject) {
        if dig::text(&subject.object, "apiVersion") == "autoscaling/v2" {
            return;
        }
        let namespace = dig::text(&subject.object, "metadata.namespace");
        let all = path("/apis/autoscaling/v2", namespace, "horizontalpodautoscalers");
        let path = format!("{all}/{}", coxctl_kit::kind::escape(subject.name()));
        if let Ok(newer) = self.one(&path).await {
            subject.object = newer;
        }
    }

    async fn users(&self, subject: &mut Subject) -> Result<()> {
        let object = &subject.object;
        let (name, owners) = (subject.name(), dig::items(object, "metadata.ownerReferences"));
        let mut pods =
            self.list(&path("/api/v1", dig::text(object, "metadata.namespace"), "pods"), "", "").await?;
        let claims = |pod: &Value| {
            let claim = |volume: &Value| dig::text(volume, "persistentVolumeClaim.claimName") == name;
            dig::items(pod, "spec.volumes").iter().any(claim)
        };
        let owns = |pod: &Value| {
            let uid = dig::text(pod, "metadata.uid");
            owners.iter().any(|owner| dig::text(owner, "kind") == "Pod" && dig::text(owner, "uid") == uid)
        };
        pods.retain(|pod| claims(pod) || owns(pod));
        subject.pods = pods;
        Ok(())
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

/// The path of a collection in a namespace, or of all when there is none.
fn path(root: &str, namespace: &str, plural: &str) -> String {
    match namespace {
        "" => format!("{root}/{plural}"),
        namespace => format!("{root}/namespaces/{}/{plural}", coxctl_kit::kind::escape(namespace)),
    }
}

/// A list the server may not have at all.
fn known(list: Result<Vec<Value>>) -> Result<Option<Vec<Value>>> {
    match list {
        Ok(list) => Ok(Some(list)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
