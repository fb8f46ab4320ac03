//! Environment of containers: sources, service variables and $(NAME) expansion. Pure over what was looked up before.

use super::resources;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVar, ObjectFieldSelector, Pod, ResourceFieldSelector, Secret, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What the environment of a container may refer to.
#[derive(Default)]
pub struct Sources<'a> {
    /// ConfigMaps by name; absent or None = does not exist
    pub config_maps: HashMap<String, Option<Arc<ConfigMap>>>,
    /// Secrets by name
    pub secrets: HashMap<String, Option<Arc<Secret>>>,
    /// service variables, already rendered
    pub services: Vec<(String, String)>,
    /// addresses of the pod, primary first
    pub pod_ips: &'a [String],
    /// addresses of the host
    pub host_ips: &'a [String],
    /// allocatable of the node, for limits that are not set
    pub allocatable: BTreeMap<String, Quantity>,
}

/// The environment in order, or why it cannot be had (the text of CreateContainerConfigError).
pub fn environment(
    pod: &Pod,
    container: &Container,
    src: &Sources<'_>,
) -> Result<Vec<(String, String)>, String> {
    let mut out = Ordered::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (k, v) in env_from(pod, from, src)? {
            out.set(&format!("{prefix}{k}"), v);
        }
    }
    let services: HashMap<&str, &str> = src.services.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    for var in container.env.iter().flatten() {
        if let Some(v) = value_of(pod, container, var, src, |name| {
            out.get(name).map(str::to_owned).or_else(|| services.get(name).map(|s| (*s).to_owned()))
        })? {
            out.set(&var.name, v);
        }
    }
    for (k, v) in &src.services {
        if out.get(k).is_none() {
            out.set(k, v.clone());
        }
    }
    Ok(out.entries)
}

#[derive(Default)]
struct Ordered {
    entries: Vec<(String, String)>,
    index: HashMap<String, usize>,
}

impl Ordered {
    fn set(&mut self, key: &str, value: String) {
        match self.index.get(key).and_then(|i| self.entries.get_mut(*i)) {
            Some(slot) => slot.1 = value,
            None => {
                self.index.insert(key.to_owned(), self.entries.len());
                self.entries.push((key.to_owned(), value));
            }
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.index.get(key).and_then(|i| self.entries.get(*i)).map(|e| e.1.as_str())
    }
}

fn env_from(
    pod: &Pod,
    from: &k8s_openapi::api::core::v1::EnvFromSource,
    src: &Sources<'_>,
) -> Result<Vec<(String, String)>, String> {
    let _ = pod;
    if let Some(r) = &from.config_map_ref {
        return match src.config_maps.get(&r.name).cloned().flatten() {
            Some(cm) => Ok(cm.data.clone().unwrap_or_default().into_iter().collect()),
            None if r.optional == Some(true) => Ok(Vec::new()),
            None => Err(format!("configmap \"{}\" not found", r.name)),
        };
    }
    let Some(r) = &from.secret_ref else { return Ok(Vec::new()) };
    match src.secrets.get(&r.name).cloned().flatten() {
        Some(s) => Ok(s
            .data
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), String::from_utf8_lossy(&v.0).into_owned()))
            .collect()),
        None if r.optional == Some(true) => Ok(Vec::new()),
        None => Err(format!("secret \"{}\" not found", r.name)),
    }
}

fn value_of(
    pod: &Pod,
    container: &Container,
    var: &EnvVar,
    src: &Sources<'_>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, String> {
    let Some(from) = &var.value_from else {
        return Ok(Some(expand(var.value.as_deref().unwrap_or_default(), lookup)));
    };
    if let Some(f) = &from.field_ref {
        return pod_field(pod, f, src.pod_ips, src.host_ips).map(Some);
    }
    if let Some(r) = &from.resource_field_ref {
        return resource_field(pod, container, r, &src.allocatable).map(Some);
    }
    if let Some(r) = &from.config_map_key_ref {
        let cm = src.config_maps.get(&r.name).cloned().flatten();
        let optional = r.optional == Some(true);
        let Some(cm) = cm else {
            return if optional { Ok(None) } else { Err(format!("configmap \"{}\" not found", r.name)) };
        };
        let found = cm.data.as_ref().and_then(|d| d.get(&r.key)).cloned();
        return keyed(found, optional, "ConfigMap", &r.key, &r.name, pod);
    }
    if let Some(r) = &from.secret_key_ref {
        let secret = src.secrets.get(&r.name).cloned().flatten();
        let optional = r.optional == Some(true);
        let Some(secret) = secret else {
            return if optional { Ok(None) } else { Err(format!("secret \"{}\" not found", r.name)) };
        };
        let bytes = secret.data.as_ref().and_then(|d| d.get(&r.key));
        let found = bytes.map(|v| String::from_utf8_lossy(&v.0).into_owned());
        return keyed(found, optional, "Secret", &r.key, &r.name, pod);
    }
    Ok(None)
}

fn keyed(
    found: Option<String>,
    optional: bool,
    kind: &str,
    key: &str,
    name: &str,
    pod: &Pod,
) -> Result<Option<String>, String> {
    match found {
        Some(v) => Ok(Some(v)),
        None if optional => Ok(None),
        None => {
            let ns = pod.metadata.namespace.as_deref().unwrap_or("default");
            Err(format!("couldn't find key {key} in {kind} {ns}/{name}"))
        }
    }
}

/// A field of the downward API.
pub fn pod_field(
    pod: &Pod,
    field: &ObjectFieldSelector,
    pod_ips: &[String],
    host_ips: &[String],
) -> Result<String, String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let path = field.field_path.as_str();
    let text = |o: &Option<String>| o.clone().unwrap_or_default();
    if let Some((base, key)) = subscript(path) {
        let map = match base {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(map.and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => host_ips.join(","),
        "status.podIP" => pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (base, rest) = path.split_once("['")?;
    Some((base, rest.strip_suffix("']")?))
}

/// Labels or annotations as a downward API file: sorted `key="value"` lines.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(k, v)| format!("{k}={v:?}")).collect();
    lines.join("\n")
}

/// A resource of a container, divided and rounded up.
pub fn resource_field(
    pod: &Pod,
    container: &Container,
    field: &ResourceFieldSelector,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<String, String> {
    let named = field.container_name.as_deref().filter(|n| !n.is_empty());
    let target = match named {
        Some(name) => find_container(pod, name).ok_or_else(|| format!("container {name} not found"))?,
        None => container,
    };
    let (kind, resource) = field.resource.split_once('.').unwrap_or(("", field.resource.as_str()));
    let limits = target.resources.as_ref().and_then(|r| r.limits.as_ref());
    let requests = target.resources.as_ref().and_then(|r| r.requests.as_ref());
    let found = match kind {
        "limits" => limits.and_then(|l| l.get(resource)).or_else(|| allocatable.get(resource)),
        "requests" => requests.and_then(|r| r.get(resource)),
        _ => return Err(format!("unsupported container resource: {}", field.resource)),
    };
    let amount = found.and_then(|q| resources::parse_milli(&q.0)).unwrap_or(0);
    let divisor =
        field.divisor.as_ref().and_then(|q| resources::parse_milli(&q.0)).filter(|d| *d > 0).unwrap_or(1000);
    Ok(((amount + divisor - 1) / divisor).to_string())
}

fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)
}

/// Replaces $(NAME); `$$` is a dollar, unknown names stay as written.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + 1..).unwrap_or_default();
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match lookup(name) {
                Some(v) => out.push_str(&v),
                None => out.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// Variables of the services a pod sees: those of its namespace if links are on, and always default/kubernetes.
pub fn service_variables(services: &[Arc<Service>], namespace: &str, links: bool) -> Vec<(String, String)> {
    let mut picked: Vec<&Arc<Service>> = services
        .iter()
        .filter(|s| {
            let (ns, name) = (s.metadata.namespace.as_deref(), s.metadata.name.as_deref());
            let master = ns == Some("default") && name == Some("kubernetes");
            let shadowed = master
                && links
                && namespace != "default"
                && services.iter().any(|o| {
                    o.metadata.namespace.as_deref() == Some(namespace)
                        && o.metadata.name.as_deref() == Some("kubernetes")
                });
            (master && !shadowed) || (links && ns == Some(namespace))
        })
        .collect();
    picked.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    picked.into_iter().flat_map(|s| variables_of(s)).collect()
}

fn variables_of(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return Vec::new() };
    if ip.is_empty() || ip == "None" {
        return Vec::new();
    }
    let x = service.metadata.name.as_deref().unwrap_or_default().to_uppercase().replace('-', "_");
    let mut out = vec![
        (format!("{x}_SERVICE_HOST"), ip.to_owned()),
        (format!("{x}_SERVICE_PORT"), first.port.to_string()),
    ];
    for p in ports {
        if let Some(name) = p.name.as_deref().filter(|n| !n.is_empty()) {
            let name = name.to_uppercase().replace('-', "_");
            out.push((format!("{x}_SERVICE_PORT_{name}"), p.port.to_string()));
        }
    }
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    for (i, p) in ports.iter().enumerate() {
        let proto = p.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", proto.to_lowercase(), p.port);
        if i == 0 {
            out.push((format!("{x}_PORT"), url.clone()));
        }
        let prefix = format!("{x}_PORT_{}_{}", p.port, proto.to_uppercase());
        out.push((prefix.clone(), url));
        out.push((format!("{prefix}_PROTO"), proto.to_lowercase()));
        out.push((format!("{prefix}_PORT"), p.port.to_string()));
        out.push((format!("{prefix}_ADDR"), ip.to_owned()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion() {
        let get = |n: &str| (n == "A").then(|| "1".to_owned());
        for (text, want) in [
            ("$(A)", "1"),
            ("$$(A)", "$(A)"),
            ("x$(B)y", "x$(B)y"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("a$(A)b$(A)", "a1b1"),
        ] {
            assert_eq!(expand(text, get), want, "{text}");
        }
    }

    fn pod(env: &str) -> Pod {
        serde_yaml::from_str(&format!(
            "metadata: {{name: p, namespace: n, uid: u, labels: {{a: b}}}}\nspec:\n  nodeName: node\n  containers: [{{name: c, resources: {{limits: {{memory: 64Mi, cpu: 1500m}}}}, {env}}}]"
        ))
        .unwrap()
    }

    fn run(env: &str, src: &Sources<'_>) -> Result<String, String> {
        let p = pod(env);
        let vars = environment(&p, &p.spec.as_ref().unwrap().containers[0], src)?;
        Ok(vars.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn sources_in_order() {
        let cm: ConfigMap = serde_yaml::from_str("data: {A: cm, B: two}").unwrap();
        let src = Sources {
            config_maps: HashMap::from([("m".to_owned(), Some(Arc::new(cm)))]),
            services: vec![("SVC".into(), "s".into())],
            pod_ips: &["10.0.0.1".to_owned()],
            ..Default::default()
        };
        for (env, want) in [
            ("env: [{name: A, value: x}, {name: B, value: '$(A)y$(SVC)$(Z)'}]", "A=x B=xys$(Z) SVC=s"),
            ("envFrom: [{configMapRef: {name: m}, prefix: P_}]", "P_A=cm P_B=two SVC=s"),
            ("envFrom: [{configMapRef: {name: m}}], env: [{name: A, value: over}]", "A=over B=two SVC=s"),
            (
                "env: [{name: N, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: I, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]",
                "N=p I=10.0.0.1 SVC=s",
            ),
            ("env: [{name: L, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a']\"}}}]", "L=b SVC=s"),
            (
                "env: [{name: M, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}, {name: C, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]",
                "M=64 C=2 SVC=s",
            ),
            (
                "env: [{name: K, valueFrom: {configMapKeyRef: {name: m, key: B}}}, {name: O, valueFrom: {configMapKeyRef: {name: m, key: Z, optional: true}}}]",
                "K=two SVC=s",
            ),
            ("env: [{name: SVC, value: mine}]", "SVC=mine"),
        ] {
            assert_eq!(run(env, &src).as_deref(), Ok(want), "{env}");
        }
        for (env, want) in [
            (
                "env: [{name: K, valueFrom: {configMapKeyRef: {name: zz, key: B}}}]",
                "configmap \"zz\" not found",
            ),
            (
                "env: [{name: K, valueFrom: {configMapKeyRef: {name: m, key: Z}}}]",
                "couldn't find key Z in ConfigMap n/m",
            ),
            ("envFrom: [{secretRef: {name: s}}]", "secret \"s\" not found"),
        ] {
            assert_eq!(run(env, &src), Err(want.to_owned()), "{env}");
        }
    }

    #[test]
    fn service_variables_as_upstream() {
        let svc: Service = serde_yaml::from_str("metadata: {name: my-db, namespace: n}\nspec: {clusterIP: 10.0.0.9, ports: [{port: 80, name: web}, {port: 53, protocol: UDP}]}").unwrap();
        let all = [Arc::new(svc)];
        let vars: HashMap<_, _> = service_variables(&all, "n", true).into_iter().collect();
        assert_eq!(vars["MY_DB_SERVICE_HOST"], "10.0.0.9");
        assert_eq!(vars["MY_DB_SERVICE_PORT_WEB"], "80");
        assert_eq!(vars["MY_DB_PORT"], "tcp://10.0.0.9:80");
        assert_eq!(vars["MY_DB_PORT_53_UDP_PROTO"], "udp");
        assert_eq!(vars.len(), 12);
        assert!(service_variables(&all, "n", false).is_empty());
        assert!(service_variables(&all, "other", true).is_empty());
    }
}
