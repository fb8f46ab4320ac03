use super::{created, defaulted, parse, strategy};
use expect_test::expect;
use serde_json::json;

#[test]
fn pod() {
    let got = defaulted(
        "
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  hostNetwork: true
  serviceAccount: old
  containers:
  - name: c
    image: nginx
    ports: [{containerPort: 80}]
    resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 100u}}
    livenessProbe: {httpGet: {port: 80}}
    env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
  volumes:
  - name: e
  - {name: s, secret: {secretName: s}}
  - {name: p, projected: {sources: [{serviceAccountToken: {path: token}}]}}
  - {name: h, hostPath: {path: /x}}
",
    );
    expect![[r#"
        apiVersion: v1
        kind: Pod
        metadata:
          name: p
        spec:
          containers:
          - env:
            - name: A
              valueFrom:
                fieldRef:
                  apiVersion: v1
                  fieldPath: metadata.name
            image: nginx
            imagePullPolicy: Always
            livenessProbe:
              failureThreshold: 3
              httpGet:
                path: /
                port: 80
                scheme: HTTP
              periodSeconds: 10
              successThreshold: 1
              timeoutSeconds: 1
            name: c
            ports:
            - containerPort: 80
              hostPort: 80
              protocol: TCP
            resources:
              limits:
                cpu: 1
                memory: 1Gi
              requests:
                cpu: 1m
                memory: 1Gi
            terminationMessagePath: /dev/termination-log
            terminationMessagePolicy: File
          dnsPolicy: ClusterFirst
          enableServiceLinks: true
          hostNetwork: true
          restartPolicy: Always
          schedulerName: default-scheduler
          securityContext: {}
          serviceAccount: old
          serviceAccountName: old
          terminationGracePeriodSeconds: 30
          volumes:
          - emptyDir: {}
            name: e
          - name: s
            secret:
              defaultMode: 420
              secretName: s
          - name: p
            projected:
              defaultMode: 420
              sources:
              - serviceAccountToken:
                  expirationSeconds: 3600
                  path: token
          - hostPath:
              path: /x
              type: ''
            name: h
    "#]]
    .assert_eq(&got);
}

#[test]
fn templates_have_container_defaults_but_no_pod_ones() {
    let got = defaulted(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      containers:
      - {name: c, image: 'nginx:1.27', resources: {limits: {cpu: 1}}}
",
    );
    expect![[r#"
        apiVersion: apps/v1
        kind: Deployment
        metadata:
          name: d
        spec:
          progressDeadlineSeconds: 600
          replicas: 1
          revisionHistoryLimit: 10
          selector:
            matchLabels:
              a: b
          strategy:
            rollingUpdate:
              maxSurge: 25%
              maxUnavailable: 25%
            type: RollingUpdate
          template:
            metadata:
              labels:
                a: b
            spec:
              containers:
              - image: nginx:1.27
                imagePullPolicy: IfNotPresent
                name: c
                resources:
                  limits:
                    cpu: 1
                terminationMessagePath: /dev/termination-log
                terminationMessagePolicy: File
              dnsPolicy: ClusterFirst
              restartPolicy: Always
              schedulerName: default-scheduler
              securityContext: {}
              terminationGracePeriodSeconds: 30
    "#]]
    .assert_eq(&got);
}

#[test]
fn services() {
    let got = defaulted(
        "
apiVersion: v1
kind: Service
metadata: {name: s}
spec:
  type: LoadBalancer
  sessionAffinity: ClientIP
  ports: [{port: 80}, {port: 443, protocol: UDP, targetPort: https}]
",
    );
    expect![[r#"
        apiVersion: v1
        kind: Service
        metadata:
          name: s
        spec:
          allocateLoadBalancerNodePorts: true
          externalTrafficPolicy: Cluster
          internalTrafficPolicy: Cluster
          ports:
          - port: 80
            protocol: TCP
            targetPort: 80
          - port: 443
            protocol: UDP
            targetPort: https
          sessionAffinity: ClientIP
          sessionAffinityConfig:
            clientIP:
              timeoutSeconds: 10800
          type: LoadBalancer
    "#]]
    .assert_eq(&got);
}

#[test]
fn secrets_take_in_plain_text() {
    let got = defaulted(
        "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: b2xk}, stringData: {a: new, b: x}}",
    );
    expect![[r#"
        apiVersion: v1
        data:
          a: bmV3
          b: eA==
        kind: Secret
        metadata:
          name: s
        type: Opaque
    "#]]
    .assert_eq(&got);
}

#[test]
fn limit_ranges() {
    let got = defaulted(
        "{apiVersion: v1, kind: LimitRange, metadata: {name: l}, spec: {limits: [{type: Container, max: {cpu: 2}, min: {memory: 1Mi}}]}}",
    );
    expect![[r#"
        apiVersion: v1
        kind: LimitRange
        metadata:
          name: l
        spec:
          limits:
          - default:
              cpu: 2
            defaultRequest:
              cpu: 2
              memory: 1Mi
            max:
              cpu: 2
            min:
              memory: 1Mi
            type: Container
    "#]]
    .assert_eq(&got);
}

#[test]
fn other_workloads() {
    for (manifest, want) in [
        (
            "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {template: {metadata: {labels: {a: b}}}}}",
            expect![[r#"
            apiVersion: batch/v1
            kind: Job
            metadata:
              labels:
                a: b
              name: j
            spec:
              backoffLimit: 6
              completionMode: NonIndexed
              completions: 1
              manualSelector: false
              parallelism: 1
              podReplacementPolicy: TerminatingOrFailed
              suspend: false
              template:
                metadata:
                  labels:
                    a: b
        "#]],
        ),
        (
            "{apiVersion: batch/v1, kind: CronJob, metadata: {name: j}, spec: {schedule: '@daily'}}",
            expect![[r#"
            apiVersion: batch/v1
            kind: CronJob
            metadata:
              name: j
            spec:
              concurrencyPolicy: Allow
              failedJobsHistoryLimit: 1
              schedule: '@daily'
              successfulJobsHistoryLimit: 3
              suspend: false
        "#]],
        ),
        (
            "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: s}, spec: {volumeClaimTemplates: [{metadata: {name: d}}]}}",
            expect![[r#"
            apiVersion: apps/v1
            kind: StatefulSet
            metadata:
              name: s
            spec:
              persistentVolumeClaimRetentionPolicy:
                whenDeleted: Retain
                whenScaled: Retain
              podManagementPolicy: OrderedReady
              replicas: 1
              revisionHistoryLimit: 10
              updateStrategy:
                rollingUpdate:
                  partition: 0
                type: RollingUpdate
              volumeClaimTemplates:
              - apiVersion: v1
                kind: PersistentVolumeClaim
                metadata:
                  name: d
                status:
                  phase: Pending
        "#]],
        ),
        (
            "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: s}, spec: {}}",
            expect![[r#"
            apiVersion: apps/v1
            kind: DaemonSet
            metadata:
              name: s
            spec:
              revisionHistoryLimit: 10
              updateStrategy:
                rollingUpdate:
                  maxSurge: 0
                  maxUnavailable: 1
                type: RollingUpdate
        "#]],
        ),
        (
            "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: h}, spec: {behavior: {scaleUp: {}}}}",
            expect![[r#"
            apiVersion: autoscaling/v2
            kind: HorizontalPodAutoscaler
            metadata:
              name: h
            spec:
              behavior:
                scaleDown:
                  policies:
                  - periodSeconds: 15
                    type: Percent
                    value: 100
                  selectPolicy: Max
                scaleUp:
                  policies:
                  - periodSeconds: 15
                    type: Pods
                    value: 4
                  - periodSeconds: 15
                    type: Percent
                    value: 100
                  selectPolicy: Max
                  stabilizationWindowSeconds: 0
              metrics:
              - resource:
                  name: cpu
                  target:
                    averageUtilization: 80
                    type: Utilization
                type: Resource
              minReplicas: 1
        "#]],
        ),
        (
            "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n}, spec: {egress: [{ports: [{port: 53}]}]}}",
            expect![[r#"
            apiVersion: networking.k8s.io/v1
            kind: NetworkPolicy
            metadata:
              name: n
            spec:
              egress:
              - ports:
                - port: 53
                  protocol: TCP
              policyTypes:
              - Ingress
              - Egress
        "#]],
        ),
        (
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: b}, roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: u}, {kind: ServiceAccount, name: s}]}",
            expect![[r#"
            apiVersion: rbac.authorization.k8s.io/v1
            kind: RoleBinding
            metadata:
              name: b
            roleRef:
              apiGroup: rbac.authorization.k8s.io
              kind: Role
              name: r
            subjects:
            - apiGroup: rbac.authorization.k8s.io
              kind: User
              name: u
            - kind: ServiceAccount
              name: s
        "#]],
        ),
        (
            "{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: PriorityLevelConfiguration, metadata: {name: p}, spec: {type: Limited, limited: {limitResponse: {type: Queue, queuing: {}}}}}",
            expect![[r#"
            apiVersion: flowcontrol.apiserver.k8s.io/v1
            kind: PriorityLevelConfiguration
            metadata:
              name: p
            spec:
              limited:
                lendablePercent: 0
                limitResponse:
                  queuing:
                    handSize: 8
                    queueLengthLimit: 50
                    queues: 64
                  type: Queue
                nominalConcurrencyShares: 30
              type: Limited
        "#]],
        ),
        (
            "{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, metadata: {name: w}, webhooks: [{name: a.b.c, clientConfig: {service: {name: s, namespace: n}}, rules: [{operations: [CREATE]}]}]}",
            expect![[r#"
            apiVersion: admissionregistration.k8s.io/v1
            kind: MutatingWebhookConfiguration
            metadata:
              name: w
            webhooks:
            - clientConfig:
                service:
                  name: s
                  namespace: n
                  port: 443
              failurePolicy: Fail
              matchPolicy: Equivalent
              name: a.b.c
              namespaceSelector: {}
              objectSelector: {}
              reinvocationPolicy: Never
              rules:
              - operations:
                - CREATE
                scope: '*'
              timeoutSeconds: 10
        "#]],
        ),
        (
            "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: x}, spec: {names: {kind: Foo, plural: foos}, versions: [{name: v1, storage: true}]}}",
            expect![[r#"
            apiVersion: apiextensions.k8s.io/v1
            kind: CustomResourceDefinition
            metadata:
              name: x
            spec:
              conversion:
                strategy: None
              names:
                kind: Foo
                listKind: FooList
                plural: foos
                singular: foo
              versions:
              - name: v1
                storage: true
            status:
              storedVersions:
              - v1
        "#]],
        ),
    ] {
        want.assert_eq(&defaulted(manifest));
    }
}

#[test]
fn what_the_server_starts() {
    let pod = created(
        "{apiVersion: v1, kind: Pod, metadata: {name: p, generation: 7}, spec: {containers: [{name: c, image: i}]}, status: {phase: Running}}",
    );
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(pod["metadata"]["generation"], 1);
    let gated = created(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {schedulingGates: [{name: a/b}], containers: []}}",
    );
    assert_eq!(gated["status"]["conditions"][0]["reason"], "SchedulingGated");
    let namespace = created("{apiVersion: v1, kind: Namespace, metadata: {name: n}}");
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["status"]["phase"], "Active");
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    let job = created(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: j, uid: u-1}, spec: {template: {spec: {}}}}",
    );
    assert_eq!(job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], "u-1");
    assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
    let daemons = created("{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: d}}");
    assert_eq!(daemons["metadata"]["annotations"]["deprecated.daemonset.template.generation"], "1");
    let spread = created(
        "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {h: x}}, spec: {topologySpreadConstraints: [{matchLabelKeys: [h, none], labelSelector: {}}]}}",
    );
    let merged = &spread["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"];
    assert_eq!(*merged, json!([{"key": "h", "operator": "In", "values": ["x"]}]));
}

#[test]
fn defaulting_twice_changes_nothing() {
    let once = parse(&defaulted(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: i, ports: [{containerPort: 1}]}], volumes: [{name: v}]}}",
    ));
    let mut twice = once.clone();
    crate::strategy::Strategy::default(&strategy(&once, ""), &mut twice);
    assert_eq!(once, twice);
}
