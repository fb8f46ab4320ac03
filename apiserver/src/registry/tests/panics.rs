//! Whatever comes in, nothing panics: arbitrary values, and good manifests with arbitrary values put into them.

use super::{KINDS, created};
use crate::registry::strategy::KindStrategy;
use crate::strategy::Strategy as _;
use machinery::kinds::builtin;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|f| json!(f)),
        "[ -~é/.%:]{0,20}".prop_map(Value::from),
        prop_oneof![Just("10.0.0.1"), Just("1Gi"), Just("50%"), Just("None"), Just("-1"), Just("a.b/c[")]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((member(), inner), 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn member() -> impl Strategy<Value = String> {
    let known = [
        "metadata",
        "spec",
        "status",
        "name",
        "containers",
        "ports",
        "template",
        "selector",
        "type",
        "rules",
        "resources",
        "limits",
        "requests",
        "volumes",
        "labels",
        "annotations",
        "cpu",
        "storage",
        "conditions",
        "clusterIPs",
        "hard",
        "default",
    ];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), "[a-z.]{0,6}"]
}

/// Puts `value` at the `n`th place of a value, in order of a walk.
fn put(target: &mut Value, n: &mut usize, value: &Value) {
    if *n == 0 {
        *target = value.clone();
    }
    *n = n.wrapping_sub(1);
    match target {
        Value::Object(o) => o.values_mut().for_each(|v| put(v, n, value)),
        Value::Array(a) => a.iter_mut().for_each(|v| put(v, n, value)),
        _ => {}
    }
}

fn exercise(strategy: &KindStrategy, a: &Value, b: &Value) {
    let mut object = a.clone();
    strategy.default(&mut object);
    strategy.start(&mut object);
    let _ = strategy.check_create(&object);
    let mut changed = b.clone();
    strategy.default(&mut changed);
    strategy.carry_over(&mut changed, &object);
    let _ = strategy.check_update(&changed, &object);
    let _ = strategy.check_graceful_delete(&object, None);
    strategy.canonicalize(&mut object);
}

const SUBRESOURCES: [&str; 6] = ["", "status", "ephemeralcontainers", "resize", "finalize", "approval"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn on_anything(a in any_value(), b in any_value()) {
        for resource in builtin() {
            let Some(kind) = KINDS.iter().find(|k| k.group == resource.group && k.plural == resource.plural) else { continue };
            for sub in SUBRESOURCES.iter().filter(|s| s.is_empty() || resource.subresource(s).is_some()) {
                exercise(&KindStrategy::new(kind, resource, sub), &a, &b);
            }
            let mut warnings = Vec::new();
            (kind.warnings)(&a, Some(&b), &mut warnings);
            (kind.warnings)(&a, None, &mut warnings);
        }
    }

    #[test]
    fn on_almost_good_pods(value in any_value(), place in 0usize..80, other in 0usize..80) {
        let pod = created("{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {a: b}}, spec: {affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: z, labelSelector: {matchLabels: {a: b}}}]}}, tolerations: [{key: k}], containers: [{name: c, image: i, ports: [{containerPort: 80}], env: [{name: a, value: b}], resources: {limits: {cpu: 1}}, volumeMounts: [{name: v, mountPath: /x}], livenessProbe: {httpGet: {port: 80}}}], volumes: [{name: v, configMap: {name: c, items: [{key: a, path: b}]}}]}}");
        let (mut a, mut b) = (pod.clone(), pod.clone());
        put(&mut a, &mut place.clone(), &value);
        put(&mut b, &mut other.clone(), &value);
        for sub in ["", "status", "ephemeralcontainers", "resize"] {
            exercise(&super::strategy(&pod, sub), &a, &b);
        }
    }
}
