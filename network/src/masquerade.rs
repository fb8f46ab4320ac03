//! Pods speak to the world outside the cluster with the node's address.

use std::fmt::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Name of the table, in families ip and ip6.
pub const TABLE: &str = "coxswain-network";
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);

/// The rules: what leaves `own` networks for anything but `cluster` networks is masqueraded. Multicast is left alone.
/// The first two lines of a table make loading it atomic whether it exists or not.
pub fn rules(own: &[IpNet], cluster: &[IpNet]) -> String {
    let mut text = String::new();
    for (family, v4, multicast) in [("ip", true, "224.0.0.0/4"), ("ip6", false, "ff00::/8")] {
        let of_family = |nets: &[IpNet]| nets.iter().filter(|n| n.addr().is_ipv4() == v4).copied().collect();
        let own = IpNet::aggregate(&of_family(own));
        if own.is_empty() {
            continue;
        }
        let inside: Vec<IpNet> = of_family(&[own.as_slice(), cluster].concat());
        let mut inside: Vec<String> = IpNet::aggregate(&inside).iter().map(IpNet::to_string).collect();
        inside.push(multicast.to_owned());
        let own: Vec<String> = own.iter().map(IpNet::to_string).collect();
        let (own, inside) = (own.join(", "), inside.join(", "));
        let _ = write!(
            text,
            "table {family} {TABLE}\ndelete table {family} {TABLE}\ntable {family} {TABLE} {{\n\
             \tchain postrouting {{\n\t\ttype nat hook postrouting priority srcnat - 1; policy accept;\n\
             \t\t{family} saddr {{ {own} }} {family} daddr != {{ {inside} }} masquerade fully-random\n\t}}\n}}\n"
        );
    }
    text
}

/// Loads rules, all or nothing.
pub async fn load(rules: &str) -> Result<()> {
    let mut command = Command::new("nft");
    command
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().context("start nft")?;
    let mut stdin = child.stdin.take().context("nft's input")?;
    let work = async {
        stdin.write_all(rules.as_bytes()).await?;
        drop(stdin);
        child.wait_with_output().await
    };
    let done = tokio::time::timeout(DEADLINE, work).await.context("nft does not end")??;
    if !done.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_as_text() {
        let nets = |list: &[&str]| list.iter().map(|n| n.parse().unwrap()).collect::<Vec<IpNet>>();
        let text =
            rules(&nets(&["10.244.1.0/24", "fd00:1::/64"]), &nets(&["10.244.0.0/16", "10.245.0.0/16"]));
        expect_test::expect![[r#"
            table ip coxswain-network
            delete table ip coxswain-network
            table ip coxswain-network {
            	chain postrouting {
            		type nat hook postrouting priority srcnat - 1; policy accept;
            		ip saddr { 10.244.1.0/24 } ip daddr != { 10.244.0.0/15, 224.0.0.0/4 } masquerade fully-random
            	}
            }
            table ip6 coxswain-network
            delete table ip6 coxswain-network
            table ip6 coxswain-network {
            	chain postrouting {
            		type nat hook postrouting priority srcnat - 1; policy accept;
            		ip6 saddr { fd00:1::/64 } ip6 daddr != { fd00:1::/64, ff00::/8 } masquerade fully-random
            	}
            }
        "#]]
        .assert_eq(&text);
        assert_eq!(rules(&[], &nets(&["10.0.0.0/8"])), "");
    }
}
