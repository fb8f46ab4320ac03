//! One reading of everything, in plain numbers.

use super::host;
use crate::context::Context;
use crate::pods::table::{PodEntry, RuntimeContainer};
use crate::runtime::cri;
use crate::runtime::{Result, RuntimeError};
use std::collections::HashMap;
use std::sync::Arc;

/// CPU use of something.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// Unix nanoseconds
    pub time: i64,
    /// nanoseconds of core time since the beginning
    pub total: u64,
    /// present rate, nanoseconds of core time a second
    pub rate: Option<u64>,
}

/// Memory use of something, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Unix nanoseconds
    pub time: i64,
    /// what cannot be reclaimed
    pub working_set: u64,
    /// all
    pub usage: u64,
    /// anonymous
    pub rss: u64,
    /// up to the limit
    pub available: Option<u64>,
    /// since the beginning
    pub faults: u64,
    /// those that read from disk
    pub major_faults: u64,
}

/// One network interface, since its beginning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// name
    pub name: String,
    /// bytes received
    pub rx: u64,
    /// receive errors
    pub rx_errors: u64,
    /// bytes sent
    pub tx: u64,
    /// send errors
    pub tx_errors: u64,
}

/// A file system, bytes and inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Disk {
    /// size
    pub capacity: u64,
    /// free for us
    pub available: u64,
    /// used (by whom the record is about)
    pub used: u64,
    /// number of inodes
    pub inodes: u64,
    /// free ones
    pub inodes_free: u64,
    /// used ones
    pub inodes_used: u64,
}

/// One container.
#[derive(Clone, Debug, Default)]
pub struct ContainerUse {
    /// name in the spec
    pub name: String,
    /// runtime id
    pub id: String,
    /// image as asked for
    pub image: String,
    /// start, Unix nanoseconds
    pub started: i64,
    /// CPU
    pub cpu: Option<Cpu>,
    /// memory
    pub memory: Option<Memory>,
    /// bytes and inodes of the writable layer
    pub rootfs: (u64, u64),
    /// bytes of its log files
    pub logs: u64,
}

/// One pod.
#[derive(Clone, Debug, Default)]
pub struct PodUse {
    /// name
    pub name: String,
    /// namespace
    pub namespace: String,
    /// UID
    pub uid: String,
    /// start, as status.startTime
    pub started: Option<jiff::Timestamp>,
    /// CPU of the whole
    pub cpu: Option<Cpu>,
    /// memory of the whole
    pub memory: Option<Memory>,
    /// its interfaces, the main one first
    pub network: Vec<Interface>,
    /// number of processes
    pub processes: Option<u64>,
    /// containers by name
    pub containers: Vec<ContainerUse>,
}

/// Everything at one time.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Unix nanoseconds
    pub time: i64,
    /// the node
    pub node: host::HostUse,
    /// pods in order of namespace and name
    pub pods: Vec<PodUse>,
    /// the file system of images, with what images use
    pub image_fs: Option<Disk>,
    /// the kubelet's own file system
    pub node_fs: Option<Disk>,
}

/// Reads the runtime and the kernel.
pub async fn take(ctx: &Arc<Context>) -> Result<Sample> {
    let (containers, sandboxes, images) = tokio::join!(
        ctx.runtime.list_container_stats(),
        ctx.runtime.list_sandbox_stats(),
        ctx.runtime.image_fs_info()
    );
    let containers: HashMap<String, cri::ContainerStats> =
        containers?.into_iter().filter_map(|c| Some((c.attributes.as_ref()?.id.clone(), c))).collect();
    let sandboxes: HashMap<String, cri::PodSandboxStats> = sandboxes
        .or_else(tolerate)?
        .into_iter()
        .filter_map(|s| Some((s.attributes.as_ref()?.id.clone(), s)))
        .collect();
    let mut entries = ctx.pods.list();
    entries.sort_by(|a, b| (a.namespace(), a.name()).cmp(&(b.namespace(), b.name())));
    let pods = entries.iter().filter_map(|e| pod(e, &containers, &sandboxes)).collect();
    let root = ctx.config.root_dir.clone();
    let (node, node_fs) = tokio::task::spawn_blocking(move || (host::read(), host::disk(&root)))
        .await
        .map_err(|e| RuntimeError::Unavailable(e.to_string()))?;
    Ok(Sample { time: now(), node, pods, image_fs: images.ok().and_then(|i| image_fs(&i)), node_fs })
}

/// Runtimes without pod statistics still have those of containers.
fn tolerate(error: RuntimeError) -> Result<Vec<cri::PodSandboxStats>> {
    tracing::debug!(%error, "no sandbox statistics");
    Ok(Vec::new())
}

/// The present, Unix nanoseconds.
pub fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn image_fs(info: &cri::ImageFsInfoResponse) -> Option<Disk> {
    let fs = info.image_filesystems.first()?;
    let mount = &fs.fs_id.as_ref()?.mountpoint;
    let whole = host::disk(std::path::Path::new(mount))?;
    let number = |v: &Option<cri::UInt64Value>| v.as_ref().map_or(0, |v| v.value);
    Some(Disk { used: number(&fs.used_bytes), inodes_used: number(&fs.inodes_used), ..whole })
}

fn pod(
    entry: &PodEntry,
    containers: &HashMap<String, cri::ContainerStats>,
    sandboxes: &HashMap<String, cri::PodSandboxStats>,
) -> Option<PodUse> {
    let sandbox = entry.view.ready_sandbox()?;
    let running = entry.view.containers.iter().filter(|c| containers.contains_key(&c.id));
    let mut uses: Vec<ContainerUse> =
        running.filter_map(|c| Some(container(c, containers.get(&c.id)?))).collect();
    uses.sort_by(|a, b| a.name.cmp(&b.name));
    let linux = sandboxes.get(&sandbox.id).and_then(|s| s.linux.as_ref());
    Some(PodUse {
        name: entry.name().to_owned(),
        namespace: entry.namespace().to_owned(),
        uid: entry.uid().to_owned(),
        started: entry.status.start_time.as_ref().map(|t| t.0),
        cpu: linux.and_then(|l| cpu(l.cpu.as_ref())).or_else(|| sum_cpu(&uses)),
        memory: linux.and_then(|l| memory(l.memory.as_ref())).or_else(|| sum_memory(&uses)),
        network: linux.and_then(|l| l.network.as_ref()).map(network).unwrap_or_default(),
        processes: linux.and_then(|l| l.process.as_ref()?.process_count.as_ref()).map(|v| v.value),
        containers: uses,
    })
}

fn container(known: &RuntimeContainer, stats: &cri::ContainerStats) -> ContainerUse {
    let number = |v: Option<&cri::UInt64Value>| v.map_or(0, |v| v.value);
    let layer = stats.writable_layer.as_ref();
    ContainerUse {
        name: known.name.clone(),
        id: known.id.clone(),
        image: known.image.clone(),
        started: known.started_at,
        cpu: cpu(stats.cpu.as_ref()),
        memory: memory(stats.memory.as_ref()),
        rootfs: (
            number(layer.and_then(|l| l.used_bytes.as_ref())),
            number(layer.and_then(|l| l.inodes_used.as_ref())),
        ),
        logs: known.log_path.parent().map_or(0, host::dir_size),
    }
}

fn cpu(usage: Option<&cri::CpuUsage>) -> Option<Cpu> {
    let usage = usage?;
    let total = usage.usage_core_nano_seconds.as_ref()?.value;
    Some(Cpu { time: usage.timestamp, total, rate: usage.usage_nano_cores.as_ref().map(|v| v.value) })
}

fn memory(usage: Option<&cri::MemoryUsage>) -> Option<Memory> {
    let usage = usage?;
    let number = |v: &Option<cri::UInt64Value>| v.as_ref().map_or(0, |v| v.value);
    Some(Memory {
        time: usage.timestamp,
        working_set: usage.working_set_bytes.as_ref()?.value,
        usage: number(&usage.usage_bytes),
        rss: number(&usage.rss_bytes),
        available: usage.available_bytes.as_ref().map(|v| v.value).filter(|v| *v > 0),
        faults: number(&usage.page_faults),
        major_faults: number(&usage.major_page_faults),
    })
}

fn network(usage: &cri::NetworkUsage) -> Vec<Interface> {
    let number = |v: &Option<cri::UInt64Value>| v.as_ref().map_or(0, |v| v.value);
    let one = |i: &cri::NetworkInterfaceUsage| Interface {
        name: i.name.clone(),
        rx: number(&i.rx_bytes),
        rx_errors: number(&i.rx_errors),
        tx: number(&i.tx_bytes),
        tx_errors: number(&i.tx_errors),
    };
    usage.default_interface.iter().chain(&usage.interfaces).map(one).collect()
}

fn sum_cpu(uses: &[ContainerUse]) -> Option<Cpu> {
    let add = |a: Cpu, b: Cpu| Cpu { time: a.time.max(b.time), total: a.total + b.total, rate: None };
    uses.iter().filter_map(|u| u.cpu).reduce(add)
}

fn sum_memory(uses: &[ContainerUse]) -> Option<Memory> {
    let add = |a: Memory, b: Memory| Memory {
        time: a.time.max(b.time),
        working_set: a.working_set + b.working_set,
        usage: a.usage + b.usage,
        rss: a.rss + b.rss,
        available: None,
        faults: a.faults + b.faults,
        major_faults: a.major_faults + b.major_faults,
    };
    uses.iter().filter_map(|u| u.memory).reduce(add)
}
