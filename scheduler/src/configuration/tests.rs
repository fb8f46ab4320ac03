use serde_json::json;

use super::*;

const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

fn parse(rest: serde_json::Value) -> Result<Configuration, String> {
    let mut all = json!({"apiVersion": VERSION, "kind": KIND});
    crate::testing::merge(&mut all, rest);
    Configuration::parse(&all.to_string()).map_err(|e| format!("{e:#}"))
}

fn fault(rest: serde_json::Value) -> String {
    parse(rest).err().expect("a fault")
}

fn names(list: &[std::sync::Arc<dyn crate::framework::Plugin>]) -> Vec<&'static str> {
    list.iter().map(|p| p.name()).collect()
}

#[test]
fn the_empty_configuration_is_the_default_one() {
    let all = Configuration::parse(HEAD).map_err(|e| e.to_string()).unwrap();
    let (got, want) = (&all.profiles[0], crate::plugins::default_profile());
    assert_eq!((got.name.as_str(), got.percentage, got.binds), ("default-scheduler", 0, true));
    let weights = |p: &Profile| p.scores.iter().map(|(p, w)| (p.name(), *w)).collect::<Vec<_>>();
    assert_eq!(weights(got), weights(&want));
    let named = parse(json!({"profiles": [{"schedulerName": "mine"}]})).unwrap();
    assert_eq!(named.profiles[0].name, "mine");
    assert_eq!(weights(&named.profiles[0]), weights(&want));
    let filters = names(&named.profiles[0].filters);
    assert_eq!(filters.first(), Some(&"NodeUnschedulable"));
    assert!(filters.contains(&"VolumeBinding") && !filters.contains(&"ImageLocality"));
}

#[test]
fn faults_are_named_by_path() {
    let profile = |p: serde_json::Value| json!({"profiles": [p]});
    let config = |name: &str, args: serde_json::Value| json!({"profiles": [{"pluginConfig": [{"name": name, "args": args}]}]});
    for (rest, want) in [
        (
            json!({"kind": "Other"}),
            "kind: Unsupported value: \"Other\": supported values: \"KubeSchedulerConfiguration\"",
        ),
        (json!({"nonsense": 1}), "strict decoding error: unknown field \"nonsense\""),
        (
            json!({"parallelism": 0}),
            "parallelism: Invalid value: 0: should be an integer value greater than zero",
        ),
        (json!({"parallelism": "x"}), "parallelism: Invalid value: \"x\": must be an integer"),
        (
            json!({"percentageOfNodesToScore": 101}),
            "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
        ),
        (
            profile(json!({"percentageOfNodesToScore": -1})),
            "profiles[0].percentageOfNodesToScore: Invalid value: -1: not in valid range [0-100]",
        ),
        (
            json!({"podInitialBackoffSeconds": 0}),
            "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0",
        ),
        (
            json!({"podInitialBackoffSeconds": 5, "podMaxBackoffSeconds": 2}),
            "podMaxBackoffSeconds: Invalid value: 2: must be greater than or equal to PodInitialBackoffSeconds",
        ),
        (
            json!({"profiles": [{"schedulerName": "a"}, {"schedulerName": "a"}]}),
            "profiles[1].schedulerName: Duplicate value: \"a\"",
        ),
        (json!({"profiles": [{"schedulerName": "a"}, {}]}), "profiles[1].schedulerName: Required value"),
        (
            profile(json!({"plugins": {"score": {"enabled": [{"name": "NodeName"}]}}})),
            "profiles[0].plugins.score.enabled[0].name: Invalid value: \"NodeName\": plugin does not extend score",
        ),
        (
            profile(json!({"plugins": {"queueSort": {"disabled": [{"name": "*"}]}}})),
            "profiles[0].plugins.queueSort: Required value: one queue sort plugin is needed",
        ),
        (
            config("DefaultPreemption", json!({"minCandidateNodesPercentage": 200})),
            "profiles[0].pluginConfig[0].args.minCandidateNodesPercentage: Invalid value: 200: not in valid range [0, 100]",
        ),
        (
            config("InterPodAffinity", json!({"hardPodAffinityWeight": 101})),
            "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0-100]",
        ),
        (
            config("InterPodAffinity", json!({"kind": "NodeAffinityArgs"})),
            "profiles[0].pluginConfig[0].args.kind: Unsupported value: \"NodeAffinityArgs\": supported values: \"InterPodAffinityArgs\"",
        ),
        (
            config(
                "NodeResourcesFit",
                json!({"scoringStrategy": {"type": "RequestedToCapacityRatio",
                "requestedToCapacityRatio": {"shape": [{"utilization": 50, "score": 1}, {"utilization": 50, "score": 2}]}}}),
            ),
            "profiles[0].pluginConfig[0].args.scoringStrategy.requestedToCapacityRatio.shape[1].utilization: Invalid value: \
             50: utilization values must be sorted in increasing order",
        ),
        (
            config(
                "NodeResourcesFit",
                json!({"scoringStrategy": {"resources": [{"name": "cpu", "weight": 0}]}}),
            ),
            "profiles[0].pluginConfig[0].args.scoringStrategy.resources[0].weight: Invalid value: 0: resource weight not in \
             valid range [1, 100]",
        ),
        (
            config(
                "PodTopologySpread",
                json!({"defaultingType": "List", "defaultConstraints": [
                {"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway"}]}),
            ),
            "profiles[0].pluginConfig[0].args.defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf)",
        ),
        (
            json!({"extenders": [{"urlPrefix": "http://x", "prioritizeVerb": "p"}]}),
            "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
        ),
        (
            json!({"extenders": [{"urlPrefix": "http://x", "filterVerb": "f", "weight": -1}]}),
            "extenders[0].weight: Invalid value: -1: must have a positive weight applied to it",
        ),
        (
            profile(json!({"plugins": {"score": {"enabled": [{"name": "ImageLocality", "weight": -1}]}}})),
            "profiles[0].plugins.score.enabled[0].weight: Invalid value: -1: must not be negative",
        ),
        (
            profile(
                json!({"plugins": {"multiPoint": {"enabled": [{"name": "NodeName"}, {"name": "NodeAffinity", "weight": -1}]}}}),
            ),
            "profiles[0].plugins.multiPoint.enabled[1].weight: Invalid value: -1: must not be negative",
        ),
        (
            json!({"extenders": [{"urlPrefix": "http://x", "bindVerb": "b"}, {"urlPrefix": "http://y", "bindVerb": "b"}]}),
            "extenders: Invalid value: \"found 2 extenders implementing bind\": only one extender can implement bind",
        ),
        (
            json!({"extenders": [{"urlPrefix": "http://x", "managedResources": [{"name": "cpu"}]}]}),
            "extenders[0].managedResources[0].name: Invalid value: \"cpu\": is an invalid extended resource name",
        ),
    ] {
        assert_eq!(fault(rest.clone()), want, "{rest}");
    }
    let both = fault(json!({"parallelism": 0, "podInitialBackoffSeconds": 0}));
    assert!(
        both.starts_with('[') && both.contains("), podInitial") || both.contains("zero, podInitial"),
        "{both}"
    );
}

#[test]
fn plugins_are_enabled_disabled_and_weighed() {
    let plugins = json!({
        "multiPoint": {"enabled": [{"name": "NodeAffinity", "weight": 7}], "disabled": [{"name": "ImageLocality"}]},
        "filter": {"enabled": [{"name": "TaintToleration"}], "disabled": [{"name": "NodePorts"}]},
        "score": {"enabled": [{"name": "PodTopologySpread", "weight": 5}], "disabled": [{"name": "InterPodAffinity"}]},
        "postFilter": {"disabled": [{"name": "*"}]},
        "bind": {"disabled": [{"name": "DefaultBinder"}]},
    });
    let all = parse(json!({"profiles": [{"plugins": plugins}, {"schedulerName": "b"}]}));
    assert!(all.is_err(), "with two profiles both need a name");
    let all =
        parse(json!({"profiles": [{"schedulerName": "a", "plugins": plugins}, {"schedulerName": "b"}]}))
            .unwrap();
    let (a, b) = (&all.profiles[0], &all.profiles[1]);
    let weights: Vec<(&str, i64)> = a.scores.iter().map(|(p, w)| (p.name(), *w)).collect();
    assert_eq!(
        weights,
        [
            ("PodTopologySpread", 5),
            ("TaintToleration", 3),
            ("NodeAffinity", 7),
            ("NodeResourcesFit", 1),
            ("NodeResourcesBalancedAllocation", 1),
        ]
    );
    let filters = names(&a.filters);
    assert_eq!(filters[..2], ["TaintToleration", "NodeUnschedulable"]);
    assert!(!filters.contains(&"NodePorts") && filters.contains(&"InterPodAffinity"));
    assert!(a.preemption.is_none() && !a.binds);
    assert!(b.preemption.is_some() && b.binds && names(&b.filters).contains(&"NodePorts"));
}

#[test]
fn arguments_and_extenders_arrive() {
    let all = parse(json!({
        "percentageOfNodesToScore": 30,
        "profiles": [{"pluginConfig": [
            {"name": "DefaultPreemption", "args": {"minCandidateNodesAbsolute": 7}},
            {"name": "VolumeBinding", "args": {"bindTimeoutSeconds": 30}},
        ]}],
        "extenders": [{"urlPrefix": "http://x:1/y", "filterVerb": "f", "prioritizeVerb": "p", "weight": 2,
            "httpTimeout": "200ms", "ignorable": true, "nodeCacheCapable": true,
            "managedResources": [{"name": "x.y/gpu", "ignoredByScheduler": true}]}],
    }))
    .unwrap();
    let profile = &all.profiles[0];
    assert_eq!((profile.percentage, profile.preemption.unwrap().absolute), (30, 7));
    assert_eq!(profile.bind_volumes, Some(Duration::from_secs(30)));
    let e = &all.extenders[0];
    assert_eq!(
        (e.weight, e.timeout, e.ignorable, e.knows_nodes),
        (2, Duration::from_millis(200), true, true)
    );
    assert_eq!(e.resources.get("x.y/gpu"), Some(&true));
}
