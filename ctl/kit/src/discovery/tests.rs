//! Words and the kinds they mean.

use super::*;
use serde_json::json;

fn sample() -> Discovery {
    let resource = |plural: &str, kind: &str, short: &[&str], categories: &[&str]| json!({"resource": plural, "singularResource": kind.to_lowercase(), "responseKind": {"kind": kind}, "shortNames": short, "categories": categories, "scope": "Namespaced", "verbs": ["get"]});
    let core = json!({"items": [{"metadata": {}, "versions": [{"version": "v1", "resources": [resource("pods", "Pod", &["po"], &["all"]), resource("events", "Event", &["ev"], &[])]}]}]});
    let apps = json!({"items": [
        {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [resource("deployments", "Deployment", &["deploy"], &["all"])]}]},
        {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [resource("events", "Event", &["ev"], &[])]}]},
        {"metadata": {"name": "metrics.k8s.io"}, "versions": [{"version": "v1beta1", "freshness": "Stale", "resources": []}]}]});
    Discovery { groups: aggregated(&core).into_iter().chain(aggregated(&apps)).collect() }
}

#[test]
fn words_find_their_kinds() {
    let discovery = sample();
    let table = [
        ("po", Some("pods")),
        ("Pod", Some("pods")),
        ("pods.v1.", Some("pods")),
        ("deploy", Some("deployments.apps")),
        ("deploy.apps", Some("deployments.apps")),
        ("deployments.v1.apps", Some("deployments.apps")),
        ("deployment.ap", Some("deployments.apps")),
        ("events", Some("events")),
        ("events.events.k8s.io", Some("events.events.k8s.io")),
        ("ev.events", Some("events.events.k8s.io")),
        ("deployments.v2.apps", None),
        ("nothing", None),
    ];
    for (word, found) in table {
        assert_eq!(discovery.resolve(word).map(Kind::group_resource).as_deref(), found, "{word}");
    }
}

#[test]
fn categories_and_stale_groups() {
    let discovery = sample();
    let all: Vec<&str> = discovery.category("all").iter().map(|kind| kind.plural.as_str()).collect();
    assert_eq!(all, ["pods", "deployments"]);
    let text = discovery.stale().map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(
        text,
        "unable to retrieve the complete list of server APIs: metrics.k8s.io/v1beta1: stale GroupVersion discovery: metrics.k8s.io/v1beta1"
    );
}
