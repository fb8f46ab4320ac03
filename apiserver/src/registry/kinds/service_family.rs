//! Which address families a service has, and in what order.

use crate::registry::errs::{At, Errs};
use crate::registry::kinds::service::{is_headless, needs_cluster_ip};
use crate::registry::val::{get, has, list, members, s, same_at, set, strs, sub};
use crate::registry::validate::net;
use serde_json::{Value, json};

/// Fills in the policy and the families of a service that has addresses (or is headless). `configured` are the
/// cluster's families, the default one first.
pub fn fill(service: &mut Value, old: Option<&Value>, configured: &[&str], errs: &mut Errs) {
    let spec = get(service, "spec").cloned().unwrap_or_default();
    if !needs_cluster_ip(service) {
        return;
    }
    let selectorless = is_headless(&spec) && !has(&spec, "selector");
    let policy = policy_of(&spec, selectorless);
    if let Some(old) = old.and_then(|o| get(o, "spec"))
        && policy == "SingleStack"
    {
        cut_to_one(service, old);
    }
    let families = families(get(service, "spec").unwrap_or(&Value::Null), &policy, selectorless, configured);
    check(&spec, &families, &policy, selectorless, configured, errs);
    let spec = sub(members(service), "spec");
    spec.insert("ipFamilyPolicy".into(), json!(policy));
    spec.insert("ipFamilies".into(), json!(families));
}

fn policy_of(spec: &Value, selectorless: bool) -> String {
    match s(spec, "ipFamilyPolicy") {
        "" if selectorless => "RequireDualStack".into(),
        "" => "SingleStack".into(),
        given => given.into(),
    }
}

/// Going back to one family drops the second address, when the client left the lists alone.
fn cut_to_one(service: &mut Value, old: &Value) {
    let spec = get(service, "spec").cloned().unwrap_or_default();
    if !same_at(&spec, old, "clusterIPs") || !same_at(&spec, old, "ipFamilies") {
        return;
    }
    let spec = sub(members(service), "spec");
    for key in ["clusterIPs", "ipFamilies"] {
        if let Some(list) = spec.get_mut(key).and_then(Value::as_array_mut) {
            list.truncate(1);
        }
    }
}

fn families(spec: &Value, policy: &str, selectorless: bool, configured: &[&str]) -> Vec<String> {
    let mut families: Vec<String> = strs(spec, "ipFamilies").map(str::to_owned).collect();
    if !is_headless(spec) {
        let of_ips = strs(spec, "clusterIPs").skip(families.len()).filter_map(net::parse_ip);
        let more: Vec<String> = of_ips.map(|ip| net::family(&ip).to_owned()).collect();
        families.extend(more);
    }
    if families.is_empty() {
        families.extend(configured.first().map(|f| (*f).to_owned()));
    }
    let dual = configured.len() > 1 || selectorless;
    if policy != "SingleStack" && families.len() == 1 && dual {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
    families
}

fn check(
    spec: &Value,
    families: &[String],
    policy: &str,
    selectorless: bool,
    configured: &[&str],
    errs: &mut Errs,
) {
    let path = At::ROOT.f("spec");
    let two = list(spec, "clusterIPs").len() > 1 || list(spec, "ipFamilies").len() > 1;
    if policy == "SingleStack" && two && set(spec, "ipFamilyPolicy") {
        errs.invalid(&path.f("ipFamilyPolicy"), policy, "must be RequireDualStack or PreferDualStack when multiple 'clusterIPs' or 'ipFamilies' are specified");
    }
    if selectorless {
        return;
    }
    if policy == "RequireDualStack" && configured.len() < 2 {
        errs.invalid(
            &path.f("ipFamilyPolicy"),
            policy,
            "this cluster is not configured for dual-stack services",
        );
    }
    for (index, family) in families.iter().enumerate() {
        let given = index < list(spec, "ipFamilies").len();
        let base = path.f(if given { "ipFamilies" } else { "clusterIPs" });
        if matches!(family.as_str(), "IPv4" | "IPv6")
            && !configured.contains(&family.as_str())
            && (given || !is_headless(spec))
        {
            errs.invalid(&base.i(index), family.as_str(), "not configured on this cluster");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(spec: Value, configured: &[&str]) -> (Value, Vec<String>) {
        let (mut service, mut errs) = (json!({"spec": spec}), Errs::default());
        fill(&mut service, None, configured, &mut errs);
        (service["spec"].clone(), errs.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn one_family() {
        let (spec, errs) = filled(json!({"type": "ClusterIP"}), &["IPv4"]);
        assert_eq!((&spec["ipFamilyPolicy"], &spec["ipFamilies"]), (&json!("SingleStack"), &json!(["IPv4"])));
        assert!(errs.is_empty());
        let (spec, _) = filled(json!({"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack"}), &["IPv4"]);
        assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
        let (_, errs) = filled(json!({"type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack"}), &["IPv4"]);
        assert_eq!(
            errs,
            [
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
            ]
        );
    }

    #[test]
    fn headless_without_selector_has_both() {
        let (spec, errs) =
            filled(json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}), &["IPv4"]);
        assert_eq!(
            (&spec["ipFamilyPolicy"], &spec["ipFamilies"]),
            (&json!("RequireDualStack"), &json!(["IPv4", "IPv6"]))
        );
        assert!(errs.is_empty());
    }

    #[test]
    fn two_families() {
        let (spec, _) = filled(
            json!({"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack", "clusterIPs": ["fd00::1"], "clusterIP": "fd00::1"}),
            &["IPv4", "IPv6"],
        );
        assert_eq!(spec["ipFamilies"], json!(["IPv6", "IPv4"]));
    }
}
