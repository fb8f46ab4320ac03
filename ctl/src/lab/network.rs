//! The lab's network: a bridge in a namespace of its own, and a link from it into every node. The host's own interfaces,
//! routes and rules are left alone.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::spec::{Lab, NodeSpec};

/// The bridge's address: the nodes' default gateway, and a place for "a client outside".
pub const GATEWAY: &str = "172.30.0.254";

/// Makes the bridge and its namespace unless they are there.
///
/// # Errors
/// When `ip` refuses.
pub fn bridge_up(lab: &Lab) -> Result<()> {
    let net = lab.bridge_netns();
    if !exists(&net) {
        ip(&["netns", "add", &net])?;
    }
    if ip(&["-n", &net, "link", "show", "br0"]).is_err() {
        batch(&net, &["link set lo up", "link add br0 type bridge"])?;
        batch(&net, &[&format!("addr add {GATEWAY}/24 dev br0"), "link set br0 up"])?;
    }
    Ok(())
}

/// Gives the node a fresh network namespace with its link on the bridge.
///
/// The hardware address is fixed, because peers that remember a former one would lose a rebooted node for seconds. The
/// default route is needed for the node's own processes to reach service addresses: routing comes before translation.
///
/// # Errors
/// When `ip` refuses.
pub fn node_up(lab: &Lab, node: &NodeSpec) -> Result<()> {
    let (ns, net, link) = (lab.netns(node), lab.bridge_netns(), node.link());
    remove_netns(&ns);
    let _ = ip(&["-n", &net, "link", "del", &link]);
    ip(&["netns", "add", &ns])?;
    let mac = format!("02:63:6f:78:00:{:02x}", node.index);
    ip(&[
        "-n", &net, "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &ns, "address",
        &mac,
    ])?;
    batch(&net, &[&format!("link set {link} master br0 up")])?;
    let address = format!("addr add {}/24 dev eth0", node.ip());
    let route = format!("route add default via {GATEWAY}");
    batch(&ns, &["link set lo up", &address, "link set eth0 up", &route])
}

/// Removes a namespace. `ip netns del` returns before the kernel has let go of the links inside, so those go first;
/// then their names can be used again at once.
pub fn remove_netns(ns: &str) {
    if !exists(ns) {
        return;
    }
    for link in links(ns) {
        let _ = ip(&["-n", ns, "link", "del", &link]);
    }
    let _ = ip(&["netns", "del", ns]);
}

fn links(ns: &str) -> Vec<String> {
    let text = ip(&["-n", ns, "-br", "link"]).unwrap_or_default();
    let name = |line: &str| line.split([' ', '@']).next().map(str::to_string);
    text.lines().filter_map(name).filter(|n| n != "lo" && !n.is_empty()).collect()
}

/// Whether a named network namespace is there.
pub fn exists(ns: &str) -> bool {
    Path::new("/run/netns").join(ns).exists()
}

/// Namespaces of this lab by name, from whatever run made them.
pub fn namespaces(lab: &Lab) -> Vec<String> {
    let prefix = format!("cox-{}-", lab.name);
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|n| n.strip_prefix(&prefix).is_some_and(ours)).collect()
}

/// `net` or `nNUMBER`: so a lab named `a` never takes the namespaces of one named `a-b`.
fn ours(rest: &str) -> bool {
    rest == "net"
        || rest.strip_prefix('n').is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
}

fn ip(args: &[&str]) -> Result<String> {
    let out = Command::new("ip")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("running ip (Debian's iproute2)")?;
    if !out.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn batch(ns: &str, lines: &[&str]) -> Result<()> {
    use std::io::Write;
    let mut child = Command::new("ip")
        .args(["-n", ns, "-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running ip (Debian's iproute2)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.join("\n").as_bytes())?;
    }
    let out = child.wait_with_output()?;
    if !out.status.success() {
        bail!("ip -n {ns}: {}: {}", lines.join("; "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_our_own_namespaces() {
        for (rest, want) in
            [("net", true), ("n1", true), ("n12", true), ("n", false), ("b-net", false), ("nx", false)]
        {
            assert_eq!(super::ours(rest), want, "{rest}");
        }
    }
}
