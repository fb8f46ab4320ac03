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
    check(
        "{}",
        expect![[r#"
        spec.containers: Required value
    "#]],
    );
    check(
        "{containers: [{name: C_, image: ''}, {name: a, image: i}, {name: a, image: ' i'}]}",
        expect![[r#"
        spec.containers[0].name: Invalid value: "C_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        spec.containers[0].image: Required value
        spec.containers[2].image: Invalid value: " i": must not have leading or trailing whitespace
        spec.containers[2].name: Duplicate value: "a"
    "#]],
    );
    check(
        "{containers: [{name: a, image: i}], initContainers: [{name: a, image: i, livenessProbe: {exec: {command: [x]}}}]}",
        expect![[r#"
        spec.initContainers[0].name: Duplicate value: "a"
        spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
    "#]],
    );
    check(
        "{containers: [{name: a, image: i}], ephemeralContainers: [{name: e, image: i, ports: [{containerPort: 1}], targetContainerName: z}]}",
        expect![[r#"
        spec.ephemeralContainers[0].targetContainerName: Not found: "z"
        spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container
        spec.ephemeralContainers: Forbidden: cannot be set on create
    "#]],
    );
    check(
        &with("imagePullPolicy: Sometimes, terminationMessagePolicy: X"),
        expect![[r#"
        spec.containers[0].terminationMessagePolicy: Unsupported value: "X": supported values: "FallbackToLogsOnError", "File"
        spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"
    "#]],
    );
}

#[test]
fn ports() {
    check(
        &with(
            "ports: [{containerPort: 0}, {containerPort: 70000, name: a}, {containerPort: 1, name: a, protocol: X}, {containerPort: 2, name: UPPER, hostPort: 99999}]",
        ),
        expect![[r#"
        spec.containers[0].ports[0].containerPort: Required value
        spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
        spec.containers[0].ports[2].name: Duplicate value: "a"
        spec.containers[0].ports[2].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
        spec.containers[0].ports[3].name: Invalid value: "UPPER": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
        spec.containers[0].ports[3].name: Invalid value: "UPPER": must contain at least one letter (a-z)
        spec.containers[0].ports[3].hostPort: Invalid value: 99999: must be between 1 and 65535, inclusive
    "#]],
    );
    check(
        &with("ports: [{containerPort: 1, hostPort: 80}, {containerPort: 2, hostPort: 80}]"),
        expect![[r#"
        spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80"
    "#]],
    );
    check(
        "{hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 81}]}]}",
        expect![[r#"
        spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true
    "#]],
    );
}

#[test]
fn env() {
    check(
        &with(
            "env: [{name: ''}, {name: 'a=b'}, {name: x, value: v, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: y, valueFrom: {}}]",
        ),
        expect![[r#"
        spec.containers[0].env[0].name: Required value
        spec.containers[0].env[1].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
        spec.containers[0].env[2].valueFrom: Invalid value: "": may not be specified when `value` is not empty
        spec.containers[0].env[3].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
    "#]],
    );
    check(
        &with(
            "env: [{name: a, valueFrom: {fieldRef: {fieldPath: spec.nope}}}, {name: b, valueFrom: {fieldRef: {fieldPath: 'metadata.labels[''x y'']'}}}, {name: c, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}, {name: d, valueFrom: {secretKeyRef: {name: s, key: ''}}}]",
        ),
        expect![[r#"
        spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.nope": error converting fieldPath: field label not supported: spec.nope
        spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: "x y": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.containers[0].env[2].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"
        spec.containers[0].env[3].valueFrom.secretKeyRef.key: Required value
    "#]],
    );
    check(
        &with("envFrom: [{}, {configMapRef: {name: ''}}, {configMapRef: {name: a}, secretRef: {name: b}}]"),
        expect![[r#"
        spec.containers[0].envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
        spec.containers[0].envFrom[1].configMapRef.name: Required value
        spec.containers[0].envFrom[2]: Invalid value: "": may not have more than one field specified at a time
    "#]],
    );
}

#[test]
fn resources() {
    check(
        &with(
            "resources: {limits: {cpu: 1, nvidia.com/gpu: 1500m, bad: 1}, requests: {cpu: 2, nvidia.com/gpu: 1, memory: -1, hugepages-2Mi: 1Mi}}",
        ),
        expect![[r#"
            spec.containers[0].resources.limits[bad]: Invalid value: "bad": must be a standard resource type or fully qualified
            spec.containers[0].resources.limits[bad]: Invalid value: "bad": must be a standard resource for containers
            spec.containers[0].resources.limits[nvidia.com/gpu]: Invalid value: "1500m": must be an integer
            spec.containers[0].resources.requests[bad]: Invalid value: "bad": must be a standard resource type or fully qualified
            spec.containers[0].resources.requests[bad]: Invalid value: "bad": must be a standard resource for containers
            spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: "1Mi": must be a multiple of the page size
            spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0
            spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
            spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources
            spec.containers[0].resources.requests: Invalid value: "1": must be equal to nvidia.com/gpu limit of 1500m
        "#]],
    );
    check(
        &with("resources: {claims: [{name: x}]}"),
        expect![[r#"
        spec.containers[0].resources.claims[0]: Not found: "x"
    "#]],
    );
    check(
        "{resources: {requests: {cpu: 1}, limits: {disk: 1}}, containers: [{name: c, image: i, resources: {requests: {cpu: 2}}}]}",
        expect![[r#"
        spec.resources.limits[disk]: Unsupported value: "disk": supported values: "cpu", "hugepages-", "memory"
        spec.resources.requests[disk]: Unsupported value: "disk": supported values: "cpu", "hugepages-", "memory"
        spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 2
    "#]],
    );
}

#[test]
fn probes() {
    check(
        &with("livenessProbe: {}"),
        expect![[r#"
        spec.containers[0].livenessProbe: Required value: must specify a handler type
    "#]],
    );
    check(
        &with("livenessProbe: {exec: {}, httpGet: {port: 0}, successThreshold: 2, periodSeconds: -1}"),
        expect![[r#"
        spec.containers[0].livenessProbe.exec.command: Required value
        spec.containers[0].livenessProbe.httpGet: Forbidden: may not specify more than 1 handler type
        spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
        spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
    "#]],
    );
    check(
        &with(
            "readinessProbe: {httpGet: {port: a_b, scheme: FTP, httpHeaders: [{name: 'a b'}]}, terminationGracePeriodSeconds: 1}",
        ),
        expect![[r#"
        spec.containers[0].readinessProbe.httpGet.port: Invalid value: "a_b": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
        spec.containers[0].readinessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"
        spec.containers[0].readinessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')
        spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes
    "#]],
    );
    check(
        &with("lifecycle: {preStop: {sleep: {seconds: 31}}, postStart: {}}"),
        expect![[r#"
        spec.containers[0].lifecycle.postStart: Required value: must specify a handler type
        spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30).
    "#]],
    );
}

#[test]
fn volumes() {
    check(
        "{containers: [{name: c, image: i, volumeMounts: [{name: nope, mountPath: /a}, {name: v, mountPath: /a}, {name: v, mountPath: '', subPath: ../x}]}], volumes: [{name: v}, {name: v, hostPath: {path: /../x, type: Y}, emptyDir: {}}, {name: '', secret: {}}]}",
        expect![[r#"
        spec.volumes[1].hostPath.path: Invalid value: "/../x": must not contain '..'
        spec.volumes[1].hostPath.type: Unsupported value: "Y": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
        spec.volumes[1].emptyDir: Forbidden: may not specify more than 1 volume type
        spec.volumes[1].name: Duplicate value: "v"
        spec.volumes[2].secret.secretName: Required value
        spec.volumes[2].name: Required value
        spec.containers[0].volumeMounts[0].name: Not found: "nope"
        spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
        spec.containers[0].volumeMounts[2].mountPath: Required value
        spec.containers[0].volumeMounts.subPath: Invalid value: "../x": must not contain '..'
    "#]],
    );
    check(
        "{containers: [{name: c, image: i}], volumes: [{name: a, configMap: {name: x, defaultMode: 512, items: [{key: '', path: ../z}]}}, {name: b, projected: {sources: [{serviceAccountToken: {path: t, expirationSeconds: 5}}, {configMap: {name: y, items: [{key: k, path: t}]}}]}}]}",
        expect![[r#"
        spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive
        spec.volumes[0].configMap.items[0].key: Required value
        spec.volumes[0].configMap.items[0].path: Invalid value: "../z": must not contain '..'
        spec.volumes[1].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes
        spec.volumes[1].projected: Invalid value: "t": conflicting duplicate paths
        spec.volumes[1].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set
    "#]],
    );
    check(
        "{containers: [{name: c, image: i}], volumes: [{name: a, nfs: {path: rel}}, {name: b, iscsi: {iqn: x}}, {name: d, csi: {}}, {name: e, persistentVolumeClaim: {}}, {name: f, ephemeral: {}}]}",
        expect![[r#"
        spec.volumes[0].nfs.server: Required value
        spec.volumes[0].nfs.path: Invalid value: "rel": must be an absolute path
        spec.volumes[1].iscsi.targetPortal: Required value
        spec.volumes[1].iscsi.iqn: Invalid value: "x": must be valid format starting with iqn, eui, or naa
        spec.volumes[2].csi.driver: Required value
        spec.volumes[3].persistentVolumeClaim.claimName: Required value
        spec.volumes[4].ephemeral.volumeClaimTemplate: Required value
    "#]],
    );
    check(
        &with(
            "volumeMounts: [{name: v, mountPath: /x, mountPropagation: Bidirectional, recursiveReadOnly: Enabled}]",
        ),
        expect![[r#"
        spec.containers[0].volumeMounts[0].name: Not found: "v"
        spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers
        spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when readOnly is true
        spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified
    "#]],
    );
}

#[test]
fn scheduling() {
    check(
        "{containers: [{name: c, image: i}], tolerations: [{key: ''}, {key: k, operator: Exists, value: v}, {key: k, operator: In, effect: E}, {key: k, effect: NoSchedule, tolerationSeconds: 1}]}",
        expect![[r#"
        spec.tolerations[0].operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all values and all keys"
        spec.tolerations[1].operator: Invalid value: {"key":"k","operator":"Exists","value":"v"}: value must be empty when `operator` is 'Exists'
        spec.tolerations[2].operator: Unsupported value: "In": supported values: "Equal", "Exists"
        spec.tolerations[2].effect: Unsupported value: "E": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
        spec.tolerations[3].effect: Invalid value: "NoSchedule": effect must be 'NoExecute' when `tolerationSeconds` is set
    "#]],
    );
    check(
        "{containers: [{name: c, image: i}], nodeSelector: {'a b': c}, affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}, preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {matchExpressions: [{key: a, operator: In}, {key: b, operator: Gt, values: ['1', '2']}]}}]}}}",
        expect![[r#"
        spec.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term
        spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
        spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
        spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'
    "#]],
    );
    check(
        "{containers: [{name: c, image: i}], affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchExpressions: [{key: a, operator: Exists, values: [x]}, {key: b, operator: Near}]}, namespaces: [A]}]}}}",
        expect![[r#"
        spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'
        spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[1].operator: Invalid value: "Near": not a valid selector operator
        spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespace: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty
    "#]],
    );
    check(
        "{containers: [{name: c, image: i}], topologySpreadConstraints: [{maxSkew: 0, topologyKey: z, whenUnsatisfiable: ScheduleAnyway, minDomains: 1}, {maxSkew: 1, topologyKey: z, whenUnsatisfiable: ScheduleAnyway}]}",
        expect![[r#"
        spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
        spec.topologySpreadConstraints[0].minDomains: Invalid value: 1: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway
        spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{z, ScheduleAnyway}"
    "#]],
    );
    check(
        "{containers: [{name: c, image: i}], nodeName: n, schedulingGates: [{name: a/b}, {name: a/b}]}",
        expect![[r#"
        spec.schedulingGates[1].name: Duplicate value: "a/b"
        spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared
    "#]],
    );
}

#[test]
fn security() {
    check(
        "{hostPID: true, shareProcessNamespace: true, securityContext: {runAsUser: -1, fsGroup: 3000000000, sysctls: [{name: A}], seccompProfile: {type: Localhost}}, containers: [{name: c, image: i, securityContext: {privileged: true, allowPrivilegeEscalation: false, procMount: Unmasked, appArmorProfile: {type: X}}}]}",
        expect![[r#"
        spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`
        spec.containers[0].securityContext.appArmorProfile.type: Unsupported value: "X": supported values: "Localhost", "RuntimeDefault", "Unconfined"
        spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"appArmorProfile":{"type":"X"},"privileged":true,"procMount":"Unmasked"}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
        spec.securityContext.fsGroup: Invalid value: 3000000000: must be between 0 and 2147483647, inclusive
        spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
        spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled
        spec.securityContext.sysctls[0].name: Invalid value: "A": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$
        spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost
    "#]],
    );
    check(
        "{os: {name: windows}, hostPID: true, securityContext: {runAsUser: 1}, containers: [{name: c, image: i, securityContext: {readOnlyRootFilesystem: false}}]}",
        expect![[r#"
        spec.hostPID: Forbidden: hostPID cannot be set for a windows pod
        spec.securityContext.runAsUser: Forbidden: runAsUser cannot be set for a windows pod
        spec.containers[0].securityContext.readOnlyRootFilesystem: Forbidden: readOnlyRootFilesystem cannot be set for a windows pod
    "#]],
    );
    check(
        "{hostUsers: false, hostIPC: true, containers: [{name: c, image: i}]}",
        expect![[r#"
        spec.HostIPC: Forbidden: when `hostUsers` is false
    "#]],
    );
}

#[test]
fn the_rest_of_a_spec() {
    check(
        "{restartPolicy: Maybe, dnsPolicy: None, activeDeadlineSeconds: 0, hostname: A, serviceAccountName: 'a b', preemptionPolicy: X, containers: [{name: c, image: i}]}",
        expect![[r#"
        spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"
        spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None
        spec.serviceAccountName: Invalid value: "a b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
        spec.preemptionPolicy: Unsupported value: "X": supported values: "Never", "PreemptLowerPriority"
        spec.hostname: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
    "#]],
    );
    check(
        "{dnsConfig: {nameservers: [1.2.3.4, 01.2.3.4, x, 5.6.7.8], searches: [a_b., '-']}, hostAliases: [{ip: z, hostnames: ['*']}], containers: [{name: c, image: i}]}",
        expect![[r#"
        spec.dnsConfig.nameservers: Invalid value: ["1.2.3.4","01.2.3.4","x","5.6.7.8"]: must not have more than 3 nameservers
        spec.dnsConfig.nameservers[1]: Invalid value: "01.2.3.4": must not have leading 0s
        spec.dnsConfig.nameservers[2]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.dnsConfig.searches[1]: Invalid value: "-": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.hostAliases[0].ip: Invalid value: "z": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.hostAliases[0].hostnames[0]: Invalid value: "*": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
    "#]],
    );
    check(
        "{resourceClaims: [{name: a}, {name: a, resourceClaimName: x, resourceClaimTemplateName: y}], containers: [{name: c, image: i}]}",
        expect![[r#"
        spec.resourceClaims[0]: Invalid value: {"name":"a"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`
        spec.resourceClaims[1].name: Duplicate value: "a"
        spec.resourceClaims[1]: Invalid value: {"name":"a","resourceClaimName":"x","resourceClaimTemplateName":"y"}: at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified
    "#]],
    );
}

#[test]
fn annotations() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: d, annotations: {kubernetes.io/config.mirror: x, controller.kubernetes.io/pod-deletion-cost: '+1', container.apparmor.security.beta.kubernetes.io/z: odd}}, spec: {containers: [{name: c, image: i}]}}";
    expect![[r#"
        metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit integer
        metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": must set spec.nodeName if mirror pod annotation is set
        metadata.annotations[container.apparmor.security.beta.kubernetes.io/z]: Invalid value: "z": container not found
        metadata.annotations[container.apparmor.security.beta.kubernetes.io/z]: Invalid value: "odd": invalid AppArmor profile name: "odd"
    "#]].assert_eq(&errors(pod));
}
