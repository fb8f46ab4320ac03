//! The configuration file: pools of addresses, and what is known of nodes.
//!
//! ```yaml
//! apiVersion: cloud.coxswain.io/v1alpha1
//! kind: CloudConfiguration
//! pools:
//! - name: default
//!   addresses: [192.168.7.0/28, 192.168.8.10-192.168.8.20, fd00:7::/120]
//!   autoAssign: true
//!   interfaces: [^eth]
//! nodes:
//! - name: rack1-a
//!   zone: rack1
//!   addresses: [{type: InternalIP, address: 192.168.7.101}]
//! ```

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::NodeAddress;
use serde::Deserialize;

use super::pool::{Pool, Range};

const API: &str = "cloud.coxswain.io/v1alpha1";
const KIND: &str = "CloudConfiguration";

/// What the file says, checked.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub pools: Vec<Pool>,
    pub nodes: BTreeMap<String, NodeSettings>,
    pub region: String,
    pub zone: String,
    /// Services without a loadBalancerClass are left to another.
    pub class_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    pools: Vec<PoolFile>,
    #[serde(default)]
    nodes: Vec<NodeSettings>,
    #[serde(default)]
    region: String,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    class_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PoolFile {
    name: String,
    addresses: Vec<String>,
    #[serde(default = "yes")]
    auto_assign: bool,
    #[serde(default)]
    interfaces: Vec<String>,
}

fn yes() -> bool {
    true
}

/// What is known of a node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeSettings {
    pub name: String,
    #[serde(default, rename = "providerID")]
    pub provider_id: String,
    #[serde(default)]
    pub instance_type: String,
    #[serde(default)]
    pub zone: String,
    #[serde(default)]
    pub region: String,
    #[serde(default)]
    pub addresses: Vec<NodeAddress>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The machine is turned off for a while.
    #[serde(default)]
    pub shutdown: bool,
}

const TYPES: [&str; 5] = ["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"];

impl Settings {
    /// From the file's text.
    ///
    /// # Errors
    /// The first thing that is wrong, with its path.
    pub fn read(text: &str) -> Result<Self> {
        let file: File = serde_yaml::from_str(text)?;
        ensure!(file.api_version == API, "apiVersion: {:?}, expected {API:?}", file.api_version);
        ensure!(file.kind == KIND, "kind: {:?}, expected {KIND:?}", file.kind);
        let mut names = BTreeSet::new();
        let mut pools: Vec<Pool> = Vec::new();
        for (n, given) in file.pools.iter().enumerate() {
            let at = format!("pools[{n}]");
            ensure!(!given.name.is_empty(), "{at}.name: a pool needs a name");
            ensure!(names.insert(given.name.clone()), "{at}.name: there are two pools {:?}", given.name);
            let pool = read_pool(given, &at)?;
            for other in &pools {
                if let Some((a, b)) = overlap(&pool, other) {
                    bail!("{at}.addresses: {a} is also in {b} of pool {:?}", other.name);
                }
            }
            pools.push(pool);
        }
        let mut nodes = BTreeMap::new();
        for (n, node) in file.nodes.into_iter().enumerate() {
            let at = format!("nodes[{n}]");
            check_node(&node, &at)?;
            let name = node.name.clone();
            ensure!(nodes.insert(name.clone(), node).is_none(), "{at}.name: {name:?} is there twice");
        }
        Ok(Self { pools, nodes, region: file.region, zone: file.zone, class_only: file.class_only })
    }
}

fn read_pool(given: &PoolFile, at: &str) -> Result<Pool> {
    ensure!(!given.addresses.is_empty(), "{at}.addresses: a pool needs addresses");
    let mut ranges = Vec::new();
    for (n, text) in given.addresses.iter().enumerate() {
        ranges.push(Range::parse(text).with_context(|| format!("{at}.addresses[{n}]"))?);
    }
    for (n, pattern) in given.interfaces.iter().enumerate() {
        // Agents are told all of them as one.
        regex::Regex::new(pattern).with_context(|| format!("{at}.interfaces[{n}]"))?;
    }
    let alternatives: Vec<String> = given.interfaces.iter().map(|p| format!("(?:{p})")).collect();
    Ok(Pool {
        name: given.name.clone(),
        ranges,
        auto_assign: given.auto_assign,
        interfaces: Some(alternatives.join("|")).filter(|p| !p.is_empty()),
    })
}

fn overlap<'a>(one: &'a Pool, other: &'a Pool) -> Option<(&'a Range, &'a Range)> {
    let pairs = one.ranges.iter().flat_map(|a| other.ranges.iter().map(move |b| (a, b)));
    pairs.into_iter().find(|(a, b)| a.overlaps(b))
}

fn check_node(node: &NodeSettings, at: &str) -> Result<()> {
    ensure!(!node.name.is_empty(), "{at}.name: a node needs a name");
    for (n, address) in node.addresses.iter().enumerate() {
        let kind = &address.type_;
        ensure!(
            TYPES.contains(&kind.as_str()),
            "{at}.addresses[{n}].type: {kind:?}, expected one of {}",
            TYPES.join(", ")
        );
        let bad = kind.ends_with("IP") && address.address.parse::<std::net::IpAddr>().is_err();
        ensure!(!bad, "{at}.addresses[{n}].address: {:?} is no IP address", address.address);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: cloud.coxswain.io/v1alpha1\nkind: CloudConfiguration\n";

    #[test]
    fn a_whole_file() {
        let text = format!(
            "{HEAD}region: eu\npools:\n- name: a\n  addresses: [10.0.0.0/28, 10.1.0.5-10.1.0.9, 'fd00::/120']\n  interfaces: [^eth, bond0]\n\
             - {{name: b, addresses: [10.2.0.1], autoAssign: false}}\nnodes:\n- {{name: n, zone: z, addresses: [{{type: InternalIP, address: 10.0.0.1}}]}}\n"
        );
        let settings = Settings::read(&text).unwrap();
        assert_eq!(settings.pools[0].interfaces.as_deref(), Some("(?:^eth)|(?:bond0)"));
        assert_eq!((settings.pools.len(), settings.pools[1].auto_assign), (2, false));
        assert_eq!((settings.nodes["n"].zone.as_str(), settings.region.as_str()), ("z", "eu"));
    }

    #[test]
    fn mistakes_are_told_by_path() {
        let error = |rest: &str| format!("{:#}", Settings::read(&format!("{HEAD}{rest}")).unwrap_err());
        for (rest, want) in [
            (
                "pools: [{name: a, addresses: [10.0.0.0/33]}]",
                "pools[0].addresses[0]: \"10.0.0.0/33\" is neither",
            ),
            (
                "pools: [{name: a, addresses: [10.0.0.9-10.0.0.1]}]",
                "pools[0].addresses[0]: \"10.0.0.9-10.0.0.1\" ends before it begins",
            ),
            (
                "pools: [{name: a, addresses: ['10.0.0.1-fd00::1']}]",
                "pools[0].addresses[0]: \"10.0.0.1-fd00::1\" begins",
            ),
            ("pools: [{name: a, addresses: []}]", "pools[0].addresses: a pool needs addresses"),
            ("pools: [{name: a, addresses: [10.0.0.1], interfaces: ['(']}]", "pools[0].interfaces[0]: "),
            (
                "pools: [{name: a, addresses: [10.0.0.1]}, {name: a, addresses: [10.0.0.2]}]",
                "pools[1].name: there are two pools \"a\"",
            ),
            (
                "pools: [{name: a, addresses: [10.0.0.0/24]}, {name: b, addresses: [10.0.0.7]}]",
                "pools[1].addresses: 10.0.0.7 is also in 10.0.0.0/24 of pool \"a\"",
            ),
            ("pools: [{name: a, adresses: []}]", "pools[0]: unknown field `adresses`"),
            ("pools: [{name: a, addresses: [10.0.0.1], autoAssign: 7}]", "pools[0].autoAssign: invalid type"),
            ("nodes: [{name: n, addresses: [{type: IP, address: x}]}]", "nodes[0].addresses[0].type: \"IP\""),
            (
                "nodes: [{name: n, addresses: [{type: InternalIP, address: x}]}]",
                "nodes[0].addresses[0].address: \"x\" is no IP",
            ),
        ] {
            let got = error(rest);
            assert!(got.starts_with(want), "{rest}\n  {got}");
        }
        let other = format!("{:#}", Settings::read("apiVersion: v1\nkind: X\n").unwrap_err());
        assert_eq!(other, "apiVersion: \"v1\", expected \"cloud.coxswain.io/v1alpha1\"");
    }
}
