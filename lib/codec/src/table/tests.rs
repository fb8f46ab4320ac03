use super::*;
use machinery::kinds::{builtin, find};

fn cells_of(group: &str, version: &str, plural: &str, object: Value) -> Vec<String> {
    let resource = find(group, version, plural).expect(plural);
    let table = render(&resource, None, &[object], "None");
    let cells = table["rows"][0]["cells"].as_array().expect("cells").clone();
    assert_eq!(cells.len(), table["columnDefinitions"].as_array().map_or(0, Vec::len));
    cells.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_string)).collect()
}

fn pod_row(status: Value, spec: Value) -> [String; 3] {
    let pod = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
    let cells = cells_of("", "v1", "pods", pod);
    [cells[1].clone(), cells[2].clone(), cells[3].clone()]
}

#[test]
fn every_kind_prints_all_its_columns() {
    for resource in builtin().iter().filter(|r| r.has_verb("list")) {
        let table = render(resource, None, &[json!({"metadata": {"name": "x"}})], "");
        let width = table["columnDefinitions"].as_array().map_or(0, Vec::len);
        let printer = printer(&resource.group, &resource.kind);
        let fallback = resource.columns.get(1).is_some_and(|c| c.name == "Created At");
        assert_eq!(printer.is_none(), fallback, "{}", resource.kind);
        if let Some(print) = printer {
            assert_eq!(print(&Cells::new(&json!({}), Timestamp::now())).len(), width, "{}", resource.kind);
        }
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    }
}

#[test]
fn pod_status() {
    let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let running = json!({"ready": true, "restartCount": 1, "state": {"running": {}}});
    let crash =
        json!({"ready": false, "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
    let table = [
        (json!({"phase": "Pending"}), ["0/2", "Pending", "0"]),
        (json!({"phase": "Running", "containerStatuses": [running, running]}), ["2/2", "Running", "2"]),
        (
            json!({"phase": "Running", "containerStatuses": [running, crash]}),
            ["1/2", "CrashLoopBackOff", "5"],
        ),
        (json!({"phase": "Failed", "reason": "Evicted"}), ["0/2", "Evicted", "0"]),
        (
            json!({"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}),
            ["0/2", "Completed", "0"],
        ),
        (
            json!({"phase": "Running", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}),
            ["0/2", "ExitCode:3", "0"],
        ),
    ];
    for (status, want) in table {
        assert_eq!(pod_row(status.clone(), spec.clone()), want, "{status}");
    }
}

#[test]
fn pod_init() {
    let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
    let done = json!({"name": "i", "state": {"terminated": {"exitCode": 0}}});
    let table = [
        (
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
            ["0/2", "Init:0/2", "0"],
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
            ["0/2", "Init:Error", "2"],
        ),
        (
            json!({"phase": "Running", "initContainerStatuses": [done, {"name": "s", "started": true, "ready": true, "state": {"running": {}}}],
            "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}]}),
            ["2/2", "Running", "0"],
        ),
    ];
    for (status, want) in table {
        assert_eq!(pod_row(status.clone(), spec.clone()), want, "{status}");
    }
}

#[test]
fn terminating_pod_and_conditions() {
    let pods = find("", "v1", "pods").expect("pods");
    let pod = json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}});
    assert_eq!(render(&pods, None, &[pod], "")["rows"][0]["cells"][2], "Terminating");
    let done = json!({"metadata": {"name": "p"}, "status": {"phase": "Succeeded"}});
    assert_eq!(render(&pods, None, &[done], "Object")["rows"][0]["conditions"][0]["type"], "Completed");
}

#[test]
fn other_kinds() {
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.36.2"}, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
    let cells = cells_of("", "v1", "nodes", node);
    assert_eq!(
        [&cells[1], &cells[2], &cells[4], &cells[5], &cells[6]],
        ["Ready,SchedulingDisabled", "control-plane", "v1.36.2", "10.0.0.1", "<none>"]
    );
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
        "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"a": "b"}}});
    assert_eq!(
        cells_of("", "v1", "services", service)[1..],
        ["NodePort", "10.96.0.1", "<none>", "80:30000/TCP,53/UDP", "<unknown>", "a=b"]
    );
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "x"}},
        "template": {"spec": {"containers": [{"name": "c", "image": "i:1"}]}}}, "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2}});
    assert_eq!(
        cells_of("apps", "v1", "deployments", deployment)[1..],
        ["2/3", "3", "2", "<unknown>", "c", "i:1", "app=x"]
    );
    let job = json!({"metadata": {"name": "j"}, "spec": {"completions": 2}, "status": {"succeeded": 1, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:30Z"}});
    assert_eq!(cells_of("batch", "v1", "jobs", job)[1..4], ["Running", "1/2", "90s"]);
}

#[test]
fn custom_columns() {
    let mut resource = (*find("", "v1", "configmaps").expect("configmaps")).clone();
    resource.object_type = None;
    resource.columns = vec![
        column("Name", "string", "name"),
        Column { json_path: Some(".spec.x".into()), ..column("X", "integer", "") },
    ];
    let table = render(&resource, None, &[json!({"metadata": {"name": "a"}, "spec": {"x": 4}})], "None");
    assert_eq!(table["rows"][0]["cells"], json!(["a", 4]));
}
