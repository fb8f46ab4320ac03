use super::errors;
use expect_test::expect;

#[test]
fn workloads() {
    let cases = [
        ("{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {replicas: -1, minReadySeconds: 700, selector: {}, strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}, template: {metadata: {labels: {a: b}}, spec: {restartPolicy: Never, activeDeadlineSeconds: 1, containers: [{name: c, image: i}]}}}}", expect![[r#""#]]),
        ("{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {selector: {matchLabels: {x: y}}, strategy: {type: Recreate, rollingUpdate: {}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c}]}}}}", expect![[r#""#]]),
        ("{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: d}, spec: {}}", expect![[r#""#]]),
        ("{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: d}, spec: {podManagementPolicy: X, updateStrategy: {type: OnDelete, rollingUpdate: {}}, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i, volumeMounts: [{name: data, mountPath: /d}]}]}}, volumeClaimTemplates: [{metadata: {name: data}, spec: {}}]}}", expect![[r#""#]]),
        ("{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: d}, spec: {updateStrategy: {rollingUpdate: {maxUnavailable: 101%, maxSurge: 1}}, template: {spec: {containers: [{name: c, image: i}]}}}}", expect![[r#""#]]),
        ("{apiVersion: batch/v1, kind: Job, metadata: {name: j, uid: u}, spec: {completionMode: Indexed, backoffLimit: -1, template: {spec: {containers: [{name: c, image: i}]}}}}", expect![[r#""#]]),
        ("{apiVersion: batch/v1, kind: CronJob, metadata: {name: this-name-is-longer-than-fifty-two-characters-which-is-bad}, spec: {schedule: 'TZ=UTC 61 * * * *', timeZone: Nowhere/Land, jobTemplate: {spec: {manualSelector: true, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}}", expect![[r#""#]]),
    ];
    for (manifest, want) in cases {
        want.assert_eq(&errors(manifest));
    }
}

#[test]
fn core_kinds() {
    let cases = [
        ("{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {'a b': x, k: v}, binaryData: {k: eA==}}", expect![[r#""#]]),
        ("{apiVersion: v1, kind: Secret, metadata: {name: s}, type: kubernetes.io/tls, data: {..x: eA==}}", expect![[r#""#]]),
        ("{apiVersion: v1, kind: Secret, metadata: {name: s}, type: kubernetes.io/dockerconfigjson, stringData: {.dockerconfigjson: '['}}", expect![[r#""#]]),
        ("{apiVersion: v1, kind: Namespace, metadata: {name: n}, spec: {finalizers: [odd]}}", expect![[r#""#]]),
        ("{apiVersion: v1, kind: Node, metadata: {name: n}, spec: {podCIDRs: [10.0.0.1/24, x], taints: [{key: a, effect: X}, {key: b, effect: NoExecute}, {key: b, effect: NoExecute}]}, status: {capacity: {cpu: -1, pods: 500m}}}", expect![[r#""#]]),
        ("{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}, spec: {hard: {odd: 1, pods: 1500m, count/x: 1}, scopes: [BestEffort, NotBestEffort, Z]}}", expect![[r#""#]]),
        ("{apiVersion: v1, kind: LimitRange, metadata: {name: l}, spec: {limits: [{type: Pod, default: {cpu: 1}}, {type: Container, min: {cpu: 2}, max: {cpu: 1}}, {type: X}, {type: PersistentVolumeClaim}]}}", expect![[r#""#]]),
        ("{apiVersion: v1, kind: Endpoints, metadata: {name: e}, subsets: [{}, {addresses: [{ip: 127.0.0.1}, {ip: x}], ports: [{port: 0}, {port: 1, name: a}]}]}", expect![[r#""#]]),
        ("{apiVersion: v1, kind: Event, metadata: {name: e, namespace: a}, involvedObject: {namespace: b}}", expect![[r#""#]]),
        ("{apiVersion: v1, kind: Event, metadata: {name: e, namespace: default}, involvedObject: {}}", expect![[r#""#]]),
        ("{apiVersion: v1, kind: PersistentVolume, metadata: {name: v}, spec: {capacity: {cpu: 1}, accessModes: [X], hostPath: {path: /}, nfs: {}, persistentVolumeReclaimPolicy: Recycle}}", expect![[r#""#]]),
        ("{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: v}, spec: {accessModes: [ReadWriteOncePod, ReadWriteOnce], resources: {requests: {storage: 0}}, dataSourceRef: {kind: X}}}", expect![[r#""#]]),
    ];
    for (manifest, want) in cases {
        want.assert_eq(&errors(manifest));
    }
}

#[test]
fn other_groups() {
    let cases = [
        ("{apiVersion: events.k8s.io/v1, kind: Event, metadata: {name: e, namespace: default}, type: Odd, deprecatedCount: 3}", expect![[r#""#]]),
        ("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e}, addressType: IPv4, endpoints: [{addresses: []}, {addresses: ['::1', 10.0.0.1, 127.0.0.1]}], ports: [{port: 1}, {port: 2, protocol: X}]}", expect![[r#""#]]),
        ("{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l}, spec: {leaseDurationSeconds: 0, leaseTransitions: -1}}", expect![[r#""#]]),
        ("{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: 'system:r'}, rules: [{}, {verbs: [get], nonResourceURLs: [/x], resources: [pods]}]}", expect![[r#""#]]),
        ("{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: b}, roleRef: {kind: Role, name: ''}, subjects: [{kind: ServiceAccount, name: s}, {kind: X, name: y}, {kind: User, name: u, apiGroup: z}]}", expect![[r#""#]]),
        ("{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: system-x}, value: 5, preemptionPolicy: Z}", expect![[r#""#]]),
        ("{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: p}, spec: {minAvailable: 200%, maxUnavailable: -1, selector: {matchLabels: {a b: c}}}}", expect![[r#""#]]),
        ("{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: h}, spec: {minReplicas: 0, scaleTargetRef: {}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization}}}, {type: Pods}], behavior: {scaleDown: {stabilizationWindowSeconds: 4000, policies: []}}}}", expect![[r#""#]]),
        ("{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i}, spec: {rules: [{host: 1.2.3.4, http: {paths: [{path: x, pathType: Exact, backend: {}}, {path: /a//b, pathType: Prefix, backend: {service: {name: s, port: {}}}}, {backend: {service: {name: S, port: {number: 0, name: a, }}}}]}}]}}", expect![[r#""#]]),
        ("{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n}, spec: {ingress: [{from: [{}, {ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}, {podSelector: {}, ipBlock: {cidr: 1.1.1.1/32}}], ports: [{port: 0}, {port: a, endPort: 3}, {port: 5, endPort: 3}]}]}}", expect![[r#""#]]),
        ("{apiVersion: networking.k8s.io/v1, kind: IPAddress, metadata: {name: 010.0.0.1}, spec: {parentRef: {}}}", expect![[r#""#]]),
        ("{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: s}, volumeBindingMode: Z}", expect![[r#""#]]),
        ("{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {name: c}, spec: {request: '', signerName: x, usages: [odd, odd], expirationSeconds: 1}}", expect![[r#""#]]),
        ("{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: FlowSchema, metadata: {name: f}, spec: {matchingPrecedence: 1, rules: [{subjects: [{kind: User}]}]}}", expect![[r#""#]]),
        ("{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: v}, webhooks: [{name: a.b, clientConfig: {url: 'http://x'}, sideEffects: Some, timeoutSeconds: 31, admissionReviewVersions: [v9], rules: [{operations: [X]}]}]}", expect![[r#""#]]),
        ("{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: x}, spec: {group: k8s.io, scope: Z, names: {plural: Foos, kind: foo, listKind: foo}, versions: [{name: v1}]}}", expect![[r#""#]]),
        ("{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: x}, spec: {group: g, version: v1, groupPriorityMinimum: 0, versionPriority: 5, insecureSkipTLSVerify: true}}", expect![[r#""#]]),
    ];
    for (manifest, want) in cases {
        want.assert_eq(&errors(manifest));
    }
}

#[test]
fn metadata() {
    use crate::registry::errs::Errs;
    use crate::registry::validate::meta;
    let names = |name: &str, prefix: bool| if prefix { meta::NameRule::Label.check_prefix(name) } else { meta::NameRule::Label.check(name) };
    let object = super::parse(
        "{metadata: {name: A, generateName: ok-, labels: {'a b': c, d: 'e f'}, annotations: {'x y': z}, finalizers: [odd, orphan, foregroundDeletion], ownerReferences: [{apiVersion: v1, kind: Event, name: n, uid: u, controller: true}, {apiVersion: 'a/', controller: true}], managedFields: [{operation: Z}]}}",
    );
    let mut errs = Errs::default();
    meta::validate(&object, &names, true, &mut errs);
    expect![[r#""#]].assert_eq(&super::lines(errs.0));
    let old = super::parse("{metadata: {name: a, uid: u, resourceVersion: '1', generation: 3, deletionTimestamp: t, finalizers: [a/b]}}");
    let new = super::parse("{metadata: {name: b, uid: v, generation: 2, deletionTimestamp: t, finalizers: [a/b, c/d]}}");
    let mut errs = Errs::default();
    meta::validate_update(&new, &old, &mut errs);
    expect![[r#""#]].assert_eq(&super::lines(errs.0));
}
