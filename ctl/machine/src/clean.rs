//! Takes away what running pods and our agents left on a machine: everything that is not a file, and files that they made by
//! themselves. Files and directories that coxctl made are [`crate::Made::undo`]'s.

mod cgroups;
mod links;
mod mounts;
mod nft;
mod traces;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::made::{self, Report};
use crate::{cri, files, process};
pub(crate) use traces::expect;

/// Time for a program to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Where the kubelet keeps pods.
const KUBELET: &str = "/var/lib/kubelet";
/// Where volumes of the storage class `local-path` are.
const VOLUMES: &str = "/var/lib/coxswain/local-path";
/// Our pod network's name, by which CNI plug-ins keep their state.
const NETWORK: &str = "coxswain";

/// What to clean.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The container runtime; pods are left when there is none.
    pub cri_socket: String,
    /// Further unmount flags, as `MNT_FORCE`.
    pub unmount_flags: Vec<String>,
}

/// Unmounts the kubelet's mounts, removes pods, links, rules, routes, cgroups and logs. To be called when the daemons are
/// down. Nothing here is an error: what could not be done is in the report.
pub async fn all(wanted: &Wanted) -> Report {
    let mut report = pods(&wanted.cri_socket).await;
    report.extend(unmount(&wanted.unmount_flags));
    report.extend(network().await);
    report.extend(cgroups::remove(Path::new("/sys/fs/cgroup")));
    report.extend(files_of_agents(Path::new("/")));
    report.extend(volumes(Path::new(VOLUMES)));
    report
}

/// Removes the directory of volumes if there are none; the data of users is theirs to remove.
pub fn volumes(dir: &Path) -> Report {
    let mut report = Report::default();
    match fs::remove_dir(dir) {
        Ok(()) => report.removed.push(dir.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(_) => {
            report.left.push((dir.display().to_string(), "the data of volumes, yours to remove".into()))
        }
    }
    report
}

/// Stops and removes every pod.
pub async fn pods(socket: &str) -> Report {
    let mut report = Report::default();
    if socket.is_empty() || !cri::path(socket).exists() {
        return report;
    }
    match cri::remove_all_pods(socket).await {
        Ok((0, troubles)) if troubles.is_empty() => {}
        Ok((gone, troubles)) => {
            report.removed.push(format!("{gone} pods"));
            report.left.extend(troubles.into_iter().map(|t| ("a pod".to_string(), t)));
        }
        Err(error) => report.left.push(("pods".into(), format!("{error:#}"))),
    }
    report
}

/// Unmounts everything below the kubelet's directory.
pub fn unmount(flags: &[String]) -> Report {
    mounts::unmount_below(Path::new(KUBELET), flags)
}

/// Removes the links, routes and rules of our agents.
pub async fn network() -> Report {
    let mut report = Report::default();
    match links::remove().await {
        Ok(gone) => report.removed.extend(gone),
        Err(error) => report.left.push(("network links".into(), format!("{error:#}"))),
    }
    report.extend(nft::remove_tables());
    report.extend(port_maps());
    report
}

/// Chains that the portmap plug-in made for host ports, through iptables; nothing when there is no iptables.
fn port_maps() -> Report {
    let mut report = Report::default();
    for program in ["iptables", "ip6tables"] {
        let run = |args: &[&str]| {
            process::output(Command::new(program).args(["-w", "5", "-t", "nat"]).args(args), ANSWER)
        };
        let commands = chains_away(&run(&["-S"]).unwrap_or_default());
        let failed = commands
            .iter()
            .filter(|c| run(&c.iter().map(String::as_str).collect::<Vec<_>>()).is_err())
            .count();
        match (commands.len(), failed) {
            (0, _) => {}
            (_, 0) => report.removed.push(format!("host port rules ({program})")),
            _ => report
                .left
                .push((format!("host port rules ({program})"), format!("{failed} could not be removed"))),
        }
    }
    report
}

/// What removes CNI's chains: rules that jump there, then the chains emptied, then removed.
fn chains_away(rules: &str) -> Vec<Vec<String>> {
    let words = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    let ours = |name: &str| ["CNI-HOSTPORT-", "CNI-DN-", "CNI-SN-"].iter().any(|p| name.starts_with(p));
    let lines: Vec<Vec<String>> = rules.lines().map(words).collect();
    let jumps = lines.iter().filter_map(|line| {
        let [add, chain, rest @ ..] = line.as_slice() else { return None };
        let target = rest.iter().skip_while(|w| *w != "-j").nth(1)?;
        let whole = add == "-A" && ours(target) && !ours(chain) && !rest.iter().any(|w| w.contains('"'));
        whole.then(|| [vec!["-D".to_string(), chain.clone()], rest.to_vec()].concat())
    });
    let chains: Vec<String> = lines
        .iter()
        .filter_map(|line| {
            line.get(1).filter(|n| line.first().is_some_and(|w| w == "-N") && ours(n)).cloned()
        })
        .collect();
    let each = |flag: &'static str| chains.iter().map(move |c| vec![flag.to_string(), c.clone()]);
    jumps.chain(each("-F")).chain(each("-X")).collect()
}

/// Files the agents made: CNI's configuration and state, and pods' logs.
fn files_of_agents(root: &Path) -> Report {
    let mut report = Report::default();
    let mut say = |what: &Path, result: Result<bool>| match result {
        Ok(true) => report.removed.push(what.display().to_string()),
        Ok(false) => {}
        Err(error) => report.left.push((what.display().to_string(), format!("{error:#}"))),
    };
    let conflist = root.join("etc/cni/net.d/10-coxswain.conflist");
    if fs::read_to_string(&conflist).is_ok_and(|t| t.contains("\"name\": \"coxswain\"")) {
        say(&conflist, files::remove(&conflist));
    }
    let networks = root.join("var/lib/cni/networks");
    say(&networks.join(NETWORK), remove_tree(&networks.join(NETWORK)));
    let results = root.join("var/lib/cni/results");
    let prefix = format!("{NETWORK}-");
    for name in files::names(&results).unwrap_or_default().iter().filter(|n| n.starts_with(&prefix)) {
        say(&results.join(name), files::remove(&results.join(name)));
    }
    for empty in [networks, results] {
        let _ = fs::remove_dir(empty);
    }
    for dir in ["var/log/containers", "var/log/pods"] {
        let dir = root.join(dir);
        let names = files::names(&dir).unwrap_or_default();
        let troubles: Vec<String> =
            names.iter().filter_map(|n| remove_tree(&dir.join(n)).err()).map(|e| format!("{e:#}")).collect();
        let what = dir.display().to_string();
        match troubles.first() {
            Some(first) => report.left.push((what, first.clone())),
            None if !names.is_empty() => report.removed.push(format!("contents of {what}")),
            None => {}
        }
    }
    report
}

fn remove_tree(path: &Path) -> Result<bool> {
    let there = files::there(path);
    made::remove_tree(path)?;
    Ok(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_with_data_stay() -> Result<()> {
        let root = tempfile::tempdir()?;
        let dir = root.path().join("volumes");
        assert!(volumes(&dir).left.is_empty());
        fs::create_dir_all(dir.join("data-1"))?;
        assert_eq!(volumes(&dir).left.len(), 1);
        fs::remove_dir(dir.join("data-1"))?;
        assert_eq!(volumes(&dir).removed.len(), 1);
        assert!(!dir.exists());
        Ok(())
    }

    #[test]
    fn chains_of_host_ports() {
        let rules = "-P PREROUTING ACCEPT\n-N CNI-DN-3f2\n-N CNI-HOSTPORT-DNAT\n-N MINE\n\
            -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n-A PREROUTING -j MINE\n\
            -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name\" -m multiport --dports 80 -j CNI-DN-3f2\n\
            -A CNI-DN-3f2 -p tcp -j DNAT --to-destination 10.244.0.5:80\n";
        let lines: Vec<String> = chains_away(rules).iter().map(|c| c.join(" ")).collect();
        assert_eq!(
            lines,
            [
                "-D PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
                "-F CNI-DN-3f2",
                "-F CNI-HOSTPORT-DNAT",
                "-X CNI-DN-3f2",
                "-X CNI-HOSTPORT-DNAT"
            ]
        );
        assert!(chains_away("").is_empty());
    }

    #[test]
    fn files_of_agents_go_and_those_of_others_stay() -> Result<()> {
        let root = tempfile::tempdir()?;
        let put = |path: &str, text: &str| -> Result<()> {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            Ok(fs::write(path, text)?)
        };
        put("etc/cni/net.d/10-coxswain.conflist", "{\n  \"name\": \"coxswain\"}")?;
        put("etc/cni/net.d/87-podman.conflist", "{}")?;
        put("var/lib/cni/networks/coxswain/10.244.0.2", "id")?;
        put("var/lib/cni/networks/podman/10.88.0.2", "id")?;
        put("var/lib/cni/results/coxswain-1-eth0", "{}")?;
        put("var/log/pods/a_b_c/d/0.log", "")?;
        put("var/log/containers/x.log", "")?;
        let report = files_of_agents(root.path());
        assert_eq!(report.left, []);
        assert_eq!(report.removed.len(), 5, "{report:?}");
        let mut left = Vec::new();
        for dir in
            ["etc/cni/net.d", "var/lib/cni", "var/lib/cni/networks", "var/log/pods", "var/log/containers"]
        {
            left.push(files::names(&root.path().join(dir))?.join(" "));
        }
        assert_eq!(left, ["87-podman.conflist", "networks", "podman", "", ""]);
        assert_eq!(files_of_agents(root.path()), Report::default());
        Ok(())
    }
}
