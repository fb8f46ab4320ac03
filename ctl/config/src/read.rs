//! Files into documents.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    API_VERSION, ClusterConfiguration, Init, Join, ResetConfiguration, UpgradeConfiguration, Warning, schema,
    v1beta3,
};

const GROUP: &str = "kubeadm.k8s.io/";
const V1BETA3: &str = "kubeadm.k8s.io/v1beta3";
/// Older versions, each with the last kubeadm that could migrate it.
const TOO_OLD: [(&str, &str); 5] = [
    ("v1alpha1", "v1.11"),
    ("v1alpha2", "v1.12"),
    ("v1alpha3", "v1.14"),
    ("v1beta1", "v1.15"),
    ("v1beta2", "v1.22"),
];
/// Kinds of other groups that travel along, with the one version we know.
const COMPONENTS: [(&str, &str, &str); 2] = [
    ("KubeletConfiguration", "kubelet.config.k8s.io/", "kubelet.config.k8s.io/v1beta1"),
    ("KubeProxyConfiguration", "kubeproxy.config.k8s.io/", "kubeproxy.config.k8s.io/v1alpha1"),
];

/// Why a file can't be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The text is neither YAML nor JSON.
    #[error("the configuration file is neither YAML nor JSON: {0}")]
    Syntax(String),
    /// A document without its kind.
    #[error(
        "invalid configuration: kind and apiVersion is mandatory information that must be specified (document {0})"
    )]
    NoKind(usize),
    /// A kind more than once.
    #[error("invalid configuration: kind {0:?} is specified twice in YAML file")]
    Twice(String),
    /// A version long gone.
    #[error(
        "your configuration file uses an old API spec: {0:?} (kind: {1:?}). First write it anew with kubeadm {2}: kubeadm config migrate --old-config OLD --new-config NEW"
    )]
    Old(String, String, String),
    /// A version or kind of a known group that does not exist.
    #[error("no kind {0:?} is registered for version {1:?}")]
    Unregistered(String, String),
    /// None of the kinds the command reads.
    #[error("no {0} kind was found in the YAML file")]
    Missing(&'static str),
    /// Values of a wrong type.
    #[error("error unmarshaling configuration {0}: {1}")]
    Wrong(String, String),
}

/// One document, lifted to v1beta4 and looked over.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub kind: String,
    pub value: Value,
}

/// A whole file.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub documents: Vec<Document>,
    /// Old versions in use, documents passed over.
    pub warnings: Vec<Warning>,
    /// Fields nobody knows, as sentences: a warning for `init`, an error for `validate`.
    pub unknown: Vec<String>,
    /// A document of a deprecated version was among them.
    pub deprecated: bool,
    control_plane_timeout: Option<Value>,
}

impl File {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let mut file = Self::default();
        for (i, value) in split(text)?.into_iter().enumerate() {
            file.add(i + 1, value)?;
        }
        file.place_timeout();
        Ok(file)
    }

    fn add(&mut self, number: usize, value: Value) -> Result<(), Error> {
        let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
        let (version, kind) = (word("apiVersion"), word("kind"));
        if version.is_empty() || kind.is_empty() {
            return Err(Error::NoKind(number));
        }
        if self.documents.iter().any(|d| d.kind == kind) {
            return Err(Error::Twice(kind));
        }
        if version.starts_with(GROUP) {
            return self.add_own(&version, kind, value);
        }
        match COMPONENTS.into_iter().find(|(name, group, _)| *name == kind && version.starts_with(group)) {
            Some((_, _, known)) if version == known => {
                self.look_over(&kind, &version, &kind, &value)?;
                self.documents.push(Document { kind, value });
            }
            Some(_) => return Err(Error::Unregistered(kind, version)),
            None => self.pass_over(&version, &kind),
        }
        Ok(())
    }

    fn add_own(&mut self, version: &str, kind: String, value: Value) -> Result<(), Error> {
        let plain = version.trim_start_matches(GROUP);
        if let Some((_, last)) = TOO_OLD.into_iter().find(|(old, _)| *old == plain) {
            return Err(Error::Old(version.into(), kind, last.into()));
        }
        let table = match version {
            API_VERSION => kind.clone(),
            V1BETA3 => format!("{kind}3"),
            _ => return Err(Error::Unregistered(kind, version.into())),
        };
        let foreign = COMPONENTS.iter().any(|c| c.0 == kind);
        if foreign || !kind.ends_with("Configuration") || !schema::knows(&table) {
            return Err(Error::Unregistered(kind, version.into()));
        }
        self.look_over(&table, version, &kind, &value)?;
        let value = if version == V1BETA3 { self.lift(&kind, value) } else { value };
        self.documents.push(Document { kind, value });
        Ok(())
    }

    fn look_over(&mut self, table: &str, version: &str, kind: &str, value: &Value) -> Result<(), Error> {
        let found = schema::check(table, value);
        if !found.wrong.is_empty() {
            return Err(Error::Wrong(format!("{kind} ({version})"), found.wrong.join("; ")));
        }
        let sentence = |path| format!("unknown field {path:?} in {kind} ({version})");
        self.unknown.extend(found.unknown.into_iter().map(sentence));
        Ok(())
    }

    fn lift(&mut self, kind: &str, value: Value) -> Value {
        self.deprecated = true;
        self.warnings.push(Warning(format!(
            "your configuration file uses a deprecated API spec: {V1BETA3:?} (kind: {kind:?}). Please use 'coxctl config migrate --old-config old.yaml --new-config new.yaml', which will write the new, similar spec using a newer API version."
        )));
        let (value, timeout) = v1beta3::lift(value);
        self.control_plane_timeout = timeout.or(self.control_plane_timeout.take());
        value
    }

    fn pass_over(&mut self, version: &str, kind: &str) {
        self.warnings.push(Warning(format!("ignored configuration document {kind:?} of {version:?}")));
    }

    /// v1beta3 had the API server's timeout in the cluster's document; it is the machine's now.
    fn place_timeout(&mut self) {
        let Some(timeout) = self.control_plane_timeout.take() else { return };
        if !self.documents.iter().any(|d| d.kind == "InitConfiguration") {
            let value = json!({"apiVersion": API_VERSION, "kind": "InitConfiguration"});
            self.documents.insert(0, Document { kind: "InitConfiguration".into(), value });
        }
        for document in self.documents.iter_mut().filter(|d| d.kind == "InitConfiguration") {
            document.value["timeouts"]["controlPlaneComponentHealthCheck"] = timeout.clone();
        }
    }

    fn take(&mut self, kind: &str) -> Option<Value> {
        let at = self.documents.iter().position(|d| d.kind == kind)?;
        Some(self.documents.remove(at).value)
    }

    fn typed<T: DeserializeOwned>(&mut self, kind: &str) -> Result<Option<T>, Error> {
        let Some(value) = self.take(kind) else { return Ok(None) };
        let typed = serde_json::from_value(value);
        typed.map(Some).map_err(|e| Error::Wrong(kind.into(), e.to_string()))
    }

    fn only<T: DeserializeOwned>(mut self, kind: &'static str) -> Result<(T, Vec<Warning>), Error> {
        let typed = self.typed(kind)?.ok_or(Error::Missing(kind))?;
        self.documents.clear();
        Ok((typed, self.all_warnings()))
    }

    /// Everything worth a line, with a line for each document nobody took.
    fn all_warnings(mut self) -> Vec<Warning> {
        for rest in std::mem::take(&mut self.documents) {
            let version = rest.value["apiVersion"].as_str().unwrap_or_default().to_string();
            self.pass_over(&version, &rest.kind);
        }
        self.warnings.extend(self.unknown.into_iter().map(Warning));
        self.warnings
    }
}

/// Reads the documents of `init`: InitConfiguration, ClusterConfiguration, KubeletConfiguration, KubeProxyConfiguration,
/// each at most once, in any order.
///
/// # Errors
/// Bad syntax, old or unknown versions, documents given twice, values of a wrong type, none of the first two kinds.
pub fn read_init(text: &str) -> Result<(Init, Vec<Warning>), Error> {
    let mut file = File::read(text)?;
    let (init, cluster) = (file.typed("InitConfiguration")?, file.typed("ClusterConfiguration")?);
    if init.is_none() && cluster.is_none() {
        return Err(Error::Missing("InitConfiguration or ClusterConfiguration"));
    }
    let (kubelet, proxy) = (file.take("KubeletConfiguration"), file.take("KubeProxyConfiguration"));
    let out = Init {
        init: init.unwrap_or_default(),
        cluster: cluster.unwrap_or_default(),
        kubelet_given: kubelet.is_some(),
        proxy_given: proxy.is_some(),
        kubelet: kubelet.unwrap_or_default(),
        proxy: proxy.unwrap_or_default(),
    };
    Ok((out, file.all_warnings()))
}

/// Reads the document of `join`; other documents in the file are left alone, so that one file may serve all machines.
///
/// # Errors
/// As [`read_init`].
pub fn read_join(text: &str) -> Result<(Join, Vec<Warning>), Error> {
    let (join, warnings) = File::read(text)?.only("JoinConfiguration")?;
    Ok((Join { join }, warnings))
}

/// Reads the document of `reset`.
///
/// # Errors
/// As [`read_init`].
pub fn read_reset(text: &str) -> Result<(ResetConfiguration, Vec<Warning>), Error> {
    File::read(text)?.only("ResetConfiguration")
}

/// Reads the document of the `upgrade` commands.
///
/// # Errors
/// As [`read_init`].
pub fn read_upgrade(text: &str) -> Result<(UpgradeConfiguration, Vec<Warning>), Error> {
    File::read(text)?.only("UpgradeConfiguration")
}

/// Reads the ClusterConfiguration kept in the cluster (ConfigMap kube-system/kubeadm-config).
///
/// # Errors
/// As [`read_init`].
pub fn read_cluster(text: &str) -> Result<(ClusterConfiguration, Vec<Warning>), Error> {
    File::read(text)?.only("ClusterConfiguration")
}

/// The documents of a text, empty ones left out. A key given twice in one map is an error.
fn split(text: &str) -> Result<Vec<Value>, Error> {
    let mut out = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let yaml = serde_yaml::Value::deserialize(document).map_err(|e| Error::Syntax(e.to_string()))?;
        let json = serde_json::to_value(&yaml).map_err(|e| Error::Syntax(e.to_string()))?;
        match json {
            Value::Null => {}
            Value::Object(_) => out.push(json),
            _ => return Err(Error::Syntax("a document is no object".into())),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: &str =
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {bindPort: 7443}\n";
    const CLUSTER: &str = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nclusterName: x\n";

    #[test]
    fn documents_come_in_any_order_and_form() {
        let kubelet = r#"{"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "maxPods": 50}"#;
        let text = format!("---\n{CLUSTER}---\n# nothing\n---\n{kubelet}\n---\n{INIT}");
        let (init, warnings) = read_init(&text).unwrap();
        assert_eq!((init.init.local_api_endpoint.bind_port, init.cluster.cluster_name.as_str()), (7443, "x"));
        assert_eq!(
            (init.kubelet["maxPods"].as_i64(), init.kubelet_given, init.proxy_given),
            (Some(50), true, false)
        );
        assert_eq!(warnings, []);
    }

    #[test]
    fn what_can_not_be_read_is_said() {
        let of = |version: &str, kind: &str| format!("apiVersion: {version}\nkind: {kind}\n");
        for (text, error) in [
            (format!("{INIT}---\n{INIT}"), "kind \"InitConfiguration\" is specified twice"),
            ("kind: InitConfiguration\n".into(), "kind and apiVersion is mandatory"),
            (
                of("kubeadm.k8s.io/v1beta2", "InitConfiguration"),
                "uses an old API spec: \"kubeadm.k8s.io/v1beta2\"",
            ),
            (
                of("kubeadm.k8s.io/v1beta9", "InitConfiguration"),
                "no kind \"InitConfiguration\" is registered",
            ),
            (of(API_VERSION, "Etcd"), "no kind \"Etcd\" is registered for version"),
            (of(API_VERSION, "JoinConfiguration"), "no InitConfiguration or ClusterConfiguration kind"),
            (
                of("kubelet.config.k8s.io/v1", "KubeletConfiguration"),
                "no kind \"KubeletConfiguration\" is registered",
            ),
            ("a: [".into(), "neither YAML nor JSON"),
            ("- a\n".into(), "a document is no object"),
            (format!("{CLUSTER}clusterName: y\n"), "duplicate entry"),
            (format!("{INIT}dryRun: 1\n"), "dryRun: expected true or false, got 1"),
            ("".into(), "no InitConfiguration or ClusterConfiguration kind"),
        ] {
            let got = read_init(&text).unwrap_err().to_string();
            assert!(got.contains(error), "{got:?} lacks {error:?}");
        }
    }

    #[test]
    fn what_is_odd_is_a_warning() {
        let proxy =
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmodes: nftables\n";
        let text = format!("{INIT}nodes: 3\n---\napiVersion: example.com/v1\nkind: Thing\n---\n{proxy}");
        let (_, warnings) = read_init(&text).unwrap();
        let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "ignored configuration document \"Thing\" of \"example.com/v1\"",
                "unknown field \"nodes\" in InitConfiguration (kubeadm.k8s.io/v1beta4)",
                "unknown field \"modes\" in KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1)",
            ]
        );
    }

    #[test]
    fn the_version_before_is_lifted_with_a_warning() {
        let text = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\napiServer:\n  extraArgs: {v: '4'}\n  timeoutForControlPlane: 2m0s\n";
        let (init, warnings) = read_init(text).unwrap();
        assert_eq!(init.cluster.api_server.extra_args[0].value, "4");
        let waits = crate::waits(init.init.timeouts.as_ref());
        assert_eq!(waits.control_plane.as_secs(), 120);
        assert!(warnings[0].0.contains("deprecated API spec"));
    }

    #[test]
    fn a_join_file_may_hold_other_documents() {
        let text =
            format!("{CLUSTER}---\napiVersion: {API_VERSION}\nkind: JoinConfiguration\ncaCertPath: /x\n");
        let (join, warnings) = read_join(&text).unwrap();
        assert_eq!((join.join.ca_cert_path.as_str(), warnings.len()), ("/x", 0));
        assert_eq!(read_reset(&text).unwrap_err(), Error::Missing("ResetConfiguration"));
    }
}
