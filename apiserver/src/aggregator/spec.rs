//! What an APIService says.

use base64::Engine;
use serde_json::Value;

use crate::registry::val::{b, get, i, s};

const DEFAULT_PORT: u16 = 443;

/// An APIService of another server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spec {
    /// Name of the object, `VERSION.GROUP`.
    pub name: String,
    /// Its unique id: another object of the same name starts anew.
    pub uid: String,
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace of the service.
    pub namespace: String,
    /// Name of the service.
    pub service: String,
    /// Port of the service.
    pub port: u16,
    /// CAs of the server's certificate, in PEM; `None` for the machine's.
    pub ca: Option<Vec<u8>>,
    /// Take any certificate.
    pub insecure: bool,
    /// The group's place among groups: the highest first.
    pub group_priority: i64,
    /// The version's place in its group: the highest first.
    pub version_priority: i64,
}

impl Spec {
    /// Reads an APIService; `None` when this server itself is to serve it.
    pub fn of_remote(object: &Value) -> Option<Self> {
        let spec = get(object, "spec")?;
        let service = get(spec, "service").filter(|s| s.is_object())?;
        let ca = base64::engine::general_purpose::STANDARD.decode(s(spec, "caBundle")).unwrap_or_default();
        Some(Self {
            name: machinery::meta::name(object).to_owned(),
            uid: machinery::meta::uid(object).to_owned(),
            group: s(spec, "group").to_owned(),
            version: s(spec, "version").to_owned(),
            namespace: s(service, "namespace").to_owned(),
            service: s(service, "name").to_owned(),
            port: i(service, "port").and_then(|p| u16::try_from(p).ok()).unwrap_or(DEFAULT_PORT),
            ca: (!ca.is_empty()).then_some(ca),
            insecure: b(spec, "insecureSkipTLSVerify"),
            group_priority: i(spec, "groupPriorityMinimum").unwrap_or(0),
            version_priority: i(spec, "versionPriority").unwrap_or(0),
        })
    }

    /// The name its certificate must be for.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// Path of the group version: `/apis/GROUP/VERSION`.
    pub fn path(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn remote_and_local() {
        let remote = json!({"metadata": {"name": "v1.g", "uid": "u"}, "spec": {"group": "g", "version": "v1",
            "service": {"namespace": "ns", "name": "s"}, "caBundle": "cGVt", "groupPriorityMinimum": 7, "versionPriority": 8}});
        let spec = Spec::of_remote(&remote).expect("remote");
        assert_eq!((spec.port, spec.ca.as_deref()), (443, Some(b"pem".as_slice())));
        assert_eq!((spec.group_priority, spec.version_priority, spec.insecure), (7, 8, false));
        assert_eq!((spec.server_name().as_str(), spec.path().as_str()), ("s.ns.svc", "/apis/g/v1"));
        assert_eq!(Spec::of_remote(&json!({"spec": {"group": "g", "version": "v1", "service": null}})), None);
    }
}
