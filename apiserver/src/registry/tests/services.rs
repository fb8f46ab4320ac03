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
    check("{}", expect![[r#""#]]);
    check("{clusterIP: None}", expect![[r#""#]]);
    check("{type: ExternalName}", expect![[r#""#]]);
    check("{type: ExternalName, externalName: a.b., clusterIPs: [1.2.3.4], ipFamilyPolicy: SingleStack}", expect![[r#""#]]);
    check("{type: NodePort, clusterIP: None, ports: [{port: 0}, {port: 80, name: A}, {port: 80, name: b, protocol: X, targetPort: 0}]}", expect![[r#""#]]);
    check("{ports: [{port: 80, nodePort: 30000}], externalTrafficPolicy: Local, loadBalancerClass: x, loadBalancerSourceRanges: [a], healthCheckNodePort: 3}", expect![[r#""#]]);
    check("{ports: [{port: 80}], sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 90000}}, externalIPs: [127.0.0.1, x], internalTrafficPolicy: Z}", expect![[r#""#]]);
    check("{ports: [{port: 80, name: a}, {port: 80, name: a}], clusterIPs: [10.0.0.1, 10.0.0.2], clusterIP: 10.0.0.3, ipFamilies: [IPv6, IPv6]}", expect![[r#""#]]);
}

fn running(spec: &str) -> Value {
    created(&service(spec))
}

#[test]
fn updates() {
    let old = running("{ports: [{port: 80}], clusterIP: 10.0.0.5, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack}");
    let other = with(&with(&old, "/spec/clusterIP", json!("10.0.0.6")), "/spec/clusterIPs", json!(["10.0.0.6"]));
    expect![[r#""#]].assert_eq(&update_errors(&old, &other, ""));
    let bare = with(&with(&old, "/spec/clusterIP", json!("")), "/spec/clusterIPs", json!([]));
    expect![[r#""#]].assert_eq(&update_errors(&old, &bare, ""));
}

fn carried(old: &Value, mut new: Value) -> Value {
    strategy(old, "").carry_over(&mut new, old);
    new["spec"].clone()
}

#[test]
fn a_change_of_type_takes_along_what_it_cannot_keep() {
    let old = running("{type: NodePort, ports: [{port: 80, nodePort: 30080}], clusterIP: 10.0.0.5, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack}");
    let plain = carried(&old, with(&old, "/spec/type", json!("ClusterIP")));
    assert_eq!((plain["ports"][0].get("nodePort"), plain.get("externalTrafficPolicy")), (None, None));
    let renamed = with(&with(&old, "/spec/type", json!("ExternalName")), "/spec/externalName", json!("a.b"));
    let renamed = carried(&old, renamed);
    assert_eq!((renamed.get("clusterIP"), renamed.get("clusterIPs"), renamed.get("ipFamilies")), (None, None, None));
    let unsaid = carried(&old, with(&old, "/spec/ports", json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])));
    assert_eq!(unsaid["ports"][0]["nodePort"], 30080);
}
