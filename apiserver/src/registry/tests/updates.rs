use super::{created, strategy, update_errors, with};
use expect_test::expect;
use serde_json::{Value, json};

fn pod(spec: &str) -> Value {
    created(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: d, resourceVersion: '5'}}, spec: {spec}}}"
    ))
}

#[test]
fn what_may_change_in_a_pod() {
    let old = pod(
        "{containers: [{name: c, image: i}], tolerations: [{key: a, operator: Exists}], activeDeadlineSeconds: 10}",
    );
    let good = [
        with(&old, "/spec/containers/0/image", json!("other")),
        with(&old, "/spec/tolerations/-", json!({"key": "b", "operator": "Exists"})),
        with(&old, "/spec/activeDeadlineSeconds", json!(5)),
    ];
    for new in good {
        assert_eq!(update_errors(&old, &new, ""), "");
    }
    let bad = [
        (
            with(
                &old,
                "/spec/containers/-",
                json!({"name": "d", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}),
            ),
            expect![[r#"
            spec.containers: Forbidden: pod updates may not add or remove containers
        "#]],
        ),
        (
            with(&old, "/spec/activeDeadlineSeconds", json!(11)),
            expect![[r#"
            spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value
        "#]],
        ),
        (
            with(&old, "/spec/tolerations", json!([])),
            expect![[r#"
            spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds
        "#]],
        ),
        (
            with(&old, "/spec/nodeName", json!("n")),
            expect![[r#"
            spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
            - nodeName: nil
            + nodeName: "n"
        "#]],
        ),
        (
            with(&old, "/spec/containers/0/image", json!("")),
            expect![[r#"
            spec.containers[0].image: Required value
        "#]],
        ),
    ];
    for (new, want) in bad {
        want.assert_eq(&update_errors(&old, &new, ""));
    }
}

#[test]
fn ephemeral_containers_are_only_added() {
    let old = pod("{containers: [{name: c, image: i}]}");
    let debug =
        json!({"name": "e", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"});
    let new =
        with(&with(&old, "/spec/ephemeralContainers", json!([debug])), "/spec/nodeName", json!("ignored"));
    let mut carried = new.clone();
    strategy(&old, "ephemeralcontainers").carry_over(&mut carried, &old);
    assert_eq!((carried["spec"].get("nodeName"), &carried["metadata"]["generation"]), (None, &json!(2)));
    assert_eq!(update_errors(&old, &new, "ephemeralcontainers"), "");
    expect![[r#"
        spec.ephemeralContainers: Forbidden: existing ephemeral containers "e" may not be removed

    "#]]
    .assert_eq(&update_errors(&carried, &old, "ephemeralcontainers"));
}

#[test]
fn resizing() {
    let old = pod("{containers: [{name: c, image: i, resources: {requests: {cpu: 1}}}]}");
    assert_eq!(
        update_errors(&old, &with(&old, "/spec/containers/0/resources/requests/cpu", json!("2")), "resize"),
        ""
    );
    let less = with(&old, "/spec/containers/0/resources/requests", json!({}));
    expect![[r#"
        spec: Invalid value: "BestEffort": Pod QOS Class may not change as a result of resizing
        spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed
    "#]]
    .assert_eq(&update_errors(&old, &less, "resize"));
}

#[test]
fn a_status_write_changes_nothing_else() {
    let old = pod("{containers: [{name: c, image: i}]}");
    let new = with(&with(&old, "/spec/nodeName", json!("n")), "/status", json!({"phase": "Running"}));
    let mut carried = new.clone();
    strategy(&old, "status").carry_over(&mut carried, &old);
    assert_eq!(carried["spec"], old["spec"]);
    assert_eq!(carried["status"], json!({"phase": "Running", "qosClass": "BestEffort"}));
    let main = with(&old, "/status", json!({"phase": "Running"}));
    let mut carried = main;
    strategy(&old, "").carry_over(&mut carried, &old);
    assert_eq!(carried["status"], old["status"]);
}

#[test]
fn generations() {
    let old = created("{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {}}");
    let generation = |new: Value, sub: &str| {
        let mut new = new;
        strategy(&old, sub).carry_over(&mut new, &old);
        new["metadata"]["generation"].clone()
    };
    assert_eq!(generation(old.clone(), ""), 1);
    assert_eq!(generation(with(&old, "/spec/replicas", json!(2)), ""), 2);
    assert_eq!(generation(with(&old, "/metadata/annotations", json!({"a": "b"})), ""), 2);
    assert_eq!(generation(with(&old, "/metadata/labels", json!({"a": "b"})), ""), 1);
    assert_eq!(generation(with(&old, "/spec/replicas", json!(2)), "status"), 1);
}

#[test]
fn fixed_fields() {
    let labels = json!({"matchLabels": {"x": "y"}});
    let cases = [
        (
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b, x: y}}, spec: {containers: [{name: c, image: i}]}}}}",
            "/spec/selector",
            labels,
            expect![[r#"
            spec.selector: Invalid value: {"matchLabels":{"x":"y"}}: field is immutable
        "#]],
        ),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: s}, immutable: true, data: {a: Yg==}}",
            "/data",
            json!({}),
            expect![[r#"
            data: Forbidden: field is immutable when `immutable` is set
        "#]],
        ),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: s}}",
            "/type",
            json!("other"),
            expect![[r#"
            type: Invalid value: "other": field is immutable
        "#]],
        ),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: s}, immutable: true, data: {a: b}}",
            "/immutable",
            json!(false),
            expect![[r#"
            immutable: Forbidden: field is immutable when `immutable` is set
        "#]],
        ),
        (
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: b, namespace: n}, roleRef: {kind: Role, name: r}}",
            "/roleRef/name",
            json!("q"),
            expect![[r#"
            roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"q"}: cannot change roleRef
        "#]],
        ),
        (
            "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: p}, value: 1}",
            "/value",
            json!(2),
            expect![[r#"
            value: Forbidden: may not be changed in an update.
        "#]],
        ),
        (
            "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: s}, spec: {serviceName: a, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}",
            "/spec/serviceName",
            json!("b"),
            expect![[r#"
            spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden
        "#]],
        ),
        (
            "{apiVersion: v1, kind: Node, metadata: {name: n}, spec: {podCIDR: 10.0.0.0/24, podCIDRs: [10.0.0.0/24]}}",
            "/spec/podCIDRs",
            json!(["10.0.1.0/24"]),
            expect![[r#"
            spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid
        "#]],
        ),
        (
            "{apiVersion: v1, kind: PersistentVolume, metadata: {name: v}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /a}}}",
            "/spec/hostPath/path",
            json!("/b"),
            expect![[r#"
            spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation
        "#]],
        ),
        (
            "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: v, namespace: n}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}",
            "/spec/resources/requests/storage",
            json!("2Gi"),
            expect![[r#"
            spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
        "#]],
        ),
        (
            "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: c}, provisioner: a/b}",
            "/provisioner",
            json!("c/d"),
            expect![[r#"
            provisioner: Invalid value: "c/d": field is immutable
        "#]],
        ),
    ];
    for (manifest, pointer, value, want) in cases {
        let old = created(manifest);
        want.assert_eq(&update_errors(&old, &with(&old, pointer, value), ""));
    }
}

#[test]
fn namespaces_end_by_their_own_rules() {
    let old = created("{apiVersion: v1, kind: Namespace, metadata: {name: n}}");
    let mut finalized = with(&old, "/spec/finalizers", json!([]));
    strategy(&old, "finalize").carry_over(&mut finalized, &old);
    assert_eq!(finalized["spec"]["finalizers"], json!([]));
    let mut main = with(&old, "/spec/finalizers", json!([]));
    strategy(&old, "").carry_over(&mut main, &old);
    assert_eq!(main["spec"]["finalizers"], json!(["kubernetes"]));
}

#[test]
fn grace() {
    use crate::registry::kinds::pod::grace;
    let unscheduled = json!({"spec": {"terminationGracePeriodSeconds": 30}});
    let bound = json!({"spec": {"terminationGracePeriodSeconds": 30, "nodeName": "n"}});
    let done = json!({"spec": {"terminationGracePeriodSeconds": 30, "nodeName": "n"}, "status": {"phase": "Succeeded"}});
    assert_eq!(
        [
            grace(&unscheduled, None),
            grace(&bound, None),
            grace(&bound, Some(5)),
            grace(&bound, Some(-1)),
            grace(&done, None)
        ],
        [0, 30, 5, 1, 0]
    );
}

#[test]
fn what_a_job_may_say_of_its_indexes() {
    let old = created(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: j, namespace: d, resourceVersion: '5'}, spec: {completionMode: Indexed, completions: 8, parallelism: 2, backoffLimitPerIndex: 1, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}",
    );
    let status = |status: Value| update_errors(&old, &with(&old, "/status", status), "status");
    assert_eq!(status(json!({"completedIndexes": "0,2,4-6", "failedIndexes": "1,7", "succeeded": 5})), "");
    for (wrong, found) in [
        (json!({"completedIndexes": "2,1"}), "error parsing completedIndexes: non-increasing order"),
        (json!({"completedIndexes": "0-9"}), "error parsing completedIndexes: too large index: \"9\""),
        (json!({"completedIndexes": "1-3", "failedIndexes": "3,4"}), "overlap at index: 3"),
        (
            json!({"startTime": "2026-01-01T10:00:00Z", "completionTime": "2026-01-01T09:00:00Z",
                "conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]}),
            "completionTime cannot be set before startTime",
        ),
    ] {
        let errors = status(wrong.clone());
        assert!(errors.contains(found), "{wrong}: {errors}");
    }
}
