use super::errors;
use expect_test::expect;

#[test]
fn workloads() {
    let cases = [
        (
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {replicas: -1, minReadySeconds: 700, selector: {}, strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}, template: {metadata: {labels: {a: b}}, spec: {restartPolicy: Never, activeDeadlineSeconds: 1, containers: [{name: c, image: i}]}}}}",
            expect![[r#"
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.selector: Invalid value: {}: empty selector is invalid for deployment
            spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
            spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported
            spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0
            spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds
        "#]],
        ),
        (
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {selector: {matchLabels: {x: y}}, strategy: {type: Recreate, rollingUpdate: {}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c}]}}}}",
            expect![[r#"
            spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
            spec.template.spec.containers[0].image: Required value
            spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'
        "#]],
        ),
        (
            "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: d}, spec: {}}",
            expect![[r#"
            spec.selector: Required value
            spec.template: Required value
        "#]],
        ),
        (
            "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: d}, spec: {podManagementPolicy: X, updateStrategy: {type: OnDelete, rollingUpdate: {}}, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i, volumeMounts: [{name: data, mountPath: /d}]}]}}, volumeClaimTemplates: [{metadata: {name: data}, spec: {}}]}}",
            expect![[r#"
            spec.podManagementPolicy: Invalid value: "X": must be 'OrderedReady' or 'Parallel'
            spec.updateStrategy.rollingUpdate: Invalid value: {}: only allowed for updateStrategy 'RollingUpdate'
            spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required
            spec.volumeClaimTemplates[0].spec.resources[storage]: Required value
        "#]],
        ),
        (
            "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: d}, spec: {updateStrategy: {rollingUpdate: {maxUnavailable: 101%, maxSurge: 1}}, template: {spec: {containers: [{name: c, image: i}]}}}}",
            expect![[r#"
            spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
            spec.selector: Invalid value: null: empty selector is invalid for daemonset
            spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%
            spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero
        "#]],
        ),
        (
            "{apiVersion: batch/v1, kind: Job, metadata: {name: j, uid: u}, spec: {completionMode: Indexed, backoffLimit: -1, template: {spec: {containers: [{name: c, image: i}]}}}}",
            expect![[r#"
            spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0
            spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
        "#]],
        ),
        (
            "{apiVersion: batch/v1, kind: Job, metadata: {name: j, uid: u}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}",
            expect![[r#"
            spec.selector: Invalid value: {"matchLabels":{"a":"b","batch.kubernetes.io/controller-uid":"u"}}: `selector` not auto-generated
        "#]],
        ),
        (
            "{apiVersion: batch/v1, kind: CronJob, metadata: {name: this-name-is-longer-than-fifty-two-characters-which-is-bad}, spec: {schedule: 'TZ=UTC 61 * * * *', timeZone: Nowhere/Land, jobTemplate: {spec: {manualSelector: true, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}}",
            expect![[r#"
            metadata.name: Invalid value: "this-name-is-longer-than-fifty-two-characters-which-is-bad": must be no more than 52 characters
            spec.schedule: Invalid value: "TZ=UTC 61 * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead
            spec.schedule: Invalid value: "TZ=UTC 61 * * * *": end of range (61) above maximum (59): 61
            spec.timeZone: Invalid value: "Nowhere/Land": unknown time zone Nowhere/Land
            spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false"
        "#]],
        ),
    ];
    for (manifest, want) in cases {
        want.assert_eq(&errors(manifest));
    }
}

#[test]
fn core_kinds() {
    let cases = [
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {'a b': x, k: v}, binaryData: {k: eA==}}",
            expect![[r#"
            data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
            data[k]: Invalid value: "k": duplicate of key present in binaryData
        "#]],
        ),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: s}, type: kubernetes.io/tls, data: {..x: eA==}}",
            expect![[r#"
            data[..x]: Invalid value: "..x": must not start with '..'
            data[tls.crt]: Required value
            data[tls.key]: Required value
        "#]],
        ),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: s}, type: kubernetes.io/dockerconfigjson, stringData: {.dockerconfigjson: '['}}",
            expect![[r#"
            data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": must be a JSON object
        "#]],
        ),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: n}, spec: {finalizers: [odd]}}",
            expect![[r#"
            spec.finalizers[0]: Invalid value: "odd": name is neither a standard finalizer name nor is it fully qualified
        "#]],
        ),
        (
            "{apiVersion: v1, kind: Node, metadata: {name: n}, spec: {podCIDRs: [10.0.0.1/24, x], taints: [{key: a, effect: X}, {key: b, effect: NoExecute}, {key: b, effect: NoExecute}]}, status: {capacity: {cpu: -1, pods: 500m}}}",
            expect![[r#"
            spec.podCIDRs[0]: Invalid value: "10.0.0.1/24": must not have bits set beyond the prefix length
            spec.podCIDRs[1]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
            spec.taints[0].effect: Unsupported value: "X": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
            spec.taints[2]: Duplicate value: {"effect":"NoExecute","key":"b"}
            status.capacity[cpu]: Invalid value: "-1": must be greater than or equal to 0
            status.capacity[pods]: Invalid value: "500m": must be an integer
            status.allocatable[cpu]: Invalid value: "-1": must be greater than or equal to 0
            status.allocatable[pods]: Invalid value: "500m": must be an integer
        "#]],
        ),
        (
            "{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}, spec: {hard: {odd: 1, pods: 1500m, count/x: 1}, scopes: [BestEffort, NotBestEffort, Z]}}",
            expect![[r#"
            spec.hard[odd]: Invalid value: "odd": must be a standard resource for quota
            spec.hard[pods]: Invalid value: "1500m": must be an integer
            spec.scopes: Invalid value: "Z": unsupported scope
            spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Z"]: conflicting scopes
        "#]],
        ),
        (
            "{apiVersion: v1, kind: LimitRange, metadata: {name: l}, spec: {limits: [{type: Pod, default: {cpu: 1}}, {type: Container, min: {cpu: 2}, max: {cpu: 1}}, {type: X}, {type: PersistentVolumeClaim}]}}",
            expect![[r#"
            spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'
            spec.limits[1].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1
            spec.limits[1].defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than defaultRequest value 1
            spec.limits[1].default[cpu]: Invalid value: "1": min value 2 is greater than default value 1
            spec.limits[2].type: Invalid value: "X": must be a standard limit type or fully qualified
            spec.limits: Required value: either minimum or maximum storage value is required, but neither was provided
        "#]],
        ),
        (
            "{apiVersion: v1, kind: Endpoints, metadata: {name: e}, subsets: [{}, {addresses: [{ip: 127.0.0.1}, {ip: x}], ports: [{port: 0}, {port: 1, name: a}]}]}",
            expect![[r#"
            subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`
            subsets[1].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            subsets[1].addresses[1].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            subsets[1].ports[0].name: Required value
            subsets[1].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
        "#]],
        ),
        (
            "{apiVersion: v1, kind: Event, metadata: {name: e, namespace: a}, involvedObject: {namespace: b}}",
            expect![[r#"
            involvedObject.namespace: Invalid value: "b": does not match event.namespace
        "#]],
        ),
        (
            "{apiVersion: v1, kind: Event, metadata: {name: e, namespace: default}, involvedObject: {}}",
            expect![[r#""#]],
        ),
        (
            "{apiVersion: v1, kind: PersistentVolume, metadata: {name: v}, spec: {capacity: {cpu: 1}, accessModes: [X], hostPath: {path: /}, nfs: {}, persistentVolumeReclaimPolicy: Recycle}}",
            expect![[r#"
            spec.accessModes: Unsupported value: "X": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
            spec.capacity: Unsupported value: "cpu": supported values: "storage"
            spec.nfs: Forbidden: may not specify more than 1 volume type
            spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'
        "#]],
        ),
        (
            "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: v}, spec: {accessModes: [ReadWriteOncePod, ReadWriteOnce], resources: {requests: {storage: 0}}, dataSourceRef: {kind: X}}}",
            expect![[r#"
            spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes
            spec.resources[storage]: Invalid value: 0: must be greater than zero
            spec.dataSource.name: Required value
            spec.dataSource: Invalid value: "X": must be 'PersistentVolumeClaim' when referencing the default apiGroup
            spec.dataSourceRef.name: Required value
            spec.dataSourceRef: Invalid value: "X": must be 'PersistentVolumeClaim' when referencing the default apiGroup
        "#]],
        ),
    ];
    for (manifest, want) in cases {
        want.assert_eq(&errors(manifest));
    }
}

#[test]
fn other_groups() {
    let cases = [
        (
            "{apiVersion: events.k8s.io/v1, kind: Event, metadata: {name: e, namespace: default}, type: Odd, deprecatedCount: 3}",
            expect![[r#"
            eventTime: Required value
            type: Invalid value: "": has invalid value: Odd
            count: Invalid value: "": needs to be unset
        "#]],
        ),
        (
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e}, addressType: IPv4, endpoints: [{addresses: []}, {addresses: ['::1', 10.0.0.1, 127.0.0.1]}], ports: [{port: 1}, {port: 2, protocol: X}]}",
            expect![[r#"
            endpoints[0].addresses: Required value: must contain at least 1 address
            endpoints[1].addresses[0]: Invalid value: "::1": must be a valid IPv4 address
            endpoints[1].addresses[2]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            ports[1].name: Duplicate value: ""
            ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
        "#]],
        ),
        (
            "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l}, spec: {leaseDurationSeconds: 0, leaseTransitions: -1}}",
            expect![[r#"
            spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
            spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0
        "#]],
        ),
        (
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: 'system:r'}, rules: [{}, {verbs: [get], nonResourceURLs: [/x], resources: [pods]}]}",
            expect![[r#"
            rules[0].verbs: Required value: verbs must contain at least one value
            rules[0].apiGroups: Required value: resource rules must supply at least one api group
            rules[0].resources: Required value: resource rules must supply at least one resource
            rules[1].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs
            rules[1].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs
        "#]],
        ),
        (
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: b}, roleRef: {kind: Role, name: ''}, subjects: [{kind: ServiceAccount, name: s}, {kind: X, name: y}, {kind: User, name: u, apiGroup: z}]}",
            expect![[r#"
            roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
            roleRef.name: Required value
            subjects[0].namespace: Required value
            subjects[1].kind: Unsupported value: "X": supported values: "ServiceAccount", "User", "Group"
            subjects[2].apiGroup: Unsupported value: "z": supported values: "rbac.authorization.k8s.io"
        "#]],
        ),
        (
            "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: system-x}, value: 5, preemptionPolicy: Z}",
            expect![[r#"
            preemptionPolicy: Unsupported value: "Z": supported values: "Never", "PreemptLowerPriority"
            metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class
        "#]],
        ),
        (
            "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: p}, spec: {minAvailable: 200%, maxUnavailable: -1, selector: {matchLabels: {a b: c}}}}",
            expect![[r#"
            spec.selector.matchLabels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec: Invalid value: {"maxUnavailable":-1,"minAvailable":"200%","selector":{"matchLabels":{"a b":"c"}}}: minAvailable and maxUnavailable cannot be both set
            spec.minAvailable: Invalid value: "200%": must not be greater than 100%
            spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0
        "#]],
        ),
        (
            "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: h}, spec: {minReplicas: 0, scaleTargetRef: {}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization}}}, {type: Pods}], behavior: {scaleDown: {stabilizationWindowSeconds: 4000, policies: []}}}}",
            expect![[r#"
            spec.minReplicas: Invalid value: 0: must be greater than or equal to 1
            spec.maxReplicas: Required value: must be set and greater than 0
            spec.scaleTargetRef.kind: Required value
            spec.scaleTargetRef.name: Required value
            spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group
            spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization
            spec.metrics[1].pods: Required value: must populate information for the given metric source
            spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas
            spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600
            spec.behavior.scaleDown.policies: Required value: must specify at least one Policy
        "#]],
        ),
        (
            "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i}, spec: {rules: [{host: 1.2.3.4, http: {paths: [{path: x, pathType: Exact, backend: {}}, {path: /a//b, pathType: Prefix, backend: {service: {name: s, port: {}}}}, {backend: {service: {name: S, port: {number: 0, name: a, }}}}]}}]}}",
            expect![[r#"
            spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address
            spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path
            spec.rules[0].http.paths[0].backend: Invalid value: "": cannot have neither resource nor service backend
            spec.rules[0].http.paths[1].path: Invalid value: "/a//b": must not contain '//'
            spec.rules[0].http.paths[1].backend.service: Required value: port name or number is required
            spec.rules[0].http.paths[2].pathType: Required value: pathType must be specified
            spec.rules[0].http.paths[2].backend.service.name: Invalid value: "S": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        "#]],
        ),
        (
            "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n}, spec: {ingress: [{from: [{}, {ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}, {podSelector: {}, ipBlock: {cidr: 1.1.1.1/32}}], ports: [{port: 0}, {port: a, endPort: 3}, {port: 5, endPort: 3}]}]}}",
            expect![[r#"
            spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ingress[0].ports[1].endPort: Invalid value: 3: may not be specified when `port` is non-numeric
            spec.ingress[0].ports[2].endPort: Invalid value: 3: must be greater than or equal to `port`
            spec.ingress[0].from[0]: Required value: must specify a peer
            spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: "11.0.0.0/9": must be a strict subset of `cidr`
            spec.ingress[0].from[2]: Forbidden: may not specify both ipBlock and another peer
        "#]],
        ),
        (
            "{apiVersion: networking.k8s.io/v1, kind: IPAddress, metadata: {name: 010.0.0.1}, spec: {parentRef: {}}}",
            expect![[r#"
            spec.parentRef.resource: Required value
            spec.parentRef.name: Required value
        "#]],
        ),
        (
            "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: s}, volumeBindingMode: Z}",
            expect![[r#"
            volumeBindingMode: Unsupported value: "Z": supported values: "Immediate", "WaitForFirstConsumer"
            provisioner: Required value
        "#]],
        ),
        (
            "{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {name: c}, spec: {request: '', signerName: x, usages: [odd, odd], expirationSeconds: 1}}",
            expect![[r#"
            spec.request: Invalid value: "": PEM block type must be CERTIFICATE REQUEST
            spec.usages[0]: Unsupported value: "odd": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
            spec.usages[1]: Unsupported value: "odd": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
            spec.usages[1]: Duplicate value: "odd"
            spec.signerName: Invalid value: "x": must be a fully qualified domain and path of the form 'example.com/signer-name'
            spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)
        "#]],
        ),
        (
            "{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: FlowSchema, metadata: {name: f}, spec: {matchingPrecedence: 1, rules: [{subjects: [{kind: User}]}]}}",
            expect![[r#"
            spec.priorityLevelConfiguration: Required value
            spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1
            spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty
            spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'
        "#]],
        ),
        (
            "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: v}, webhooks: [{name: a.b, clientConfig: {url: 'http://x'}, sideEffects: Some, timeoutSeconds: 31, admissionReviewVersions: [v9], rules: [{operations: [X]}]}]}",
            expect![[r#"
            webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"
            webhooks[0].rules[0].operations[0]: Unsupported value: "X": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"
            webhooks[0].rules[0].apiGroups: Required value
            webhooks[0].rules[0].apiVersions: Required value
            webhooks[0].rules[0].resources: Required value
            webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots
            webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds
            webhooks[0].clientConfig.url: Invalid value: "http://x": 'https' is the only allowed URL scheme; desired format: https://host[/path]
            webhooks[0].admissionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1
        "#]],
        ),
        (
            "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: x}, spec: {group: k8s.io, scope: Z, names: {plural: Foos, kind: foo, listKind: foo}, versions: [{name: v1}]}}",
            expect![[r#"
            spec.scope: Unsupported value: "Z": supported values: "Cluster", "Namespaced"
            spec.names.plural: Invalid value: "Foos": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group
            spec.names.listKind: Invalid value: "foo": kind and listKind may not be the same
            spec.versions: Invalid value: []: must have exactly one version marked as storage version
            spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required
            metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111
        "#]],
        ),
        (
            "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: x}, spec: {group: g, version: v1, groupPriorityMinimum: 0, versionPriority: 5, insecureSkipTLSVerify: true}}",
            expect![[r#"
            metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: "v1.g"
            spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000
            spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify
        "#]],
        ),
    ];
    for (manifest, want) in cases {
        want.assert_eq(&errors(manifest));
    }
}

#[test]
fn metadata() {
    use crate::registry::errs::Errs;
    use crate::registry::validate::meta;
    let names = |name: &str, prefix: bool| {
        if prefix { meta::NameRule::Label.check_prefix(name) } else { meta::NameRule::Label.check(name) }
    };
    let object = super::parse(
        "{metadata: {name: A, generateName: ok-, labels: {'a b': c, d: 'e f'}, annotations: {'x y': z}, finalizers: [odd, orphan, foregroundDeletion], ownerReferences: [{apiVersion: v1, kind: Event, name: n, uid: u, controller: true}, {apiVersion: 'a/', controller: true}], managedFields: [{operation: Z}]}}",
    );
    let mut errs = Errs::default();
    meta::validate(&object, &names, true, &mut errs);
    expect![[r#"
        metadata.name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        metadata.namespace: Required value
        metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        metadata.labels: Invalid value: "e f": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        metadata.annotations: Invalid value: "x y": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        metadata.ownerReferences[0]: Invalid value: {"apiVersion":"v1","controller":true,"kind":"Event","name":"n","uid":"u"}: /v1, Kind=Event is disallowed from being an owner
        metadata.ownerReferences[1].apiVersion: Invalid value: "a/": version must not be empty
        metadata.ownerReferences[1].kind: Invalid value: "": must not be empty
        metadata.ownerReferences[1].name: Invalid value: "": must not be empty
        metadata.ownerReferences[1].uid: Invalid value: "": must not be empty
        metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","controller":true,"kind":"Event","name":"n","uid":"u"},{"apiVersion":"a/","controller":true}]: Only one reference can have Controller set to true. Found "true" in references for n and 
        metadata.managedFields[0].operation: Invalid value: "Z": must be `Apply` or `Update`
        metadata.finalizers: Invalid value: "odd": name is neither a standard finalizer name nor is it fully qualified
        metadata.finalizers: Invalid value: ["odd","orphan","foregroundDeletion"]: finalizer set contains both "orphan" and "foregroundDeletion", they cannot be both set
    "#]].assert_eq(&super::lines(errs.0));
    let old = super::parse(
        "{metadata: {name: a, uid: u, resourceVersion: '1', generation: 3, deletionTimestamp: t, finalizers: [a/b]}}",
    );
    let new = super::parse(
        "{metadata: {name: b, uid: v, generation: 2, deletionTimestamp: t, finalizers: [a/b, c/d]}}",
    );
    let mut errs = Errs::default();
    meta::validate_update(&new, &old, &mut errs);
    expect![[r#"
        metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"c/d"}
        metadata.resourceVersion: Invalid value: "": must be specified for an update
        metadata.generation: Invalid value: 2: must not be decremented
        metadata.name: Invalid value: "b": field is immutable
        metadata.uid: Invalid value: "v": field is immutable
    "#]].assert_eq(&super::lines(errs.0));
}
