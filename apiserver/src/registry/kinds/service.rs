//! Services. Addresses and ports are taken in `alloc`; here stands what a service may say.

use super::ingress::load_balancer;
use crate::registry::defaults::externally_accessible;
use crate::registry::errs::{At, Errs};
use crate::registry::kind::Kind;
use crate::registry::val::{
    at, drop_key, get, has, i, items_mut, list, list_at, members, obj_mut, s, same_at, set, strs, sub,
};
use crate::registry::validate::meta::NameRule;
use crate::registry::validate::{labels, net};
use machinery::names;
use serde_json::{Value, json};

/// Services.
pub const KIND: Kind = Kind {
    name: NameRule::Label,
    status: true,
    create_on_update: true,
    prepare_create: |new| {
        members(new).insert("status".into(), json!({"loadBalancer": {}}));
        one_address_means_list(new);
    },
    prepare_update,
    validate,
    validate_update,
    validate_status,
    warnings,
    ..Kind::core("services")
};

const NULL: Value = Value::Null;

fn spec_of(service: &Value) -> &Value {
    get(service, "spec").unwrap_or(&NULL)
}

/// Whether a spec asks for no address at all.
pub fn is_headless(spec: &Value) -> bool {
    s(spec, "clusterIP") == "None" || strs(spec, "clusterIPs").next() == Some("None")
}

/// Whether the type of a service comes with addresses.
pub fn needs_cluster_ip(service: &Value) -> bool {
    matches!(s(spec_of(service), "type"), "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// Whether the type of a service comes with node ports.
pub fn needs_node_ports(service: &Value) -> bool {
    let spec = spec_of(service);
    match s(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => crate::registry::val::opt_b(spec, "allocateLoadBalancerNodePorts") != Some(false),
        _ => false,
    }
}

/// Whether a service has a port on which its health can be asked.
pub fn needs_health_port(service: &Value) -> bool {
    let spec = spec_of(service);
    s(spec, "type") == "LoadBalancer" && s(spec, "externalTrafficPolicy") == "Local"
}

fn one_address_means_list(service: &mut Value) {
    let Some(spec) = obj_mut(service, "spec") else { return };
    let ip = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !ip.is_empty() && spec.get("clusterIPs").is_none_or(crate::registry::val::is_zero) {
        spec.insert("clusterIPs".into(), json!([ip]));
    }
}

// ---- what a change leaves out is what was ----

fn prepare_update(new: &mut Value, old: &Value) {
    one_and_many(new, old);
    if needs_cluster_ip(new) && needs_cluster_ip(old) {
        keep_addresses(new, old);
    }
    if needs_node_ports(new) && needs_node_ports(old) {
        keep_node_ports(new, old);
    }
    let health = i(spec_of(new), "healthCheckNodePort").unwrap_or(0);
    if needs_health_port(new) && needs_health_port(old) && health == 0 {
        copy(new, old, "healthCheckNodePort");
    }
    if !set(spec_of(new), "ipFamilyPolicy") && s(spec_of(new), "type") != "ExternalName" {
        copy(new, old, "ipFamilyPolicy");
    }
    drop_what_type_forbids(new, old);
    if s(spec_of(new), "type") != "LoadBalancer" {
        sub(members(new), "status").insert("loadBalancer".into(), json!({}));
    }
}

fn copy(new: &mut Value, old: &Value, key: &str) {
    if let Some(value) = spec_of(old).get(key).cloned() {
        sub(members(new), "spec").insert(key.to_owned(), value);
    }
}

/// `clusterIP` and the first of `clusterIPs` are one thing; old clients change only the former.
fn one_and_many(new: &mut Value, old: &Value) {
    let (a, b) = (spec_of(new), spec_of(old));
    let (one_changed, many_changed) = (s(a, "clusterIP") != s(b, "clusterIP"), !same_at(a, b, "clusterIPs"));
    let ip = s(a, "clusterIP").to_owned();
    if one_changed && !many_changed {
        let spec = sub(members(new), "spec");
        if ip.is_empty() {
            spec.remove("clusterIPs");
        } else {
            spec.insert("clusterIPs".into(), json!([ip]));
        }
    } else if one_changed && list(a, "clusterIPs").is_empty() {
        one_address_means_list(new);
    }
}

fn keep_addresses(new: &mut Value, old: &Value) {
    let (a, b) = (spec_of(new), spec_of(old));
    let (no_ip, no_ips) = (s(a, "clusterIP").is_empty(), list(a, "clusterIPs").is_empty());
    if no_ip && no_ips {
        copy(new, old, "clusterIP");
        copy(new, old, "clusterIPs");
    } else if no_ips && s(a, "clusterIP") == s(b, "clusterIP") {
        copy(new, old, "clusterIPs");
    }
}

fn keep_node_ports(new: &mut Value, old: &Value) {
    let number = |p: &Value| i(p, "nodePort").unwrap_or(0);
    let used: Vec<i64> = list(spec_of(new), "ports").iter().map(number).collect();
    let Some(spec) = new.get_mut("spec") else { return };
    for port in items_mut(spec, "ports").iter_mut().filter(|p| number(p) == 0) {
        let before = list(spec_of(old), "ports").iter().find(|p| s(p, "name") == s(port, "name"));
        if let Some(n) = before.map(number).filter(|n| *n != 0 && !used.contains(n)) {
            members(port).insert("nodePort".into(), json!(n));
        }
    }
}

/// A change of type takes along what the new type cannot have, unless the client touched it.
fn drop_what_type_forbids(new: &mut Value, old: &Value) {
    let same_in = |new: &Value, key: &str| same_at(spec_of(new), spec_of(old), key);
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        let keys = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];
        drop_if(new, &keys, same_in);
    }
    if needs_node_ports(old) && !needs_node_ports(new) && ports_kept(new, old) {
        let Some(spec) = new.get_mut("spec") else { return };
        items_mut(spec, "ports").iter_mut().for_each(|p| drop_key(p, "nodePort"));
    }
    if needs_health_port(old) && !needs_health_port(new) {
        drop_if(new, &["healthCheckNodePort"], same_in);
    }
    let balanced = |v: &Value| s(spec_of(v), "type") == "LoadBalancer";
    if balanced(old) && !balanced(new) {
        drop_if(new, &["allocateLoadBalancerNodePorts", "loadBalancerClass"], same_in);
    }
    if externally_accessible(old) && !externally_accessible(new) {
        drop_if(new, &["externalTrafficPolicy"], same_in);
    }
}

fn drop_if(new: &mut Value, keys: &[&str], unchanged: impl Fn(&Value, &str) -> bool) {
    for key in keys {
        if unchanged(new, key) {
            sub(members(new), "spec").remove(*key);
        }
    }
}

fn ports_kept(new: &Value, old: &Value) -> bool {
    let before = list(spec_of(old), "ports");
    let node = |p: &Value| i(p, "nodePort").unwrap_or(0);
    list(spec_of(new), "ports").iter().all(|p| node(p) == 0 || before.iter().any(|o| node(o) == node(p)))
}

// ---- rules ----

fn validate(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let spec = spec_of(new);
    let path = At::ROOT.f("spec");
    let kind = s(spec, "type");
    errs.required_one_of(&path.f("type"), kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    by_type(spec, kind, &path, errs);
    ports(spec, kind, &path.f("ports"), errs);
    labels::labels(spec, "selector", &path.f("selector"), errs);
    affinity(spec, &path, errs);
    addresses(spec, kind, &path, errs);
    external_ips(spec, &path.f("externalIPs"), errs);
    load_balancer_only(spec, kind, &path, errs);
    traffic(new, spec, kind, &path, errs);
}

fn by_type(spec: &Value, kind: &str, path: &At<'_>, errs: &mut Errs) {
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let why = format!("may not be set to 'None' for {kind} services");
            errs.invalid(&path.f("clusterIPs").i(0), "None", why);
        }
        "LoadBalancer" if !set(spec, "allocateLoadBalancerNodePorts") => {
            errs.required(&At::ROOT.f("allocateLoadBalancerNodePorts"), "");
        }
        "ExternalName" => external_name(spec, path, errs),
        _ => {}
    }
}

fn external_name(spec: &Value, path: &At<'_>, errs: &mut Errs) {
    for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"].into_iter().filter(|k| has(spec, k)) {
        errs.forbidden(&path.f(key), "may not be set for ExternalName services");
    }
    let name = s(spec, "externalName");
    if name.is_empty() {
        return errs.required(&path.f("externalName"), "");
    }
    let bare = name.strip_suffix('.').unwrap_or(name);
    errs.invalid_each(&path.f("externalName"), name, names::is_dns1123_subdomain(bare));
}

fn ports(spec: &Value, kind: &str, path: &At<'_>, errs: &mut Errs) {
    let ports = list(spec, "ports");
    if ports.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errs.required(path, "");
    }
    for (index, port) in ports.iter().enumerate() {
        let at = path.i(index);
        let before = ports.get(..index).unwrap_or_default();
        self::port(port, before, ports.len() > 1, &at, errs);
        if kind == "ClusterIP" && i(port, "nodePort").unwrap_or(0) != 0 {
            errs.forbidden(&at.f("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
    }
}

fn port(port: &Value, before: &[Value], named: bool, at: &At<'_>, errs: &mut Errs) {
    match s(port, "name") {
        "" if named => errs.required(&at.f("name"), ""),
        "" => {}
        name => {
            errs.invalid_each(&at.f("name"), name, names::is_dns1123_label(name));
            if before.iter().any(|p| s(p, "name") == name) {
                errs.duplicate(&at.f("name"), name);
            }
        }
    }
    net::port_number(i(port, "port").unwrap_or(0), &at.f("port"), errs);
    errs.required_one_of(&at.f("protocol"), s(port, "protocol"), &["SCTP", "TCP", "UDP"]);
    net::port_number_or_name(port.get("targetPort").unwrap_or(&NULL), &at.f("targetPort"), errs);
    if !s(port, "appProtocol").is_empty() {
        errs.invalid_each(
            &at.f("appProtocol"),
            s(port, "appProtocol"),
            names::is_qualified_name(s(port, "appProtocol")),
        );
    }
    let same = |p: &&Value, key: &str| s(p, "protocol") == s(port, "protocol") && i(p, key) == i(port, key);
    if before.iter().any(|p| same(&p, "port")) {
        errs.duplicate(at, json!({"protocol": s(port, "protocol"), "port": i(port, "port")}));
    }
    let node = i(port, "nodePort").unwrap_or(0);
    if node != 0 && before.iter().any(|p| same(&p, "nodePort")) {
        errs.duplicate(&at.f("nodePort"), node);
    }
}

fn affinity(spec: &Value, path: &At<'_>, errs: &mut Errs) {
    let kind = s(spec, "sessionAffinity");
    errs.required_one_of(&path.f("sessionAffinity"), kind, &["ClientIP", "None"]);
    let at_config = path.f("sessionAffinityConfig");
    match (kind, get(spec, "sessionAffinityConfig")) {
        ("ClientIP", config) => {
            match config.and_then(|c| at(c, &["clientIP", "timeoutSeconds"])).and_then(Value::as_i64) {
                None => errs.required(&at_config, "when session affinity type is ClientIP"),
                Some(n) if n <= 0 || n > 86400 => {
                    errs.invalid(
                        &at_config.f("clientIP.timeoutSeconds"),
                        n,
                        "must be greater than 0 and less than 86400",
                    );
                }
                Some(_) => {}
            }
        }
        ("None", Some(_)) => errs.forbidden(&at_config, "must not be set when session affinity is None"),
        _ => {}
    }
}

fn addresses(spec: &Value, kind: &str, path: &At<'_>, errs: &mut Errs) {
    for (index, family) in strs(spec, "ipFamilies").enumerate() {
        let at = path.f("ipFamilies");
        errs.one_of(&at.i(index), family, &["IPv4", "IPv6"]);
        if strs(spec, "ipFamilies").take(index).any(|f| f == family) {
            errs.duplicate(&at.i(index), family);
        }
    }
    if set(spec, "ipFamilyPolicy") {
        errs.one_of(
            &path.f("ipFamilyPolicy"),
            s(spec, "ipFamilyPolicy"),
            &["PreferDualStack", "RequireDualStack", "SingleStack"],
        );
    }
    if kind == "ExternalName" {
        return;
    }
    let (one, many) = (s(spec, "clusterIP"), list(spec, "clusterIPs"));
    let at_many = path.f("clusterIPs");
    let first = strs(spec, "clusterIPs").next().unwrap_or_default();
    match (one, many.is_empty()) {
        ("", false) => errs.invalid(
            &at_many,
            Value::Array(many.to_vec()),
            "must be empty when `clusterIP` is not specified",
        ),
        ("", true) => {}
        (_, true) => errs.required(&at_many, ""),
        (one, false) if one != first => {
            errs.invalid(&at_many, Value::Array(many.to_vec()), "first value must match `clusterIP`");
        }
        _ => {}
    }
    listed(spec, many, &at_many, errs);
}

fn listed(spec: &Value, many: &[Value], path: &At<'_>, errs: &mut Errs) {
    if is_headless(spec) {
        if many.len() > 1 {
            errs.invalid(path, Value::Array(many.to_vec()), "'None' must be the first and only value");
        }
        return;
    }
    if many.len() > 2 {
        errs.invalid(path, Value::Array(many.to_vec()), "may only hold up to 2 values");
    }
    let mut families: Vec<&str> = Vec::new();
    for (index, text) in strs(spec, "clusterIPs").enumerate() {
        let at = path.i(index);
        let Some(ip) = net::ip(text, &[], &at, errs) else { continue };
        families.push(net::family(&ip));
        let wanted = strs(spec, "ipFamilies").nth(index);
        if wanted.is_some_and(|w| w != net::family(&ip)) {
            errs.invalid(
                &at,
                text,
                format!(
                    "expected an {} value as indicated by `ipFamilies[{index}]`",
                    wanted.unwrap_or_default()
                ),
            );
        }
    }
    if families.len() == 2 && families[0] == families[1] {
        errs.invalid(path, Value::Array(many.to_vec()), "may specify no more than one IP for each IP family");
    }
}

fn external_ips(spec: &Value, path: &At<'_>, errs: &mut Errs) {
    for (index, text) in strs(spec, "externalIPs").enumerate() {
        let at = path.i(index);
        if let Some(ip) = net::ip(text, &[], &at, errs) {
            net::special(&ip, text, &at, errs);
        }
    }
}

fn load_balancer_only(spec: &Value, kind: &str, path: &At<'_>, errs: &mut Errs) {
    let balanced = kind == "LoadBalancer";
    let ranges = path.f("LoadBalancerSourceRanges");
    if !balanced && has(spec, "loadBalancerSourceRanges") {
        errs.forbidden(&ranges, "may only be used when `type` is 'LoadBalancer'");
    }
    for (index, text) in strs(spec, "loadBalancerSourceRanges").enumerate().filter(|_| balanced) {
        net::cidr(text.trim(), &[], &ranges.i(index), errs);
    }
    for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if !balanced && set(spec, key) {
            errs.forbidden(&path.f(key), "may only be used when `type` is 'LoadBalancer'");
        }
    }
    if let Some(class) = get(spec, "loadBalancerClass").and_then(Value::as_str).filter(|_| balanced) {
        errs.invalid_each(&path.f("loadBalancerClass"), class, names::is_qualified_name(class));
    }
}

fn traffic(service: &Value, spec: &Value, kind: &str, path: &At<'_>, errs: &mut Errs) {
    let policies = ["Cluster", "Local"];
    let external = s(spec, "externalTrafficPolicy");
    if externally_accessible(service) {
        errs.required_one_of(&path.f("externalTrafficPolicy"), external, &policies);
    } else if !external.is_empty() {
        errs.invalid(
            &path.f("externalTrafficPolicy"),
            external,
            "may only be set for externally-accessible services",
        );
    }
    let health = i(spec, "healthCheckNodePort").unwrap_or(0);
    if needs_health_port(service) {
        net::port_number(health, &path.f("healthCheckNodePort"), errs);
    } else if health != 0 {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errs.invalid(&path.f("healthCheckNodePort"), health, why);
    }
    match get(spec, "internalTrafficPolicy").and_then(Value::as_str) {
        Some(policy) => errs.one_of(&path.f("internalTrafficPolicy"), policy, &policies),
        None if kind != "ExternalName" => errs.required(&path.f("internalTrafficPolicy"), ""),
        None => {}
    }
    if set(spec, "trafficDistribution") {
        let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        errs.one_of(&path.f("trafficDistribution"), s(spec, "trafficDistribution"), &known);
    }
}

fn validate_update(new: &Value, old: &Value, errs: &mut Errs) {
    let (a, b) = (spec_of(new), spec_of(old));
    let path = At::ROOT.f("spec");
    let fixed = |v: &Value| s(v, "type") != "ExternalName";
    if fixed(a) && fixed(b) {
        addresses_kept(a, b, &path, errs);
    }
    if needs_health_port(new) && needs_health_port(old) && !same_at(a, b, "healthCheckNodePort") {
        errs.forbidden(&path.f("healthCheckNodePort"), "field is immutable");
    }
    let balanced = |v: &Value| s(v, "type") == "LoadBalancer";
    if balanced(a) && balanced(b) {
        errs.immutable(&path.f("loadBalancerClass"), a.get("loadBalancerClass"), b.get("loadBalancerClass"));
    }
}

fn addresses_kept(new: &Value, old: &Value, path: &At<'_>, errs: &mut Errs) {
    let (a, b): (Vec<&str>, Vec<&str>) =
        (strs(new, "clusterIPs").collect(), strs(old, "clusterIPs").collect());
    let at = path.f("clusterIPs");
    match (a.first(), b.first()) {
        (None, Some(_)) => errs.invalid(&at.i(0), json!([]), "primary clusterIP can not be unset"),
        (Some(x), Some(y)) if x != y => errs.invalid(&at.i(0), *x, "may not change once set"),
        _ => {}
    }
    if let (Some(x), Some(y)) = (a.get(1), b.get(1))
        && x != y
    {
        errs.invalid(&at.i(1), *x, "may not change once set");
    }
    let (fa, fb): (Vec<&str>, Vec<&str>) =
        (strs(new, "ipFamilies").collect(), strs(old, "ipFamilies").collect());
    if let (Some(x), Some(y)) = (fa.first(), fb.first())
        && x != y
        && !is_headless(new)
    {
        errs.invalid(&path.f("ipFamilies").i(0), *x, "primary ipFamily can not be changed");
    }
    let shrunk = a.len() < b.len() && b.len() == 2 || fa.len() < fb.len() && fb.len() == 2;
    if shrunk && s(new, "ipFamilyPolicy") != "SingleStack" {
        errs.invalid(
            &path.f("ipFamilyPolicy"),
            s(new, "ipFamilyPolicy"),
            "must be set to 'SingleStack' when releasing the secondary cluster IP",
        );
    }
}

fn validate_status(new: &Value, _: &Value, errs: &mut Errs) {
    let entries = list_at(new, &["status", "loadBalancer", "ingress"]);
    let path = At::ROOT.f("status.loadBalancer.ingress");
    if !entries.is_empty() && s(spec_of(new), "type") != "LoadBalancer" {
        errs.forbidden(&path, "may only be used when `spec.type` is LoadBalancer");
    }
    for (index, entry) in entries.iter().enumerate() {
        let at = path.i(index);
        match (s(entry, "ip").is_empty(), get(entry, "ipMode").and_then(Value::as_str)) {
            (false, None) => errs.required(&at.f("ipMode"), "must be specified when `ip` is set"),
            (true, Some(_)) => errs.forbidden(&at.f("ipMode"), "may not be specified when `ip` is not set"),
            (false, Some(mode)) => errs.one_of(&at.f("ipMode"), mode, &["Proxy", "VIP"]),
            (true, None) => {}
        }
    }
    load_balancer(new, errs);
}

fn warnings(service: &Value, _: Option<&Value>, out: &mut Vec<String>) {
    let spec = spec_of(service);
    let path = At::ROOT.f("spec");
    if at(service, &["metadata", "annotations", "service.kubernetes.io/topology-aware-hints"]).is_some() {
        out.push("annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead".into());
    }
    for key in ["clusterIPs", "externalIPs"] {
        for (index, text) in strs(spec, key).enumerate().filter(|(_, t)| *t != "None") {
            net::warn_ip(&path.f(key).i(index), text, out);
        }
    }
    if is_headless(spec) {
        for key in ["loadBalancerIP", "externalIPs"].into_iter().filter(|k| has(spec, k)) {
            out.push(format!("spec.{key} is ignored when spec.clusterIP is \"None\""));
        }
        if !matches!(s(spec, "sessionAffinity"), "" | "None") {
            out.push("spec.SessionAffinity is ignored for headless services".into());
        }
    }
    if s(spec, "type") == "ExternalName" && has(spec, "externalIPs") {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if s(spec, "type") != "ExternalName" && has(spec, "externalName") {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if s(spec, "trafficDistribution") == "PreferClose" {
        out.push("spec.trafficDistribution: PreferClose is deprecated, use PreferSameZone".into());
    }
}
