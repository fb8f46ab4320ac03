use super::*;
use machinery::schema::type_named;
use serde_json::json;

fn ty(name: &str) -> &'static Type {
    type_named(&format!("io.k8s.api.{name}")).expect(name)
}

fn ok(name: &str, value: Value) -> Value {
    let decoded = decode(value.to_string().as_bytes(), ty(name)).expect("decodes");
    assert_eq!(decoded.strict_errors, Vec::<String>::new());
    decoded.value
}

#[test]
fn canonical_form() {
    let pod = ok(
        "core.v1.Pod",
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "creationTimestamp": null, "labels": {}},
        "spec": {"hostNetwork": false, "containers": [{"name": "c", "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}}}],
            "volumes": [{"name": "v", "emptyDir": {}}]}}),
    );
    assert_eq!(
        pod,
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}, "status": {},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}], "volumes": [{"name": "v", "emptyDir": {}}]}})
    );
    let service = ok("core.v1.Service", json!({"spec": {"ports": [{"port": 80}]}}));
    assert_eq!(
        service,
        json!({"metadata": {}, "spec": {"ports": [{"port": 80, "targetPort": 0}]}, "status": {"loadBalancer": {}}})
    );
    let role = ok("rbac.v1.Role", json!({}));
    assert_eq!(role, json!({"metadata": {}, "rules": null}));
}

#[test]
fn times_and_forms() {
    let lease = ok("coordination.v1.Lease", json!({"spec": {"renewTime": "2026-01-02T03:04:05Z"}}));
    assert_eq!(lease["spec"]["renewTime"], "2026-01-02T03:04:05.000000Z");
    let pod = ok("core.v1.Pod", json!({"status": {"startTime": "2026-01-02T05:04:05.9+02:00"}}));
    assert_eq!(pod["status"]["startTime"], "2026-01-02T03:04:05Z");
    let secret = ok("core.v1.Secret", json!({"data": {"a": "aGk=", "b": ""}}));
    assert_eq!(secret["data"], json!({"a": "aGk=", "b": ""}));
}

#[test]
fn strict_errors() {
    let text = r#"{"metadata":{"name":"a","nam":"b"},"spec":{"replicas":1,"replicas":2,"template":{"spec":{"containers":[{"name":"x"},{"imag":"y"}]}}},"foo":{"a":[1]}}"#;
    let decoded = decode(text.as_bytes(), ty("apps.v1.Deployment")).expect("decodes");
    assert_eq!(
        decoded.strict_errors,
        [
            r#"unknown field "metadata.nam""#,
            r#"duplicate field "spec.replicas""#,
            r#"unknown field "spec.template.spec.containers[1].imag""#,
            r#"unknown field "foo""#
        ]
    );
    assert_eq!(decoded.value["spec"]["replicas"], 2);
}

#[test]
fn type_errors() {
    let table = [
        (
            r#"{"spec":{"replicas":"1"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"image":5}]}}}}"#,
            "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.image of type string",
        ),
        (
            r#"{"metadata":{"labels":{"a":true}}}"#,
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (r#"[]"#, "json: cannot unmarshal array into Go value of type v1.Deployment"),
        (r#"{"spec":"#, "unexpected end of JSON input"),
    ];
    for (text, want) in table {
        let error = decode(text.as_bytes(), ty("apps.v1.Deployment")).expect_err(text);
        assert_eq!(error.to_string(), want);
    }
    assert!(decode(br#"{"data":{"a":"%"}}"#, ty("core.v1.Secret")).is_err());
    assert!(decode(br#"{} x"#, ty("core.v1.Secret")).is_err());
}

#[test]
fn schemas() {
    let crd = type_named("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
        .expect("schema");
    let text = json!({"type": "object", "properties": {"a": {"items": {"type": "string"}, "type": "array"}, "b": {"items": [{"type": "string"}]}},
        "additionalProperties": false, "default": {"x": null}, "enum": [null, 1, "a"], "dependencies": {"d": ["e"], "f": {"type": "string"}}, "maximum": 1.5});
    assert_eq!(decode(text.to_string().as_bytes(), crd).expect("ok").value, text);
}

#[test]
fn values_take_the_same_path() {
    let value = json!({"spec": {"replicas": 0, "paused": false, "zzz": 1}});
    let decoded = decode_value(value, ty("apps.v1.Deployment")).expect("ok");
    assert_eq!(decoded.value["spec"].get("paused"), None);
    assert_eq!(decoded.value["spec"]["replicas"], 0);
    assert_eq!(decoded.strict_errors, [r#"unknown field "spec.zzz""#]);
    assert_eq!(
        decode_any(br#"{"a":{"b":1,"b":null}}"#).expect("ok").strict_errors,
        [r#"duplicate field "a.b""#]
    );
}
