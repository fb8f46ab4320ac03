//! Whether the server behind an APIService is there: upstream's conditions, reasons and messages.

use machinery::time::now_rfc3339;
use serde_json::{Value, json};

use super::place;
use super::spec::Spec;
use crate::registry::val::{at, get, members, s};

/// A verdict on availability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether requests are handed on.
    pub available: bool,
    /// One word.
    pub reason: &'static str,
    /// In words.
    pub message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self { available: false, reason, message }
    }

    /// All is well.
    pub fn passed() -> Self {
        Self { available: true, reason: "Passed", message: "all checks passed".into() }
    }

    /// This server serves it.
    pub fn local() -> Self {
        let message = "Local APIServices are always available".into();
        Self { available: true, reason: "Local", message }
    }

    /// It does not answer as it should.
    pub fn failed_discovery(why: String) -> Self {
        Self::no("FailedDiscoveryCheck", why)
    }
}

/// What the stored objects tell against a service; `None` when it is to be asked itself.
pub fn judge(spec: &Spec, service: Option<&Value>, slices: &[Value]) -> Option<Verdict> {
    let what = format!("service/{} in {:?}", spec.service, spec.namespace);
    let Some(service) = service else {
        return Some(Verdict::no("ServiceNotFound", format!("{what} is not present")));
    };
    // Other types may lead out of the cluster, where nothing is known of ports and endpoints.
    if get(service, "spec").is_none_or(|spec| s(spec, "type") != "ClusterIP") {
        return None;
    }
    let Some(port) = place::port_of(service, spec.port) else {
        let message = format!("{what} is not listening on port {}", spec.port);
        return Some(Verdict::no("ServicePortError", message));
    };
    if slices.is_empty() {
        return Some(Verdict::no("EndpointsNotFound", format!("cannot find endpointslices for {what}")));
    }
    let name = s(port, "name");
    if place::is_served(slices, name) {
        return None;
    }
    let message = format!("endpointslices for {what} have no addresses with port name {name:?}");
    Some(Verdict::no("MissingEndpoints", message))
}

fn condition(object: &Value) -> Option<&Value> {
    let all = at(object, &["status", "conditions"])?.as_array()?;
    all.iter().find(|c| s(c, "type") == "Available")
}

/// Whether the status of an APIService says that it is available.
pub fn says_available(object: &Value) -> bool {
    condition(object).is_some_and(|c| s(c, "status") == "True")
}

/// The object with the verdict as its condition; `None` when it says so already. The time tells when it became available
/// or ceased to be.
pub fn with_verdict(object: &Value, verdict: &Verdict) -> Option<Value> {
    let status = if verdict.available { "True" } else { "False" };
    let old = condition(object);
    let same = |key: &str, new: &str| old.is_some_and(|c| s(c, key) == new);
    if same("status", status) && same("reason", verdict.reason) && same("message", &verdict.message) {
        return None;
    }
    let since = old.filter(|_| same("status", status)).map(|c| s(c, "lastTransitionTime").to_owned());
    let new = json!({"type": "Available", "status": status, "reason": verdict.reason, "message": verdict.message,
        "lastTransitionTime": since.filter(|t| !t.is_empty()).unwrap_or_else(now_rfc3339)});
    let others = at(object, &["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut conditions: Vec<Value> = others.into_iter().filter(|c| s(c, "type") != "Available").collect();
    conditions.push(new);
    let mut object = object.clone();
    members(&mut object).insert("status".into(), json!({"conditions": conditions}));
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec { service: "s".into(), namespace: "ns".into(), port: 443, ..Spec::default() }
    }

    #[test]
    fn verdicts() {
        let service = |kind: &str, port: u16| json!({"spec": {"type": kind, "ports": [{"name": "https", "port": port}]}});
        let slice = |ready: bool| json!({"ports": [{"name": "https", "port": 1}], "endpoints": [{"addresses": ["a"], "conditions": {"ready": ready}}]});
        for (service, slices, want) in [
            (None, vec![], "ServiceNotFound: service/s in \"ns\" is not present"),
            (
                Some(service("ClusterIP", 80)),
                vec![],
                "ServicePortError: service/s in \"ns\" is not listening on port 443",
            ),
            (
                Some(service("ClusterIP", 443)),
                vec![],
                "EndpointsNotFound: cannot find endpointslices for service/s in \"ns\"",
            ),
            (
                Some(service("ClusterIP", 443)),
                vec![slice(false)],
                "MissingEndpoints: endpointslices for service/s in \"ns\" have no addresses with port name \"https\"",
            ),
            (Some(service("ClusterIP", 443)), vec![slice(false), slice(true)], ""),
            (Some(service("ExternalName", 80)), vec![], ""),
        ] {
            let got = judge(&spec(), service.as_ref(), &slices);
            assert!(got.iter().all(|v| !v.available));
            assert_eq!(got.map(|v| format!("{}: {}", v.reason, v.message)).unwrap_or_default(), want);
        }
    }

    #[test]
    fn conditions_keep_their_time() {
        let old = json!({"status": {"conditions": [{"type": "Other"},
            {"type": "Available", "status": "True", "reason": "Passed", "message": "all checks passed", "lastTransitionTime": "T"}]}});
        assert!(says_available(&old) && with_verdict(&old, &Verdict::passed()).is_none());
        let local = with_verdict(&old, &Verdict::local()).expect("another reason");
        assert_eq!(local["status"]["conditions"][1]["lastTransitionTime"], "T");
        let failed = with_verdict(&old, &Verdict::failed_discovery("x".into())).expect("changed");
        assert_ne!(failed["status"]["conditions"][1]["lastTransitionTime"], "T");
        assert!(!says_available(&failed));
        assert_eq!(failed["status"]["conditions"][0]["type"], "Other");
    }
}
