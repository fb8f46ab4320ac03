//! The fields of every document as a table: what tells unknown fields and values of a wrong type, with their paths.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use crate::GoDuration;

/// One type a line: its name, then its fields as `name:type`. `[x]` is a list, `{x}` a map by text, `any` is not looked at.
/// Types of the version before end in `3`, where they differ.
const TABLE: &str = "
InitConfiguration bootstrapTokens:[BootstrapToken] dryRun:bool nodeRegistration:NodeRegistration localAPIEndpoint:APIEndpoint certificateKey:string skipPhases:[string] patches:Patches timeouts:Timeouts
ClusterConfiguration etcd:Etcd networking:Networking kubernetesVersion:string controlPlaneEndpoint:string apiServer:APIServer controllerManager:ControlPlaneComponent scheduler:ControlPlaneComponent dns:DNS proxy:Proxy certificatesDir:string imageRepository:string featureGates:{bool} clusterName:string encryptionAlgorithm:string certificateValidityPeriod:duration caCertificateValidityPeriod:duration
JoinConfiguration dryRun:bool nodeRegistration:NodeRegistration caCertPath:string discovery:Discovery controlPlane:JoinControlPlane skipPhases:[string] patches:Patches timeouts:Timeouts
ResetConfiguration cleanupTmpDir:bool certificatesDir:string criSocket:string dryRun:bool force:bool ignorePreflightErrors:[string] skipPhases:[string] unmountFlags:[string] timeouts:Timeouts
UpgradeConfiguration apply:UpgradeApply diff:UpgradeDiff node:UpgradeNode plan:UpgradePlan timeouts:Timeouts
BootstrapToken token:string description:string ttl:duration expires:time usages:[string] groups:[string]
NodeRegistration name:string criSocket:string taints:[Taint] kubeletExtraArgs:[Arg] ignorePreflightErrors:[string] imagePullPolicy:string imagePullSerial:bool
Taint key:string value:string effect:string timeAdded:time
APIEndpoint advertiseAddress:string bindPort:int
Etcd local:LocalEtcd external:ExternalEtcd
LocalEtcd imageRepository:string imageTag:string dataDir:string extraArgs:[Arg] extraEnvs:[EnvVar] serverCertSANs:[string] peerCertSANs:[string]
ExternalEtcd endpoints:[string] httpEndpoints:[string] caFile:string certFile:string keyFile:string
Networking serviceSubnet:string podSubnet:string dnsDomain:string
Arg name:string value:string
EnvVar name:string value:string valueFrom:any
HostPathMount name:string hostPath:string mountPath:string readOnly:bool pathType:string
ControlPlaneComponent extraArgs:[Arg] extraVolumes:[HostPathMount] extraEnvs:[EnvVar]
APIServer extraArgs:[Arg] extraVolumes:[HostPathMount] extraEnvs:[EnvVar] certSANs:[string]
DNS imageRepository:string imageTag:string disabled:bool
Proxy disabled:bool
Discovery bootstrapToken:BootstrapTokenDiscovery file:FileDiscovery tlsBootstrapToken:string
BootstrapTokenDiscovery token:string apiServerEndpoint:string caCertHashes:[string] unsafeSkipCAVerification:bool
FileDiscovery kubeConfigPath:string
JoinControlPlane localAPIEndpoint:APIEndpoint certificateKey:string
Patches directory:string
Timeouts controlPlaneComponentHealthCheck:duration kubeletHealthCheck:duration kubernetesAPICall:duration etcdAPICall:duration tlsBootstrap:duration discovery:duration upgradeManifests:duration
UpgradeApply kubernetesVersion:string allowExperimentalUpgrades:bool allowRCUpgrades:bool certificateRenewal:bool dryRun:bool etcdUpgrade:bool forceUpgrade:bool ignorePreflightErrors:[string] patches:Patches printConfig:bool skipPhases:[string] imagePullPolicy:string imagePullSerial:bool
UpgradeDiff kubernetesVersion:string contextLines:int
UpgradeNode certificateRenewal:bool dryRun:bool etcdUpgrade:bool ignorePreflightErrors:[string] skipPhases:[string] patches:Patches imagePullPolicy:string imagePullSerial:bool
UpgradePlan kubernetesVersion:string allowExperimentalUpgrades:bool allowRCUpgrades:bool dryRun:bool etcdUpgrade:bool ignorePreflightErrors:[string] printConfig:bool
InitConfiguration3 bootstrapTokens:[BootstrapToken] nodeRegistration:NodeRegistration3 localAPIEndpoint:APIEndpoint certificateKey:string skipPhases:[string] patches:Patches
ClusterConfiguration3 etcd:Etcd3 networking:Networking kubernetesVersion:string controlPlaneEndpoint:string apiServer:APIServer3 controllerManager:ControlPlaneComponent3 scheduler:ControlPlaneComponent3 dns:DNS3 certificatesDir:string imageRepository:string featureGates:{bool} clusterName:string
JoinConfiguration3 nodeRegistration:NodeRegistration3 caCertPath:string discovery:Discovery3 controlPlane:JoinControlPlane skipPhases:[string] patches:Patches
NodeRegistration3 name:string criSocket:string taints:[Taint] kubeletExtraArgs:{string} ignorePreflightErrors:[string] imagePullPolicy:string
Etcd3 local:LocalEtcd3 external:ExternalEtcd3
ExternalEtcd3 endpoints:[string] caFile:string certFile:string keyFile:string
LocalEtcd3 imageRepository:string imageTag:string dataDir:string extraArgs:{string} serverCertSANs:[string] peerCertSANs:[string]
APIServer3 extraArgs:{string} extraVolumes:[HostPathMount] certSANs:[string] timeoutForControlPlane:duration
ControlPlaneComponent3 extraArgs:{string} extraVolumes:[HostPathMount]
DNS3 imageRepository:string imageTag:string
Discovery3 bootstrapToken:BootstrapTokenDiscovery file:FileDiscovery tlsBootstrapToken:string timeout:duration
KubeletConfiguration enableServer:bool staticPodPath:string podLogsDir:string syncFrequency:duration fileCheckFrequency:duration httpCheckFrequency:duration staticPodURL:string staticPodURLHeader:any address:string port:int readOnlyPort:int tlsCertFile:string tlsPrivateKeyFile:string tlsCipherSuites:[string] tlsMinVersion:string rotateCertificates:bool serverTLSBootstrap:bool authentication:KubeletAuthentication authorization:KubeletAuthorization registryPullQPS:int registryBurst:int imagePullCredentialsVerificationPolicy:string preloadedImagesVerificationAllowlist:[string] eventRecordQPS:int eventBurst:int enableDebuggingHandlers:bool enableContentionProfiling:bool healthzPort:int healthzBindAddress:string oomScoreAdj:int clusterDomain:string clusterDNS:[string] streamingConnectionIdleTimeout:duration nodeStatusUpdateFrequency:duration nodeStatusReportFrequency:duration nodeLeaseDurationSeconds:int imageMinimumGCAge:duration imageMaximumGCAge:duration imageGCHighThresholdPercent:int imageGCLowThresholdPercent:int volumeStatsAggPeriod:duration kubeletCgroups:string systemCgroups:string cgroupRoot:string cgroupsPerQOS:bool cgroupDriver:string cpuManagerPolicy:string singleProcessOOMKill:bool cpuManagerPolicyOptions:{string} cpuManagerReconcilePeriod:duration memoryManagerPolicy:string topologyManagerPolicy:string topologyManagerScope:string topologyManagerPolicyOptions:{string} qosReserved:{string} runtimeRequestTimeout:duration hairpinMode:string maxPods:int podCIDR:string podPidsLimit:any resolvConf:string runOnce:bool cpuCFSQuota:bool cpuCFSQuotaPeriod:duration nodeStatusMaxImages:int maxOpenFiles:any contentType:string kubeAPIQPS:int kubeAPIBurst:int serializeImagePulls:bool maxParallelImagePulls:int evictionHard:{string} evictionSoft:{string} evictionSoftGracePeriod:{string} evictionPressureTransitionPeriod:duration evictionMaxPodGracePeriod:int evictionMinimumReclaim:{string} mergeDefaultEvictionSettings:bool podsPerCore:int enableControllerAttachDetach:bool protectKernelDefaults:bool makeIPTablesUtilChains:bool iptablesMasqueradeBit:int iptablesDropBit:int featureGates:{bool} failSwapOn:bool memorySwap:any containerLogMaxSize:string containerLogMaxFiles:int containerLogMaxWorkers:int containerLogMonitorInterval:duration configMapAndSecretChangeDetectionStrategy:string systemReserved:{string} kubeReserved:{string} reservedSystemCPUs:string showHiddenMetricsForVersion:string systemReservedCgroup:string kubeReservedCgroup:string enforceNodeAllocatable:[string] allowedUnsafeSysctls:[string] volumePluginDir:string providerID:string kernelMemcgNotification:bool logging:any enableSystemLogHandler:bool enableSystemLogQuery:bool shutdownGracePeriod:duration shutdownGracePeriodCriticalPods:duration shutdownGracePeriodByPodPriority:any crashLoopBackOff:any reservedMemory:any enableProfilingHandler:bool enableDebugFlagsHandler:bool seccompDefault:bool memoryThrottlingFactor:any memoryReservationPolicy:string registerWithTaints:[Taint] registerNode:bool tracing:any localStorageCapacityIsolation:bool containerRuntimeEndpoint:string imageServiceEndpoint:string failCgroupV1:bool userNamespaces:any
KubeletAuthentication x509:KubeletX509 webhook:KubeletWebhook anonymous:KubeletAnonymous
KubeletX509 clientCAFile:string
KubeletWebhook enabled:bool cacheTTL:duration
KubeletAnonymous enabled:bool
KubeletAuthorization mode:string webhook:KubeletAuthorizationWebhook
KubeletAuthorizationWebhook cacheAuthorizedTTL:duration cacheUnauthorizedTTL:duration
KubeProxyConfiguration featureGates:{bool} clientConnection:ProxyClient logging:any hostnameOverride:string bindAddress:string healthzBindAddress:string metricsBindAddress:string bindAddressHardFail:bool enableProfiling:bool showHiddenMetricsForVersion:string mode:string iptables:ProxyIptables ipvs:ProxyIpvs nftables:ProxyNftables winkernel:any detectLocalMode:string detectLocal:ProxyDetectLocal clusterCIDR:string nodePortAddresses:[string] oomScoreAdj:int conntrack:ProxyConntrack configSyncPeriod:duration portRange:string windowsRunAsService:bool
ProxyClient kubeconfig:string acceptContentTypes:string contentType:string qps:any burst:int
ProxyIptables masqueradeBit:int masqueradeAll:bool localhostNodePorts:bool syncPeriod:duration minSyncPeriod:duration
ProxyIpvs syncPeriod:duration minSyncPeriod:duration scheduler:string excludeCIDRs:[string] strictARP:bool tcpTimeout:duration tcpFinTimeout:duration udpTimeout:duration
ProxyNftables masqueradeBit:int masqueradeAll:bool syncPeriod:duration minSyncPeriod:duration
ProxyDetectLocal bridgeInterface:string interfaceNamePrefix:string
ProxyConntrack maxPerCore:int min:int tcpEstablishedTimeout:duration tcpCloseWaitTimeout:duration tcpBeLiberal:bool udpTimeout:duration udpStreamTimeout:duration
";

type Types = BTreeMap<&'static str, BTreeMap<&'static str, &'static str>>;

static TYPES: LazyLock<Types> = LazyLock::new(|| TABLE.lines().filter_map(line).collect());

fn line(text: &'static str) -> Option<(&'static str, BTreeMap<&'static str, &'static str>)> {
    let mut words = text.split(' ');
    let name = words.next().filter(|n| !n.is_empty())?;
    Some((name, words.filter_map(|w| w.split_once(':')).collect()))
}

/// What is not as it should be in a document.
#[derive(Debug, Default, PartialEq)]
pub struct Findings {
    /// Paths of fields nobody knows.
    pub unknown: Vec<String>,
    /// Values of a wrong type, as sentences.
    pub wrong: Vec<String>,
}

/// Holds a document against the table; `kind` is a type's name.
pub fn check(kind: &str, document: &Value) -> Findings {
    let mut findings = Findings::default();
    object(kind, document, "", &mut findings);
    findings
}

/// Whether there is such a type.
pub fn knows(kind: &str) -> bool {
    TYPES.contains_key(kind)
}

fn object(kind: &str, value: &Value, path: &str, out: &mut Findings) {
    let (Some(fields), Some(map)) = (TYPES.get(kind), value.as_object()) else {
        return wrong(out, path, "an object", value);
    };
    for (key, value) in map {
        let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match fields.get(key.as_str()) {
            Some(ty) => field(ty, value, &at, out),
            None if path.is_empty() && (key == "apiVersion" || key == "kind") => {}
            None => out.unknown.push(at),
        }
    }
}

fn field(ty: &str, value: &Value, path: &str, out: &mut Findings) {
    if value.is_null() {
        return;
    }
    if let Some(item) = ty.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return list(item, value, path, out);
    }
    if let Some(item) = ty.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        return map(item, value, path, out);
    }
    match scalar(ty, value) {
        Some(Ok(())) => {}
        Some(Err(expected)) => wrong(out, path, expected, value),
        None => object(ty, value, path, out),
    }
}

fn list(item: &str, value: &Value, path: &str, out: &mut Findings) {
    let Some(items) = value.as_array() else {
        return wrong(out, path, "a list", value);
    };
    for (i, value) in items.iter().enumerate() {
        let at = format!("{path}[{i}]");
        match value.is_null() {
            true => wrong(out, &at, "a value", value),
            false => field(item, value, &at, out),
        }
    }
}

fn map(item: &str, value: &Value, path: &str, out: &mut Findings) {
    let Some(map) = value.as_object() else {
        return wrong(out, path, "a map", value);
    };
    map.iter().for_each(|(key, value)| field(item, value, &format!("{path}[{key}]"), out));
}

/// Whether a scalar is of its type; none for types that are no scalars.
fn scalar(ty: &str, value: &Value) -> Option<Result<(), &'static str>> {
    let (fits, expected) = match ty {
        "any" => (true, ""),
        "string" => (value.is_string(), "text (put it in quotes)"),
        "bool" => (value.is_boolean(), "true or false"),
        "int" => (value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()), "an integer of 32 bits"),
        "duration" => (
            value.as_str().is_some_and(|t| t.parse::<GoDuration>().is_ok()),
            "a duration such as \"5m0s\" or \"24h0m0s\"",
        ),
        "time" => (
            value.as_str().is_some_and(|t| t.parse::<jiff::Timestamp>().is_ok()),
            "a time such as \"2027-01-31T12:00:00Z\"",
        ),
        _ => return None,
    };
    Some(if fits { Ok(()) } else { Err(expected) })
}

fn wrong(out: &mut Findings, path: &str, expected: &str, value: &Value) {
    let path = if path.is_empty() { "the document" } else { path };
    out.wrong.push(format!("{path}: expected {expected}, got {}", shown(value)));
}

fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(_) => "a list".into(),
        Value::Null => "nothing".into(),
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::*;
    use serde_json::json;

    /// A document with every field of the table set.
    fn full(ty: &str) -> Value {
        if let Some(item) = ty.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            return json!([full(item)]);
        }
        match ty {
            "string" => json!("x"),
            "any" => json!({"a": 1}),
            "bool" | "{bool}" if ty == "bool" => json!(true),
            "{bool}" => json!({"gate": true}),
            "{string}" => json!({"a": "b"}),
            "int" => json!(7),
            "duration" => json!("1h0m0s"),
            "time" => json!("2027-01-31T12:00:00Z"),
            object => TYPES[object].iter().map(|(name, ty)| (name.to_string(), full(ty))).collect(),
        }
    }

    fn same<T: serde::de::DeserializeOwned + serde::Serialize>(kind: &str) {
        let document = full(kind);
        assert_eq!(check(kind, &document), Findings::default(), "{kind}");
        let typed: T = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap(), document, "{kind}");
    }

    #[test]
    fn the_table_and_the_types_agree_in_every_field() {
        same::<InitConfiguration>("InitConfiguration");
        same::<ClusterConfiguration>("ClusterConfiguration");
        same::<JoinConfiguration>("JoinConfiguration");
        same::<ResetConfiguration>("ResetConfiguration");
        same::<UpgradeConfiguration>("UpgradeConfiguration");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_path() {
        let found = check(
            "ClusterConfiguration",
            &json!({"apiVersion": "x", "kind": "y", "etcd": {"local": {"dataDirr": "/x", "extraArgs": {"a": "b"}}},
                "networking": {"dnsDomain": 5}, "featureGates": {"A": "b"}, "certificateValidityPeriod": "1y",
                "scheduler": [], "proxy": null}),
        );
        assert_eq!(found.unknown, ["etcd.local.dataDirr"]);
        let wrong = [
            "certificateValidityPeriod: expected a duration such as \"5m0s\" or \"24h0m0s\", got \"1y\"",
            "etcd.local.extraArgs: expected a list, got an object",
            "featureGates[A]: expected true or false, got \"b\"",
            "networking.dnsDomain: expected text (put it in quotes), got 5",
            "scheduler: expected an object, got a list",
        ];
        let mut found = found.wrong;
        found.sort();
        assert_eq!(found, wrong);
    }
}
