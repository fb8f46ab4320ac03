//! Flags: which may stand here, and what their values may be.

use clap::Arg;

use crate::grammar::{help, possible, repeats};
use crate::line::Line;
use crate::{Answer, Candidate, Grammar};

/// Files objects are read from.
const MANIFESTS: &[&str] = &["json", "yaml", "yml"];
const TEMPLATES: [&str; 10] = [
    "json",
    "yaml",
    "name",
    "go-template",
    "go-template-file",
    "template",
    "templatefile",
    "jsonpath",
    "jsonpath-as-json",
    "jsonpath-file",
];
const TABLES: [&str; 3] = ["custom-columns", "custom-columns-file", "wide"];
/// Flags without which a command does nothing. They are offered first, as kubectl does.
const REQUIRED: &[(&str, &[&str])] = &[
    ("autoscale", &["max"]),
    ("create clusterrolebinding", &["clusterrole"]),
    ("create cronjob", &["image", "schedule"]),
    ("create deployment", &["image"]),
    ("create service externalname", &["external-name"]),
    ("run", &["image"]),
    ("scale", &["replicas"]),
];

/// Where a flag's values come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// These.
    Words(Vec<Candidate>),
    /// Files with these endings.
    Extensions(&'static [&'static str]),
    /// Directories.
    Directories,
    /// Names of objects of a kind.
    Names(&'static str),
    /// The same as `KIND/NAME`.
    Typed(&'static str),
    /// Names of the kubeconfig.
    Contexts,
    Clusters,
    Users,
    /// The containers of the pod or workload that is named.
    Containers,
    /// Labs of this machine.
    Labs,
}

/// The names of the flags that may stand here.
pub fn names(grammar: &Grammar, line: &Line) -> Answer {
    let required = required(grammar, line);
    if !required.is_empty() {
        return Answer::words(required);
    }
    let path: Vec<&str> = line.path.iter().map(String::as_str).collect();
    let flags = grammar.flags(&path).into_iter();
    let open = flags.filter(|arg| !arg.is_hide_set() && (line.value(long(arg)).is_none() || repeats(arg)));
    Answer::words(open.flat_map(spellings).collect())
}

/// The required flags that are still missing.
pub fn required(grammar: &Grammar, line: &Line) -> Vec<Candidate> {
    let path: Vec<&str> = line.path.iter().map(String::as_str).collect();
    let spelt = path.join(" ");
    let missing = |arg: &&Arg| {
        let listed = REQUIRED.iter().any(|(verb, flags)| *verb == spelt && flags.contains(&long(arg)));
        (listed || arg.is_required_set()) && line.value(long(arg)).is_none()
    };
    grammar.flags(&path).into_iter().filter(missing).flat_map(spellings).collect()
}

fn long(arg: &Arg) -> &str {
    arg.get_long().unwrap_or_default()
}

fn spellings(arg: &Arg) -> Vec<Candidate> {
    let about = help(arg.get_help());
    let long = arg.get_long().map(|long| Candidate::new(format!("--{long}"), &about));
    let short = arg.get_short().map(|short| Candidate::new(format!("-{short}"), &about));
    long.into_iter().chain(short).collect()
}

/// Where the values of a flag come from; none where anything may stand.
pub fn value(grammar: &Grammar, path: &[&str], flag: &str) -> Option<Source> {
    let arg = grammar.flag(path, flag)?;
    if !arg.get_action().takes_values() {
        return Some(words(&["true", "false"]));
    }
    if let [verb, ..] = path
        && matches!(*verb, "lab")
        && flag == "name"
    {
        return Some(Source::Labs);
    }
    let limited = possible(arg);
    if !limited.is_empty() {
        return Some(Source::Words(limited));
    }
    let own = !arg.is_global_set();
    match flag {
        "output" => Some(words(formats(path)?)),
        "user" if own && matches!(path, ["create" | "set", ..]) => None,
        "filename" => Some(Source::Extensions(MANIFESTS)),
        "kustomize" | "cache-dir" | "output-directory" | "bin-dir" | "cert-dir" => Some(Source::Directories),
        _ => named(path, flag).or_else(|| fixed(path, flag).map(words)),
    }
}

fn named(path: &[&str], flag: &str) -> Option<Source> {
    Some(match (path, flag) {
        (_, "namespace" | "namespaces") => Source::Names("namespaces"),
        (["init" | "join" | "certs" | "token" | "upgrade" | "reset" | "kubeconfig", ..], _) => return None,
        (_, "context") => Source::Contexts,
        (_, "cluster") => Source::Clusters,
        (_, "user") => Source::Users,
        (["logs" | "exec" | "attach" | "debug" | "cp", ..], "container" | "target") => Source::Containers,
        (["set", ..], "containers") => Source::Containers,
        (["create", "clusterrolebinding" | "rolebinding"], "clusterrole") => Source::Names("clusterroles"),
        (["create", "rolebinding"], "role") => Source::Names("roles"),
        (["create", "job"], "from") => Source::Typed("cronjob"),
        (["create", "ingress"], "class") => Source::Names("ingressclasses"),
        (["events"], "for") => Source::Typed("pod"),
        _ => return None,
    })
}

fn fixed(path: &[&str], flag: &str) -> Option<&'static [&'static str]> {
    Some(match (path, flag) {
        (_, "subresource") => &["status", "scale", "resize"],
        (_, "dry-run") => &["none", "server", "client"],
        (_, "validate") => &["strict", "warn", "ignore"],
        (_, "cascade") => &["background", "orphan", "foreground"],
        (["events"], "types") => &["Normal", "Warning"],
        (["top", ..], "sort-by") => &["cpu", "memory"],
        (["api-resources"], "sort-by") => &["name", "kind"],
        (["run"], "restart") => &["Always", "OnFailure", "Never"],
        (_, "image-pull-policy") => &["Always", "IfNotPresent", "Never"],
        (["patch"], "type") => &["json", "merge", "strategic"],
        (["expose"], "type") => &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"],
        (["expose"], "protocol") => &["TCP", "UDP", "SCTP"],
        (["expose"], "session-affinity") => &["None", "ClientIP"],
        (["debug"], "profile") => &["legacy", "general", "baseline", "netadmin", "restricted", "sysadmin"],
        (["wait"], "for") => &["condition=", "create", "delete", "jsonpath="],
        (["create", "priorityclass"], "preemption-policy") => &["PreemptLowerPriority", "Never"],
        _ => return None,
    })
}

/// The output formats a verb takes.
fn formats(path: &[&str]) -> Option<&'static [&'static str]> {
    const ALL: [&str; 13] = {
        let mut all = [""; 13];
        let mut at = 0;
        while at < all.len() {
            all[at] = if at < TEMPLATES.len() { TEMPLATES[at] } else { TABLES[at - TEMPLATES.len()] };
            at += 1;
        }
        all
    };
    Some(match path {
        ["get"] => &ALL,
        ["api-resources"] => &["wide", "name"],
        ["version"] | ["apply", "view-last-applied"] | ["edit"] => &["json", "yaml"],
        ["explain"] => &["plaintext", "plaintext-openapiv2"],
        ["config", "get-contexts"] | ["delete"] => &["name"],
        ["why"] => &["json"],
        ["events"] => &["json", "yaml", "wide"],
        // Flags of the commands about machines are limited in the grammar itself.
        ["init" | "join" | "certs" | "token" | "upgrade" | "reset" | "lab" | "image" | "bundle", ..] => {
            return None;
        }
        _ => &TEMPLATES,
    })
}

fn words(values: &[&str]) -> Source {
    Source::Words(values.iter().map(|value| Candidate::new(*value, "")).collect())
}
