//! PodSecurity: the Pod Security Standards a namespace's labels ask for.

pub mod checks;

use std::sync::Arc;

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin, pods};
use crate::authn::lookup::{Lookup, text};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// The plugin.
pub struct PodSecurity {
    /// Where namespaces are looked up.
    pub objects: Arc<dyn Lookup>,
}

/// How strict a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Anything goes.
    Privileged,
    /// No known ways to more privileges.
    Baseline,
    /// Hardened.
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Level> {
        Some(match text {
            "privileged" => Level::Privileged,
            "baseline" => Level::Baseline,
            "restricted" => Level::Restricted,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// A level, and the release whose rules are meant; only the newest rules are kept, so that is for show.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Policy {
    level: Level,
    version: String,
}

impl Policy {
    /// What a label of the namespace asks for. A label that cannot be read asks for the strictest,
    /// where it enforces; elsewhere for nothing.
    fn of(namespace: &Value, mode: &str) -> Policy {
        let label = |key: String| machinery::meta::label(namespace, &key).unwrap_or_default();
        let wanted = label(format!("{PREFIX}{mode}"));
        let unreadable = if mode == "enforce" { Level::Restricted } else { Level::Privileged };
        let level =
            if wanted.is_empty() { Level::Privileged } else { Level::parse(wanted).unwrap_or(unreadable) };
        let version = label(format!("{PREFIX}{mode}-version"));
        let version = if version.is_empty() { "latest" } else { version };
        Policy { level, version: version.to_owned() }
    }

    /// What a pod violates, in words.
    fn violations(&self, metadata: &Value, spec: &Value) -> Option<String> {
        let faults = checks::run(self.level, metadata, spec);
        let list = faults.join(", ");
        (!faults.is_empty())
            .then(|| format!("violate{{}} PodSecurity \"{}:{}\": {list}", self.level.name(), self.version))
    }
}

/// Kinds that make pods: they are warned about and never refused. The pointer leads to the pod template.
fn template_of(resource: &Resource) -> Option<&'static str> {
    Some(match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "replicationcontrollers") | ("batch", "jobs") => "/spec/template",
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets") => "/spec/template",
        ("batch", "cronjobs") => "/spec/jobTemplate/spec/template",
        ("", "podtemplates") => "/template",
        _ => return None,
    })
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        let pods = pods::is_pods(resource) && matches!(subresource, "" | "ephemeralcontainers");
        let makers = template_of(resource).is_some() && subresource.is_empty();
        matches!(op, Operation::Create | Operation::Update) && (pods || makers)
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let (Some(object), Some(namespace)) =
            (a.object.as_deref(), self.objects.get("namespaces", "", a.namespace))
        else {
            return Ok(());
        };
        let pointer = template_of(a.resource).unwrap_or_default();
        let Some(pod) = object.pointer(pointer) else { return Ok(()) };
        let old = a.old.and_then(|o| o.pointer(pointer));
        if old.is_some_and(|old| !significant(old, pod)) {
            return Ok(());
        }
        let (metadata, spec) =
            (pod.get("metadata").unwrap_or(&Value::Null), pod.get("spec").unwrap_or(&Value::Null));
        if pods::is_pods(a.resource)
            && let Some(why) = Policy::of(&namespace, "enforce").violations(metadata, spec)
        {
            return Err(a.forbidden(why.replacen("{}", "s", 1)));
        }
        if let Some(why) = Policy::of(&namespace, "warn").violations(metadata, spec) {
            a.warnings.add(format!("would {}", why.replacen("{}", "", 1)));
        }
        Ok(())
    }
}

/// Whether a change could matter: containers come, or change what they are allowed.
fn significant(old: &Value, new: &Value) -> bool {
    let shape = |pod: &Value| {
        let list: Vec<(String, Value)> = pods::containers(pod)
            .map(|c| (text(c, "/name").to_owned(), c.get("securityContext").cloned().unwrap_or_default()))
            .collect();
        let spec = pod.get("spec").cloned().unwrap_or_default();
        let own: Vec<Value> = ["securityContext", "volumes", "hostNetwork", "hostPID", "hostIPC"]
            .iter()
            .map(|k| spec.get(k).cloned().unwrap_or_default())
            .collect();
        (list, own)
    };
    shape(old) != shape(new)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels() {
        let namespace = |labels: Value| json!({"metadata": {"labels": labels}});
        for (labels, mode, level, version) in [
            (json!({}), "enforce", Level::Privileged, "latest"),
            (json!({"pod-security.kubernetes.io/enforce": "baseline"}), "enforce", Level::Baseline, "latest"),
            (json!({"pod-security.kubernetes.io/enforce": "baseline"}), "warn", Level::Privileged, "latest"),
            (json!({"pod-security.kubernetes.io/enforce": "what"}), "enforce", Level::Restricted, "latest"),
            (
                json!({"pod-security.kubernetes.io/warn": "restricted", "pod-security.kubernetes.io/warn-version": "v1.30"}),
                "warn",
                Level::Restricted,
                "v1.30",
            ),
        ] {
            assert_eq!(Policy::of(&namespace(labels), mode), Policy { level, version: version.into() });
        }
    }

    #[test]
    fn words() {
        let policy = Policy { level: Level::Restricted, version: "latest".into() };
        let spec = json!({"containers": [{"name": "c"}]});
        let want = "violate{} PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set \
            securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set \
            securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set \
            securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set \
            securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
        assert_eq!(policy.violations(&Value::Null, &spec).as_deref(), Some(want));
        let policy = Policy { level: Level::Baseline, ..policy };
        assert_eq!(policy.violations(&Value::Null, &spec), None);
    }
}
