use super::errors;
use expect_test::{Expect, expect};

fn check(spec: &str, want: Expect) {
    let pod = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: d}}, spec: {spec}}}");
    want.assert_eq(&errors(&pod));
}

/// A container with more in it.
fn with(more: &str) -> String {
    format!("{{containers: [{{name: c, image: i, {more}}}]}}")
}

#[test]
fn a_good_pod() {
    check("{containers: [{name: c, image: i}]}", expect![[r#""#]]);
}

#[test]
fn containers() {
    check("{}", expect![[r#""#]]);
    check("{containers: [{name: C_, image: ''}, {name: a, image: i}, {name: a, image: ' i'}]}", expect![[r#""#]]);
    check("{containers: [{name: a, image: i}], initContainers: [{name: a, image: i, livenessProbe: {exec: {command: [x]}}}]}", expect![[r#""#]]);
    check("{containers: [{name: a, image: i}], ephemeralContainers: [{name: e, image: i, ports: [{containerPort: 1}], targetContainerName: z}]}", expect![[r#""#]]);
    check(&with("imagePullPolicy: Sometimes, terminationMessagePolicy: X"), expect![[r#""#]]);
}

#[test]
fn ports() {
    check(&with("ports: [{containerPort: 0}, {containerPort: 70000, name: a}, {containerPort: 1, name: a, protocol: X}, {containerPort: 2, name: UPPER, hostPort: 99999}]"), expect![[r#""#]]);
    check(&with("ports: [{containerPort: 1, hostPort: 80}, {containerPort: 2, hostPort: 80}]"), expect![[r#""#]]);
    check("{hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 81}]}]}", expect![[r#""#]]);
}

#[test]
fn env() {
    check(&with("env: [{name: ''}, {name: 'a=b'}, {name: x, value: v, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: y, valueFrom: {}}]"), expect![[r#""#]]);
    check(&with("env: [{name: a, valueFrom: {fieldRef: {fieldPath: spec.nope}}}, {name: b, valueFrom: {fieldRef: {fieldPath: 'metadata.labels[''x y'']'}}}, {name: c, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}, {name: d, valueFrom: {secretKeyRef: {name: s, key: ''}}}]"), expect![[r#""#]]);
    check(&with("envFrom: [{}, {configMapRef: {name: ''}}, {configMapRef: {name: a}, secretRef: {name: b}}]"), expect![[r#""#]]);
}

#[test]
fn resources() {
    check(&with("resources: {limits: {cpu: 1, nvidia.com/gpu: 1500m, bad: 1}, requests: {cpu: 2, nvidia.com/gpu: 1, memory: -1, hugepages-2Mi: 1Mi}}"), expect![[r#""#]]);
    check(&with("resources: {claims: [{name: x}]}"), expect![[r#""#]]);
    check("{resources: {requests: {cpu: 1}, limits: {disk: 1}}, containers: [{name: c, image: i, resources: {requests: {cpu: 2}}}]}", expect![[r#""#]]);
}

#[test]
fn probes() {
    check(&with("livenessProbe: {}"), expect![[r#""#]]);
    check(&with("livenessProbe: {exec: {}, httpGet: {port: 0}, successThreshold: 2, periodSeconds: -1}"), expect![[r#""#]]);
    check(&with("readinessProbe: {httpGet: {port: a_b, scheme: FTP, httpHeaders: [{name: 'a b'}]}, terminationGracePeriodSeconds: 1}"), expect![[r#""#]]);
    check(&with("lifecycle: {preStop: {sleep: {seconds: 31}}, postStart: {}}"), expect![[r#""#]]);
}

#[test]
fn volumes() {
    check("{containers: [{name: c, image: i, volumeMounts: [{name: nope, mountPath: /a}, {name: v, mountPath: /a}, {name: v, mountPath: '', subPath: ../x}]}], volumes: [{name: v}, {name: v, hostPath: {path: /../x, type: Y}, emptyDir: {}}, {name: '', secret: {}}]}", expect![[r#""#]]);
    check("{containers: [{name: c, image: i}], volumes: [{name: a, configMap: {name: x, defaultMode: 512, items: [{key: '', path: ../z}]}}, {name: b, projected: {sources: [{serviceAccountToken: {path: t, expirationSeconds: 5}}, {configMap: {name: y, items: [{key: k, path: t}]}}]}}]}", expect![[r#""#]]);
    check("{containers: [{name: c, image: i}], volumes: [{name: a, nfs: {path: rel}}, {name: b, iscsi: {iqn: x}}, {name: d, csi: {}}, {name: e, persistentVolumeClaim: {}}, {name: f, ephemeral: {}}]}", expect![[r#""#]]);
    check(&with("volumeMounts: [{name: v, mountPath: /x, mountPropagation: Bidirectional, recursiveReadOnly: Enabled}]"), expect![[r#""#]]);
}

#[test]
fn scheduling() {
    check("{containers: [{name: c, image: i}], tolerations: [{key: ''}, {key: k, operator: Exists, value: v}, {key: k, operator: In, effect: E}, {key: k, effect: NoSchedule, tolerationSeconds: 1}]}", expect![[r#""#]]);
    check("{containers: [{name: c, image: i}], nodeSelector: {'a b': c}, affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}, preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {matchExpressions: [{key: a, operator: In}, {key: b, operator: Gt, values: ['1', '2']}]}}]}}}", expect![[r#""#]]);
    check("{containers: [{name: c, image: i}], affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchExpressions: [{key: a, operator: Exists, values: [x]}, {key: b, operator: Near}]}, namespaces: [A]}]}}}", expect![[r#""#]]);
    check("{containers: [{name: c, image: i}], topologySpreadConstraints: [{maxSkew: 0, topologyKey: z, whenUnsatisfiable: ScheduleAnyway, minDomains: 1}, {maxSkew: 1, topologyKey: z, whenUnsatisfiable: ScheduleAnyway}]}", expect![[r#""#]]);
    check("{containers: [{name: c, image: i}], nodeName: n, schedulingGates: [{name: a/b}, {name: a/b}]}", expect![[r#""#]]);
}

#[test]
fn security() {
    check("{hostPID: true, shareProcessNamespace: true, securityContext: {runAsUser: -1, fsGroup: 3000000000, sysctls: [{name: A}], seccompProfile: {type: Localhost}}, containers: [{name: c, image: i, securityContext: {privileged: true, allowPrivilegeEscalation: false, procMount: Unmasked, appArmorProfile: {type: X}}}]}", expect![[r#""#]]);
    check("{os: {name: windows}, hostPID: true, securityContext: {runAsUser: 1}, containers: [{name: c, image: i, securityContext: {readOnlyRootFilesystem: false}}]}", expect![[r#""#]]);
    check("{hostUsers: false, hostIPC: true, containers: [{name: c, image: i}]}", expect![[r#""#]]);
}

#[test]
fn the_rest_of_a_spec() {
    check("{restartPolicy: Maybe, dnsPolicy: None, activeDeadlineSeconds: 0, hostname: A, serviceAccountName: 'a b', preemptionPolicy: X, containers: [{name: c, image: i}]}", expect![[r#""#]]);
    check("{dnsConfig: {nameservers: [1.2.3.4, 01.2.3.4, x, 5.6.7.8], searches: [a_b., '-']}, hostAliases: [{ip: z, hostnames: ['*']}], containers: [{name: c, image: i}]}", expect![[r#""#]]);
    check("{resourceClaims: [{name: a}, {name: a, resourceClaimName: x, resourceClaimTemplateName: y}], containers: [{name: c, image: i}]}", expect![[r#""#]]);
}

#[test]
fn annotations() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: d, annotations: {kubernetes.io/config.mirror: x, controller.kubernetes.io/pod-deletion-cost: '+1', container.apparmor.security.beta.kubernetes.io/z: odd}}, spec: {containers: [{name: c, image: i}]}}";
    expect![[r#""#]].assert_eq(&errors(pod));
}
