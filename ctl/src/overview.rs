//! What `coxctl` alone and `coxctl help` print: all commands in groups, kubectl's own and those about machines.

use clap::Command;

/// Groups in order, with the commands that belong to them; what is in none of them is among the others.
const GROUPS: [(&str, &[&str]); 8] = [
    (
        "Machines and Clusters",
        &[
            "init",
            "join",
            "reset",
            "upgrade",
            "token",
            "certs",
            "kubeconfig",
            "etcd",
            "bundle",
            "image",
            "lab",
        ],
    ),
    ("Basic Commands (Beginner)", &["create", "expose", "run", "set"]),
    ("Basic Commands (Intermediate)", &["explain", "get", "tree", "edit", "delete"]),
    ("Deploy Commands", &["rollout", "scale", "autoscale"]),
    (
        "Cluster Management Commands",
        &["certificate", "cluster-info", "top", "cordon", "uncordon", "drain", "taint"],
    ),
    (
        "Troubleshooting and Debugging Commands",
        &[
            "describe",
            "why",
            "logs",
            "attach",
            "exec",
            "port-forward",
            "proxy",
            "cp",
            "auth",
            "debug",
            "events",
        ],
    ),
    ("Advanced Commands", &["diff", "apply", "patch", "replace", "wait"]),
    ("Settings Commands", &["label", "annotate", "completion"]),
];
const OTHERS: &str = "Other Commands";
/// Listed nowhere: they explain themselves.
const UNLISTED: [&str; 2] = ["help", "options"];

/// Is the overview what these words ask for? They begin with the program's name.
pub fn is_asked(words: &[String]) -> bool {
    let rest: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    matches!(rest.as_slice(), [] | ["help" | "--help" | "-h"])
}

/// The overview of a grammar.
pub fn text(root: &Command) -> String {
    let mut text = String::from("coxctl controls a Kubernetes cluster, and makes one.\n\n");
    for (title, names) in GROUPS {
        let listed = names.iter().filter_map(|name| root.find_subcommand(name));
        text.push_str(&group(title, listed));
    }
    let grouped = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let others = root
        .get_subcommands()
        .filter(|c| !c.is_hide_set() && !grouped(c.get_name()) && !UNLISTED.contains(&c.get_name()));
    text.push_str(&group(OTHERS, others));
    text.push_str(
        "Usage:\n  coxctl [flags] [options]\n\n\
         Use \"coxctl <command> --help\" for more information about a given command.\n\
         Use \"coxctl options\" for a list of global command-line options (applies to all commands).\n",
    );
    text
}

fn group<'a>(title: &str, commands: impl Iterator<Item = &'a Command>) -> String {
    let line = |c: &Command| {
        let about = c.get_about().map(ToString::to_string).unwrap_or_default();
        format!("  {:<15} {about}\n", c.get_name())
    };
    format!("{title}:\n{}\n", commands.map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_listed_once_and_every_listed_one_exists() {
        let root = crate::everyday::root();
        for (title, names) in GROUPS {
            for name in names {
                assert!(root.find_subcommand(name).is_some(), "{title}: {name}");
            }
        }
        let text = text(&root);
        for command in root.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "options") {
            let head = format!("\n  {:<15} ", command.get_name());
            assert_eq!(text.matches(&head).count(), 1, "{head}");
        }
    }

    #[test]
    fn only_bare_words_ask_for_it() {
        let asked = |line: &str| is_asked(&line.split(' ').map(str::to_string).collect::<Vec<_>>());
        assert!(asked("coxctl") && asked("coxctl help") && asked("coxctl -h"));
        assert!(!asked("coxctl help get") && !asked("coxctl get"));
    }
}
