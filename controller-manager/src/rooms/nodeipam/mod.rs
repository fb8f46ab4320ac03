//! Pod CIDRs for nodes, from the cluster's.

mod blocks;
mod instruments;

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use control::events::reference;
use control::runner::{Options, Outcome};
use control::{Cache, Key, Queue};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::json;

use crate::Config;
use crate::kit::write::Format;
use crate::kit::{Context, Write};
use blocks::Blocks;
use instruments::Instruments;

struct Room {
    context: Context,
    nodes: Cache<Node>,
    /// One set of blocks per cluster CIDR, in order. Everything handed out is in here, whether the cache shows it or not.
    blocks: Mutex<Vec<Blocks>>,
    /// What was given to a node whose object does not show it yet.
    given: Mutex<ahash::AHashMap<String, Vec<IpNet>>>,
    /// What nodes had that are gone: one that comes back by the same name gets the same again if it can, for its
    /// bridge and routes are still made for it.
    former: Mutex<ahash::AHashMap<String, Vec<IpNet>>>,
}

/// Former nodes remembered.
const FORMER: usize = 1000;

/// Starts the allocator, if `--allocate-node-cidrs` asks for it.
pub fn start(context: Context) {
    if !context.config.allocate_node_cidrs {
        tracing::info!("node CIDRs are not allocated here");
        return;
    }
    let blocks = match blocks_of(&context.config, &Instruments::new(&context.metrics)) {
        Ok(blocks) => blocks,
        Err(error) => return tracing::error!(error = format!("{error:#}"), "node CIDRs cannot be allocated"),
    };
    let room = Arc::new(Room {
        nodes: context.nodes(),
        blocks: Mutex::new(blocks),
        given: Mutex::default(),
        former: Mutex::default(),
        context: context.clone(),
    });
    let queue: Queue<Key> = Queue::new();
    let (watched, q) = (room.clone(), queue.clone());
    let nodes = room.nodes.clone();
    context.tasks.spawn("node CIDRs in use", async move {
        // Nothing is handed out before everything in use is known.
        watched.nodes.synced().await;
        let (seen, q2) = (watched.clone(), q.clone());
        nodes.handle(move |event| seen.changed(event, &q2));
        let room = watched.clone();
        // One worker: a decision sees all earlier ones.
        watched.context.run(Options::new("node-ipam-controller", 1), q, move |key| {
            let room = room.clone();
            async move { room.sync(key).await }
        });
        std::future::pending::<()>().await;
    });
}

fn blocks_of(config: &Config, instruments: &Instruments) -> Result<Vec<Blocks>> {
    let services: Vec<IpNet> = parse(&config.service_cluster_ip_range)?;
    let make = |cidr: IpNet| {
        let (own, default) = match cidr {
            IpNet::V4(_) => (config.node_cidr_mask_size_ipv4, 24),
            IpNet::V6(_) => (config.node_cidr_mask_size_ipv6, 64),
        };
        let common = if cidr.addr().is_ipv4() || config.cluster_cidr.len() == 1 {
            config.node_cidr_mask_size
        } else {
            0
        };
        let mask = [own, common, default].into_iter().find(|m| *m != 0).unwrap_or(default);
        let mut blocks = Blocks::new(cidr, mask)?.counted(instruments);
        services.iter().for_each(|s| blocks.occupy(s));
        Ok(blocks)
    };
    let cidrs = parse(&config.cluster_cidr)?;
    anyhow::ensure!(!cidrs.is_empty(), "--cluster-cidr is required with --allocate-node-cidrs");
    cidrs.into_iter().map(make).collect()
}

fn parse(texts: &[String]) -> Result<Vec<IpNet>> {
    texts.iter().filter(|t| !t.is_empty()).map(|t| Ok(t.trim().parse::<IpNet>()?)).collect()
}

/// The CIDRs a node has.
fn cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all: Vec<&String> = spec.pod_cidrs.iter().flatten().collect();
    let texts = if all.is_empty() { spec.pod_cidr.iter().collect() } else { all };
    texts.into_iter().filter_map(|t| t.parse().ok()).collect()
}

impl Room {
    fn changed(&self, event: &control::Event<Node>, queue: &Queue<Key>) {
        let uid = |n: &Node| n.metadata.uid.clone();
        let replaced = |old: &Node| event.new.as_ref().is_none_or(|new| uid(new) != uid(old));
        if let Some(old) = event.old.as_ref().filter(|old| replaced(old)) {
            self.release(&event.key.name, cidrs(old));
        }
        if let Some(node) = &event.new {
            let has = cidrs(node);
            self.occupy(&has);
            if has.is_empty() {
                queue.add(event.key.clone());
            } else {
                self.given.lock().remove(&*event.key.name);
            }
        }
    }

    fn release(&self, name: &str, had: Vec<IpNet>) {
        let given = self.given.lock().remove(name).unwrap_or_default();
        let mut blocks = self.blocks.lock();
        for cidr in had.iter().chain(&given) {
            blocks.iter_mut().for_each(|b| b.release(cidr));
        }
        let mut former = self.former.lock();
        if former.len() < FORMER {
            former.insert(name.to_string(), if had.is_empty() { given } else { had });
        }
    }

    /// What a node of this name had before, unless somebody else has it by now.
    fn again(&self, name: &str, blocks: &[Blocks]) -> Option<Vec<IpNet>> {
        let former = self.former.lock().remove(name)?;
        let free = former.iter().zip(blocks).all(|(cidr, b)| b.is_free(cidr));
        (free && former.len() == blocks.len()).then_some(former)
    }

    fn occupy(&self, cidrs: &[IpNet]) {
        let mut blocks = self.blocks.lock();
        for cidr in cidrs {
            blocks.iter_mut().for_each(|b| b.occupy(cidr));
        }
    }

    async fn sync(&self, key: Key) -> Outcome {
        let Some(node) = self.nodes.get_key(&key).filter(|n| cidrs(n).is_empty()) else { return Ok(None) };
        if node.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let given = self.given.lock().get(&*key.name).cloned();
        let Some(chosen) = given.or_else(|| self.choose(&key)) else {
            let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
            self.context.recorder.normal(&reference(&*node), "CIDRNotAvailable", message);
            anyhow::bail!("no free CIDR for node {}", key.name);
        };
        let texts: Vec<String> = chosen.iter().map(|c| c.to_string()).collect();
        let body = json!({"spec": {"podCIDR": texts.first(), "podCIDRs": texts}});
        let write = Write::patch(&*node, Format::Strategic, body).note(texts.join(","));
        match self.context.writer.send(&write).await {
            Ok(_) => {
                tracing::info!(node = %key.name, cidrs = ?texts, "node CIDRs assigned");
                Ok(None)
            }
            // Gone: its deletion releases what it was given. Any other failure keeps the choice for the next try,
            // since the write may have arrived.
            Err(failure) if failure.not_found() => Ok(None),
            Err(failure) => {
                let message = format!("Node {} status is now: CIDRAssignmentFailed", key.name);
                self.context.recorder.normal(&reference(&*node), "CIDRAssignmentFailed", message);
                Err(failure.into())
            }
        }
    }

    /// A free block of every cluster CIDR, remembered until the node shows it.
    fn choose(&self, key: &Key) -> Option<Vec<IpNet>> {
        let chosen = {
            let mut blocks = self.blocks.lock();
            match self.again(&key.name, &blocks) {
                Some(former) => {
                    former.iter().zip(&mut *blocks).for_each(|(cidr, b)| b.occupy(cidr));
                    former
                }
                None => next_of_each(&mut blocks)?,
            }
        };
        self.given.lock().insert(key.name.to_string(), chosen.clone());
        // A node that went while we chose is told by no further event.
        if self.nodes.get_key(key).is_none() {
            self.release(&key.name, Vec::new());
            return None;
        }
        Some(chosen)
    }
}

/// The next free block of each, or none of any.
fn next_of_each(blocks: &mut [Blocks]) -> Option<Vec<IpNet>> {
    let chosen: Vec<Option<IpNet>> = blocks.iter_mut().map(Blocks::next).collect();
    if chosen.iter().any(Option::is_none) {
        for (block, cidr) in blocks.iter_mut().zip(&chosen) {
            cidr.iter().for_each(|c| block.release(c));
        }
        return None;
    }
    Some(chosen.into_iter().flatten().collect())
}

/// An address as a number of 128 bits.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}
