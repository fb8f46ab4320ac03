//! A sample as stats/v1alpha1 Summary.

use super::sample::{ContainerUse, Cpu, Disk, Interface, Memory, PodUse, Sample};
use crate::context::Context;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The whole answer.
pub fn render(ctx: &Context, sample: &Sample, light: bool) -> Value {
    let mut node = json!({
        "nodeName": ctx.config.node_name,
        "startTime": seconds(sample.node.booted),
        "cpu": cpu(&sample.node.cpu),
        "memory": memory(&sample.node.memory),
    });
    if !light {
        let time = stamp(sample.time);
        node["network"] = network(&sample.node.network, &time);
        node["fs"] = sample.node_fs.map_or(Value::Null, |d| disk(&d, &time));
        let images = sample.image_fs.map_or(Value::Null, |d| disk(&d, &time));
        node["runtime"] = json!({ "imageFs": images });
        let (most, now) = sample.node.processes;
        node["rlimit"] = json!({ "time": time, "maxpid": most, "curproc": now });
    }
    json!({ "node": node, "pods": sample.pods.iter().map(|p| pod(p, sample, light)).collect::<Vec<_>>() })
}

fn pod(pod: &PodUse, sample: &Sample, light: bool) -> Value {
    let mut out = Map::new();
    out.insert("podRef".into(), json!({ "name": pod.name, "namespace": pod.namespace, "uid": pod.uid }));
    out.insert("startTime".into(), json!(pod.started.map(|t| t.to_string())));
    let containers: Vec<Value> = pod.containers.iter().map(|c| container(c, sample, light)).collect();
    out.insert("containers".into(), containers.into());
    if let Some(c) = &pod.cpu {
        out.insert("cpu".into(), cpu(c));
    }
    if let Some(m) = &pod.memory {
        out.insert("memory".into(), memory(m));
    }
    if !light {
        let time = stamp(sample.time);
        if !pod.network.is_empty() {
            out.insert("network".into(), network(&pod.network, &time));
        }
        let used = pod.containers.iter().map(|c| c.rootfs.0 + c.logs).sum();
        let inodes_used = pod.containers.iter().map(|c| c.rootfs.1).sum();
        let whole = sample.node_fs.unwrap_or_default();
        out.insert("ephemeral-storage".into(), disk(&Disk { used, inodes_used, ..whole }, &time));
        if let Some(count) = pod.processes {
            out.insert("process_stats".into(), json!({ "process_count": count }));
        }
    }
    out.into()
}

fn container(use_: &ContainerUse, sample: &Sample, light: bool) -> Value {
    let mut out = json!({ "name": use_.name, "startTime": nanos(use_.started) });
    if let Some(c) = &use_.cpu {
        out["cpu"] = cpu(c);
    }
    if let Some(m) = &use_.memory {
        out["memory"] = memory(m);
    }
    if !light {
        let time = stamp(sample.time);
        let (used, inodes_used) = use_.rootfs;
        let images = sample.image_fs.unwrap_or_default();
        out["rootfs"] = disk(&Disk { used, inodes_used, ..images }, &time);
        let whole = sample.node_fs.unwrap_or_default();
        out["logs"] = disk(&Disk { used: use_.logs, inodes_used: 0, ..whole }, &time);
    }
    out
}

fn cpu(cpu: &Cpu) -> Value {
    let mut out = json!({ "time": stamp(cpu.time), "usageCoreNanoSeconds": cpu.total });
    if let Some(rate) = cpu.rate {
        out["usageNanoCores"] = rate.into();
    }
    out
}

fn memory(m: &Memory) -> Value {
    let mut out = json!({
        "time": stamp(m.time),
        "usageBytes": m.usage,
        "workingSetBytes": m.working_set,
        "rssBytes": m.rss,
        "pageFaults": m.faults,
        "majorPageFaults": m.major_faults,
    });
    if let Some(available) = m.available {
        out["availableBytes"] = available.into();
    }
    out
}

fn network(all: &[Interface], time: &str) -> Value {
    let one = |i: &Interface| {
        json!({
            "name": i.name, "rxBytes": i.rx, "rxErrors": i.rx_errors, "txBytes": i.tx, "txErrors": i.tx_errors,
        })
    };
    let mut out = all.first().map_or_else(|| json!({}), one);
    out["time"] = time.into();
    out["interfaces"] = all.iter().map(one).collect();
    out
}

fn disk(d: &Disk, time: &str) -> Value {
    json!({
        "time": time,
        "availableBytes": d.available,
        "capacityBytes": d.capacity,
        "usedBytes": d.used,
        "inodesFree": d.inodes_free,
        "inodes": d.inodes,
        "inodesUsed": d.inodes_used,
    })
}

fn stamp(unix_nanos: i64) -> String {
    nanos(unix_nanos).unwrap_or_default()
}

fn nanos(unix_nanos: i64) -> Option<String> {
    let whole = Timestamp::from_nanosecond(i128::from(unix_nanos)).ok()?;
    Timestamp::from_second(whole.as_second()).ok().map(|t| t.to_string())
}

fn seconds(unix: i64) -> Option<String> {
    Timestamp::from_second(unix).ok().map(|t| t.to_string())
}
