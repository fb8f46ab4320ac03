//! Profiles of debugging: what a debugging container may do.

use super::make::Target;
use serde_json::{Map, Value, json};

/// The profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    Legacy,
    General,
    Baseline,
    Restricted,
    Netadmin,
    Sysadmin,
}

/// What of a pod its copy keeps.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    pub labels: bool,
    pub annotations: bool,
    pub liveness: bool,
    pub readiness: bool,
    pub startup: bool,
    pub init_containers: bool,
}

impl Profile {
    /// The profile of that name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "legacy" => Self::Legacy,
            "general" => Self::General,
            "baseline" => Self::Baseline,
            "restricted" => Self::Restricted,
            "netadmin" => Self::Netadmin,
            "sysadmin" => Self::Sysadmin,
            _ => return None,
        })
    }

    /// Changes a pod and its debugging container by the profile.
    pub fn apply(self, pod: &mut Value, name: &str, target: Target, keep: Keep) {
        if self == Self::Legacy && target == Target::Copy {
            remove(&mut pod["metadata"], "labels");
            return;
        }
        for container in containers(pod, name) {
            self.rights(container, target);
        }
        match target {
            Target::Ephemeral => {}
            Target::Copy => {
                strip(pod, keep);
                if pod["spec"]["shareProcessNamespace"].is_null() {
                    pod["spec"]["shareProcessNamespace"] = true.into();
                }
            }
            Target::Node => self.on_node(pod, name),
        }
    }

    fn rights(self, container: &mut Value, target: Target) {
        match self {
            Self::Legacy => {}
            Self::General if target == Target::Node => remove(container, "securityContext"),
            Self::General => grant(container, &["SYS_PTRACE"]),
            Self::Baseline => remove(container, "securityContext"),
            Self::Restricted => {
                container["securityContext"] = json!({
                    "runAsNonRoot": true,
                    "capabilities": {"drop": ["ALL"]},
                    "allowPrivilegeEscalation": false,
                    "seccompProfile": {"type": "RuntimeDefault"},
                });
            }
            Self::Netadmin => grant(container, &["NET_ADMIN", "NET_RAW"]),
            Self::Sysadmin => object(container, "securityContext")["privileged"] = true.into(),
        }
    }

    fn on_node(self, pod: &mut Value, name: &str) {
        if matches!(self, Self::Legacy | Self::General | Self::Sysadmin) {
            mount_root(pod, name);
        }
        if !matches!(self, Self::Baseline | Self::Restricted) {
            for field in ["hostNetwork", "hostPID", "hostIPC"] {
                pod["spec"][field] = true.into();
            }
        }
    }
}

fn remove(value: &mut Value, field: &str) {
    if let Some(map) = value.as_object_mut() {
        map.remove(field);
    }
}

/// The containers of that name, of all kinds.
fn containers<'a>(pod: &'a mut Value, name: &str) -> Vec<&'a mut Value> {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Vec::new() };
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let lists = spec.iter_mut().filter(|(field, _)| lists.contains(&field.as_str()));
    lists.filter_map(|(_, list)| list.as_array_mut()).flatten().filter(|one| one["name"] == name).collect()
}

/// The object in a field, made if it isn't there.
fn object<'a>(value: &'a mut Value, field: &str) -> &'a mut Value {
    if !value[field].is_object() {
        value[field] = Value::Object(Map::new());
    }
    &mut value[field]
}

fn grant(container: &mut Value, capabilities: &[&str]) {
    let held = object(object(container, "securityContext"), "capabilities");
    let mut list = held["add"].as_array().cloned().unwrap_or_default();
    list.extend(capabilities.iter().map(|one| Value::from(*one)));
    held["add"] = list.into();
}

fn mount_root(pod: &mut Value, name: &str) {
    let mut volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    volumes.push(json!({"name": "host-root", "hostPath": {"path": "/"}}));
    pod["spec"]["volumes"] = volumes.into();
    for container in containers(pod, name) {
        let mut mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
        mounts.push(json!({"name": "host-root", "mountPath": "/host"}));
        container["volumeMounts"] = mounts.into();
    }
}

/// Takes from a copy what would make it take part in the work of the original.
fn strip(pod: &mut Value, keep: Keep) {
    for (field, kept) in [("labels", keep.labels), ("annotations", keep.annotations)] {
        if !kept {
            remove(&mut pod["metadata"], field);
        }
    }
    if !keep.init_containers {
        remove(&mut pod["spec"], "initContainers");
    }
    let probes = [
        ("livenessProbe", keep.liveness),
        ("readinessProbe", keep.readiness),
        ("startupProbe", keep.startup),
    ];
    for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
        for (probe, _) in probes.iter().filter(|(_, kept)| !kept) {
            remove(container, probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Keep = Keep {
        labels: false,
        annotations: false,
        liveness: false,
        readiness: false,
        startup: false,
        init_containers: true,
    };

    fn applied(profile: Profile, target: Target, pod: Value) -> Value {
        let mut pod = pod;
        profile.apply(&mut pod, "d", target, KEEP);
        pod
    }

    #[test]
    fn ephemeral_containers_get_their_rights() {
        let pod =
            || json!({"metadata": {}, "spec": {"ephemeralContainers": [{"name": "d"}, {"name": "other"}]}});
        let table = [
            (Profile::Legacy, json!({"name": "d"})),
            (
                Profile::General,
                json!({"name": "d", "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}}),
            ),
            (Profile::Baseline, json!({"name": "d"})),
            (
                Profile::Netadmin,
                json!({"name": "d", "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}}),
            ),
            (Profile::Sysadmin, json!({"name": "d", "securityContext": {"privileged": true}})),
        ];
        for (profile, wanted) in table {
            let pod = applied(profile, Target::Ephemeral, pod());
            assert_eq!(pod["spec"]["ephemeralContainers"], json!([wanted, {"name": "other"}]), "{profile:?}");
        }
    }

    #[test]
    fn copies_don_t_take_part_in_the_work() {
        let pod = json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": {"containers": [{"name": "d", "livenessProbe": {}}]}});
        let copy = applied(Profile::Baseline, Target::Copy, pod.clone());
        assert_eq!(
            copy,
            json!({"metadata": {}, "spec": {"containers": [{"name": "d"}], "shareProcessNamespace": true}})
        );
        let copy = applied(Profile::Legacy, Target::Copy, pod);
        assert_eq!(copy["metadata"], json!({"annotations": {"c": "d"}}));
    }

    #[test]
    fn pods_on_nodes_see_the_node() {
        let pod = || json!({"metadata": {}, "spec": {"containers": [{"name": "d"}]}});
        for (profile, hosts, root) in [
            (Profile::Legacy, true, true),
            (Profile::General, true, true),
            (Profile::Baseline, false, false),
            (Profile::Restricted, false, false),
            (Profile::Netadmin, true, false),
            (Profile::Sysadmin, true, true),
        ] {
            let pod = applied(profile, Target::Node, pod());
            assert_eq!(
                (pod["spec"]["hostPID"] == true, pod["spec"]["volumes"].is_array()),
                (hosts, root),
                "{profile:?}"
            );
        }
    }
}
