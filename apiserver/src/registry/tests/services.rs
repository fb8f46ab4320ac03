use super::{created, errors, strategy, update_errors, with};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn service(spec: &str) -> String {
    format!("{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: d}}, spec: {spec}}}")
}

fn check(spec: &str, want: Expect) {
    want.assert_eq(&errors(&service(spec)));
}

#[test]
fn creates() {
    check("{ports: [{port: 80}], clusterIP: 10.0.0.5}", expect![[r#""#]]);
    check(
        "{}",
        expect![[r#"
        spec.ports: Required value
    "#]],
    );
    check("{clusterIP: None}", expect![[r#""#]]);
    check(
        "{type: ExternalName}",
        expect![[r#"
        spec.externalName: Required value
    "#]],
    );
    check(
        "{type: ExternalName, externalName: a.b., clusterIPs: [1.2.3.4], ipFamilyPolicy: SingleStack}",
        expect![[r#"
        spec.clusterIPs: Forbidden: may not be set for ExternalName services
        spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services
    "#]],
    );
    check(
        "{type: NodePort, clusterIP: None, ports: [{port: 0}, {port: 80, name: A}, {port: 80, name: b, protocol: X, targetPort: 0}]}",
        expect![[r#"
        spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services
        spec.ports[0].name: Required value
        spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
        spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
        spec.ports[1].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        spec.ports[2].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
    "#]],
    );
    check(
        "{ports: [{port: 80, nodePort: 30000}], externalTrafficPolicy: Local, loadBalancerClass: x, loadBalancerSourceRanges: [a], healthCheckNodePort: 3}",
        expect![[r#"
        spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
        spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'
        spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'
        spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services
        spec.healthCheckNodePort: Invalid value: 3: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'
    "#]],
    );
    check(
        "{ports: [{port: 80}], sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 90000}}, externalIPs: [127.0.0.1, x], internalTrafficPolicy: Z}",
        expect![[r#"
        spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 90000: must be greater than 0 and less than 86400
        spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
        spec.externalIPs[1]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.internalTrafficPolicy: Unsupported value: "Z": supported values: "Cluster", "Local"
    "#]],
    );
    check(
        "{ports: [{port: 80, name: a}, {port: 80, name: a}], clusterIPs: [10.0.0.1, 10.0.0.2], clusterIP: 10.0.0.3, ipFamilies: [IPv6, IPv6]}",
        expect![[r#"
        spec.ports[1].name: Duplicate value: "a"
        spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}
        spec.ipFamilies[1]: Duplicate value: "IPv6"
        spec.clusterIPs: Invalid value: ["10.0.0.1","10.0.0.2"]: first value must match `clusterIP`
        spec.clusterIPs[0]: Invalid value: "10.0.0.1": expected an IPv6 value as indicated by `ipFamilies[0]`
        spec.clusterIPs[1]: Invalid value: "10.0.0.2": expected an IPv6 value as indicated by `ipFamilies[1]`
        spec.clusterIPs: Invalid value: ["10.0.0.1","10.0.0.2"]: may specify no more than one IP for each IP family
    "#]],
    );
}

fn running(spec: &str) -> Value {
    created(&service(spec))
}

#[test]
fn updates() {
    let old = running(
        "{ports: [{port: 80}], clusterIP: 10.0.0.5, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack}",
    );
    let other =
        with(&with(&old, "/spec/clusterIP", json!("10.0.0.6")), "/spec/clusterIPs", json!(["10.0.0.6"]));
    expect![[r#"
        spec.clusterIPs[0]: Invalid value: "10.0.0.6": may not change once set
    "#]]
    .assert_eq(&update_errors(&old, &other, ""));
    let bare = with(&with(&old, "/spec/clusterIP", json!("")), "/spec/clusterIPs", json!([]));
    expect![[r#""#]].assert_eq(&update_errors(&old, &bare, ""));
}

fn carried(old: &Value, mut new: Value) -> Value {
    strategy(old, "").carry_over(&mut new, old);
    new["spec"].clone()
}

#[test]
fn a_change_of_type_takes_along_what_it_cannot_keep() {
    let old = running(
        "{type: NodePort, ports: [{port: 80, nodePort: 30080}], clusterIP: 10.0.0.5, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack}",
    );
    let plain = carried(&old, with(&old, "/spec/type", json!("ClusterIP")));
    assert_eq!((plain["ports"][0].get("nodePort"), plain.get("externalTrafficPolicy")), (None, None));
    let renamed = with(&with(&old, "/spec/type", json!("ExternalName")), "/spec/externalName", json!("a.b"));
    let renamed = carried(&old, renamed);
    assert_eq!(
        (renamed.get("clusterIP"), renamed.get("clusterIPs"), renamed.get("ipFamilies")),
        (None, None, None)
    );
    let unsaid =
        carried(&old, with(&old, "/spec/ports", json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])));
    assert_eq!(unsaid["ports"][0]["nodePort"], 30080);
}
