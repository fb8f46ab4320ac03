//! The rules of the Pod Security Standards. Each answers what is wrong, in upstream's words, or nothing. Pure.

use serde_json::Value;

use super::Level;
use crate::authn::lookup::{items, text};

/// Capabilities a container may add at the baseline level.
const BASELINE_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Sysctls that are safe.
const SYSCTLS: [&str; 11] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_rmem",
];
/// Volume types of the restricted level.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// SELinux types anybody may ask for.
const SELINUX: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

type Check = fn(&Value, &Value) -> Option<String>;

/// Rules of the baseline level; the flag marks those that a stricter one of the restricted level replaces.
const BASELINE: [(Check, bool); 12] = [
    (app_armor, false),
    (capabilities_baseline, true),
    (host_namespaces, false),
    (host_path, true),
    (host_ports, false),
    (host_probes, false),
    (privileged, false),
    (proc_mount, false),
    (selinux, false),
    (seccomp_baseline, true),
    (sysctls, false),
    (windows_host_process, false),
];
const RESTRICTED: [Check; 6] = [
    privilege_escalation,
    capabilities_restricted,
    volumes,
    run_as_non_root,
    run_as_user,
    seccomp_restricted,
];

/// What a pod violates at a level.
pub fn run(level: Level, metadata: &Value, spec: &Value) -> Vec<String> {
    let strict = level == Level::Restricted;
    let mut out = Vec::new();
    if level >= Level::Baseline {
        let kept = BASELINE.iter().filter(|(_, replaced)| !(strict && *replaced));
        out.extend(kept.filter_map(|(check, _)| check(metadata, spec)));
    }
    if strict {
        out.extend(RESTRICTED.iter().filter_map(|check| check(metadata, spec)));
    }
    out
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["/initContainers", "/containers", "/ephemeralContainers"];
    lists.into_iter().flat_map(move |l| items(spec, l))
}

/// Names of containers that meet a condition.
fn bad(spec: &Value, test: impl Fn(&Value) -> bool) -> Vec<&str> {
    containers(spec).filter(|c| test(c)).map(|c| text(c, "/name")).collect()
}

fn quoted<S: AsRef<str>>(list: &[S]) -> String {
    let items: Vec<String> = list.iter().map(|s| format!("{:?}", s.as_ref())).collect();
    items.join(", ")
}

fn plural<T>(list: &[T], one: &'static str, many: &'static str) -> &'static str {
    if list.len() == 1 { one } else { many }
}

/// `container "a"` or `containers "a", "b"`.
fn named(list: &[&str]) -> String {
    format!("{} {}", plural(list, "container", "containers"), quoted(list))
}

fn flag(value: &Value, pointer: &str) -> Option<bool> {
    value.pointer(pointer).and_then(Value::as_bool)
}

fn is_windows(spec: &Value) -> bool {
    text(spec, "/os/name") == "windows"
}

fn app_armor(metadata: &Value, spec: &Value) -> Option<String> {
    let mut found: Vec<String> = Vec::new();
    if text(spec, "/securityContext/appArmorProfile/type") == "Unconfined" {
        found.push("pod must not set AppArmor profile type to \"Unconfined\"".into());
    }
    let list = bad(spec, |c| text(c, "/securityContext/appArmorProfile/type") == "Unconfined");
    if !list.is_empty() {
        found.push(format!("{} must not set AppArmor profile type to \"Unconfined\"", named(&list)));
    }
    let annotations = metadata.get("annotations").and_then(Value::as_object).into_iter().flatten();
    for (key, value) in
        annotations.filter(|(k, _)| k.starts_with("container.apparmor.security.beta.kubernetes.io/"))
    {
        let profile = value.as_str().unwrap_or_default();
        if !profile.is_empty() && profile != "runtime/default" && !profile.starts_with("localhost/") {
            found.push(format!("annotation {key:?}={profile:?}"));
        }
    }
    let title = plural(&found, "forbidden AppArmor profile", "forbidden AppArmor profiles");
    (!found.is_empty()).then(|| format!("{title} ({})", found.join(" and ")))
}

fn added(container: &Value) -> Vec<&str> {
    items(container, "/securityContext/capabilities/add").filter_map(Value::as_str).collect()
}

fn capabilities_baseline(_: &Value, spec: &Value) -> Option<String> {
    let list = bad(spec, |c| added(c).iter().any(|x| !BASELINE_CAPABILITIES.contains(x)));
    let mut extra: Vec<&str> =
        containers(spec).flat_map(added).filter(|x| !BASELINE_CAPABILITIES.contains(x)).collect();
    extra.sort_unstable();
    extra.dedup();
    let what = || {
        format!("{} must not include {} in securityContext.capabilities.add", named(&list), quoted(&extra))
    };
    (!list.is_empty()).then(|| format!("non-default capabilities ({})", what()))
}

fn host_namespaces(_: &Value, spec: &Value) -> Option<String> {
    let on: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|k| flag(spec, &format!("/{k}")) == Some(true))
        .map(|k| format!("{k}=true"))
        .collect();
    (!on.is_empty()).then(|| format!("host namespaces ({})", on.join(", ")))
}

fn host_path(_: &Value, spec: &Value) -> Option<String> {
    let list: Vec<&str> =
        items(spec, "/volumes").filter(|v| v.get("hostPath").is_some()).map(|v| text(v, "/name")).collect();
    let word = plural(&list, "volume", "volumes");
    (!list.is_empty()).then(|| format!("hostPath volumes ({word} {})", quoted(&list)))
}

fn host_ports(_: &Value, spec: &Value) -> Option<String> {
    let ports = |c: &Value| -> Vec<i64> {
        items(c, "/ports").filter_map(|p| p.get("hostPort")?.as_i64()).filter(|p| *p != 0).collect()
    };
    let list = bad(spec, |c| !ports(c).is_empty());
    let mut all: Vec<i64> = containers(spec).flat_map(ports).collect();
    all.sort_unstable();
    all.dedup();
    let text: Vec<String> = all.iter().map(i64::to_string).collect();
    let verb = plural(&list, "uses", "use");
    let word = plural(&all, "hostPort", "hostPorts");
    (!list.is_empty()).then(|| format!("hostPort ({} {verb} {word} {})", named(&list), text.join(", ")))
}

/// Probes and hooks may not be sent to other hosts.
fn host_probes(_: &Value, spec: &Value) -> Option<String> {
    const HANDLERS: [&str; 5] =
        ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
    let has = |c: &Value| {
        HANDLERS
            .iter()
            .any(|h| ["httpGet", "tcpSocket"].iter().any(|k| !text(c, &format!("{h}/{k}/host")).is_empty()))
    };
    let list = bad(spec, has);
    let verb = plural(&list, "uses", "use");
    (!list.is_empty()).then(|| {
        format!("probe or lifecycle host ({} {verb} a host in probes or lifecycle hooks)", named(&list))
    })
}

fn privileged(_: &Value, spec: &Value) -> Option<String> {
    let list = bad(spec, |c| flag(c, "/securityContext/privileged") == Some(true));
    (!list.is_empty())
        .then(|| format!("privileged ({} must not set securityContext.privileged=true)", named(&list)))
}

fn proc_mount(_: &Value, spec: &Value) -> Option<String> {
    if flag(spec, "/hostUsers") == Some(false) {
        return None;
    }
    let list = bad(spec, |c| !matches!(text(c, "/securityContext/procMount"), "" | "Default"));
    (!list.is_empty()).then(|| {
        format!("procMount ({} must not set securityContext.procMount to \"Unmasked\")", named(&list))
    })
}

fn selinux(_: &Value, spec: &Value) -> Option<String> {
    let wrong = |v: &Value| {
        let o = |k: &str| text(v, &format!("/securityContext/seLinuxOptions/{k}"));
        !SELINUX.contains(&o("type")) || !o("user").is_empty() || !o("role").is_empty()
    };
    let mut who: Vec<String> = if wrong(spec) { vec!["pod".into()] } else { vec![] };
    let list = bad(spec, wrong);
    if !list.is_empty() {
        who.push(named(&list));
    }
    (!who.is_empty()).then(|| {
        format!("seLinuxOptions ({} set forbidden securityContext.seLinuxOptions)", who.join(" and "))
    })
}

fn seccomp_baseline(_: &Value, spec: &Value) -> Option<String> {
    let wrong = |v: &Value| text(v, "/securityContext/seccompProfile/type") == "Unconfined";
    let mut who: Vec<String> = if wrong(spec) { vec!["pod".into()] } else { vec![] };
    let list = bad(spec, wrong);
    if !list.is_empty() {
        who.push(named(&list));
    }
    let what = "must not set securityContext.seccompProfile.type to \"Unconfined\"";
    (!who.is_empty()).then(|| format!("seccompProfile ({} {what})", who.join(" and ")))
}

fn sysctls(_: &Value, spec: &Value) -> Option<String> {
    let names = items(spec, "/securityContext/sysctls").map(|s| text(s, "/name"));
    let list: Vec<&str> = names.filter(|n| !SYSCTLS.contains(n) && *n != "net.ipv4.tcp_wmem").collect();
    (!list.is_empty()).then(|| format!("forbidden sysctls ({})", list.join(", ")))
}

fn windows_host_process(_: &Value, spec: &Value) -> Option<String> {
    let on = |v: &Value| flag(v, "/securityContext/windowsOptions/hostProcess") == Some(true);
    let mut who: Vec<String> = if on(spec) { vec!["pod".into()] } else { vec![] };
    let list = bad(spec, on);
    if !list.is_empty() {
        who.push(named(&list));
    }
    let what = "must not set securityContext.windowsOptions.hostProcess=true";
    (!who.is_empty()).then(|| format!("hostProcess ({} {what})", who.join(" and ")))
}

fn privilege_escalation(_: &Value, spec: &Value) -> Option<String> {
    let list = bad(spec, |c| flag(c, "/securityContext/allowPrivilegeEscalation") != Some(false));
    let what = || format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&list));
    (!list.is_empty() && !is_windows(spec)).then(|| format!("allowPrivilegeEscalation != false ({})", what()))
}

fn capabilities_restricted(_: &Value, spec: &Value) -> Option<String> {
    if is_windows(spec) {
        return None;
    }
    let drops_all = |c: &Value| items(c, "/securityContext/capabilities/drop").any(|d| d == "ALL");
    let keeping = bad(spec, |c| !drops_all(c));
    let adding = bad(spec, |c| added(c).iter().any(|x| *x != "NET_BIND_SERVICE"));
    let mut extra: Vec<&str> =
        containers(spec).flat_map(added).filter(|x| *x != "NET_BIND_SERVICE").collect();
    extra.sort_unstable();
    extra.dedup();
    let mut found = Vec::new();
    if !keeping.is_empty() {
        found.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keeping)));
    }
    if !adding.is_empty() {
        found.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&adding),
            quoted(&extra)
        ));
    }
    (!found.is_empty()).then(|| format!("unrestricted capabilities ({})", found.join("; ")))
}

fn volumes(_: &Value, spec: &Value) -> Option<String> {
    let kind =
        |v: &Value| v.as_object().and_then(|m| m.keys().find(|k| *k != "name").cloned()).unwrap_or_default();
    let wrong: Vec<&Value> =
        items(spec, "/volumes").filter(|v| !VOLUMES.contains(&kind(v).as_str())).collect();
    let names: Vec<&str> = wrong.iter().map(|v| text(v, "/name")).collect();
    let mut kinds: Vec<String> = wrong.iter().map(|v| kind(v)).collect();
    kinds.sort();
    kinds.dedup();
    let (word, verb) = (plural(&names, "volume", "volumes"), plural(&names, "uses", "use"));
    let kind_word = plural(&kinds, "type", "types");
    (!names.is_empty()).then(|| {
        format!(
            "restricted volume types ({word} {} {verb} restricted volume {kind_word} {})",
            quoted(&names),
            quoted(&kinds)
        )
    })
}

fn run_as_non_root(_: &Value, spec: &Value) -> Option<String> {
    const KEY: &str = "/securityContext/runAsNonRoot";
    if flag(spec, "/hostUsers") == Some(false) {
        return None;
    }
    let pod = flag(spec, KEY);
    let explicit = bad(spec, |c| flag(c, KEY) == Some(false));
    let implicit = bad(spec, |c| flag(c, KEY).is_none());
    let mut who = Vec::new();
    if pod == Some(false) {
        who.push("pod".to_owned());
    }
    if !explicit.is_empty() {
        who.push(named(&explicit));
    }
    if !who.is_empty() {
        return Some(format!(
            "runAsNonRoot != true ({} must not set securityContext.runAsNonRoot=false)",
            who.join(" and ")
        ));
    }
    let lacking = pod.is_none() && !implicit.is_empty();
    lacking.then(|| {
        format!(
            "runAsNonRoot != true (pod or {} must set securityContext.runAsNonRoot=true)",
            named(&implicit)
        )
    })
}

fn run_as_user(_: &Value, spec: &Value) -> Option<String> {
    if flag(spec, "/hostUsers") == Some(false) {
        return None;
    }
    let root = |v: &Value| v.pointer("/securityContext/runAsUser").and_then(Value::as_i64) == Some(0);
    let mut who: Vec<String> = if root(spec) { vec!["pod".into()] } else { vec![] };
    let list = bad(spec, root);
    if !list.is_empty() {
        who.push(named(&list));
    }
    (!who.is_empty()).then(|| format!("runAsUser=0 ({} must not set runAsUser=0)", who.join(" and ")))
}

fn seccomp_restricted(_: &Value, spec: &Value) -> Option<String> {
    if is_windows(spec) {
        return None;
    }
    let profile = |v: &Value| text(v, "/securityContext/seccompProfile/type").to_owned();
    let good = |p: &str| matches!(p, "RuntimeDefault" | "Localhost");
    let pod = profile(spec);
    let explicit = bad(spec, |c| !profile(c).is_empty() && !good(&profile(c)));
    let implicit = bad(spec, |c| profile(c).is_empty());
    let mut who = Vec::new();
    if !pod.is_empty() && !good(&pod) {
        who.push("pod".to_owned());
    }
    if !explicit.is_empty() {
        who.push(named(&explicit));
    }
    if !who.is_empty() {
        return Some(format!(
            "seccompProfile ({} must not set securityContext.seccompProfile.type to \"Unconfined\")",
            who.join(" and ")
        ));
    }
    let what = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    (pod.is_empty() && !implicit.is_empty())
        .then(|| format!("seccompProfile (pod or {} {what})", named(&implicit)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hardened() -> Value {
        json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]})
    }

    #[test]
    fn a_hardened_pod_passes() {
        assert_eq!(run(Level::Restricted, &Value::Null, &hardened()), [""; 0]);
    }

    #[test]
    fn every_rule_bites() {
        let c = "/containers/0/securityContext";
        for (pointer, key, value, level, fault) in [
            ("", "hostNetwork", json!(true), Level::Baseline, "host namespaces (hostNetwork=true)"),
            (
                "",
                "volumes",
                json!([{"name": "h", "hostPath": {}}]),
                Level::Baseline,
                "hostPath volumes (volume \"h\")",
            ),
            (c, "privileged", json!(true), Level::Baseline, "privileged (container \"c\" must not set"),
            (c, "procMount", json!("Unmasked"), Level::Baseline, "procMount (container \"c\""),
            (
                c,
                "seccompProfile",
                json!({"type": "Unconfined"}),
                Level::Baseline,
                "seccompProfile (container \"c\" must not",
            ),
            (c, "seLinuxOptions", json!({"user": "x"}), Level::Baseline, "seLinuxOptions (container \"c\""),
            (
                c,
                "appArmorProfile",
                json!({"type": "Unconfined"}),
                Level::Baseline,
                "forbidden AppArmor profile (container",
            ),
            (c, "windowsOptions", json!({"hostProcess": true}), Level::Baseline, "hostProcess (container"),
            (
                c,
                "capabilities",
                json!({"add": ["SYS_ADMIN"], "drop": ["ALL"]}),
                Level::Baseline,
                "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\"",
            ),
            (
                "/containers/0",
                "ports",
                json!([{"hostPort": 80}]),
                Level::Baseline,
                "hostPort (container \"c\" uses hostPort 80)",
            ),
            (
                "/containers/0",
                "livenessProbe",
                json!({"httpGet": {"host": "x"}}),
                Level::Baseline,
                "probe or lifecycle host",
            ),
            (
                "/securityContext",
                "sysctls",
                json!([{"name": "kernel.msgmax"}]),
                Level::Baseline,
                "forbidden sysctls (kernel.msgmax)",
            ),
            (
                c,
                "allowPrivilegeEscalation",
                json!(true),
                Level::Restricted,
                "allowPrivilegeEscalation != false",
            ),
            (
                c,
                "capabilities",
                json!({"add": ["CHOWN"], "drop": ["ALL"]}),
                Level::Restricted,
                "unrestricted capabilities",
            ),
            (
                c,
                "runAsUser",
                json!(0),
                Level::Restricted,
                "runAsUser=0 (container \"c\" must not set runAsUser=0)",
            ),
            (
                "/securityContext",
                "runAsNonRoot",
                json!(false),
                Level::Restricted,
                "runAsNonRoot != true (pod must not",
            ),
            (
                "",
                "volumes",
                json!([{"name": "n", "nfs": {}}]),
                Level::Restricted,
                "restricted volume types (volume \"n\" uses restricted volume type \"nfs\")",
            ),
        ] {
            let mut spec = hardened();
            spec.pointer_mut(pointer).expect("place")[key] = value;
            let found = run(level, &Value::Null, &spec);
            assert_eq!(found.len(), 1, "{key}: {found:?}");
            assert!(found[0].starts_with(fault), "{key}: {found:?}");
            let below = if level == Level::Restricted { Level::Baseline } else { Level::Privileged };
            assert_eq!(run(below, &Value::Null, &spec), [""; 0], "{key}");
        }
    }
}
