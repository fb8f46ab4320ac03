//! What the arguments of each verb are.

use crate::{Candidate, Grammar};

/// What may stand where an argument is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `TYPE NAME...` or `TYPE/NAME...`.
    Objects {
        /// The types that are offered; none are all.
        offered: &'static [&'static str],
        /// Whether several objects may be named.
        many: bool,
    },
    /// One name of an object of this kind.
    Name(&'static str),
    /// Several of them.
    Names(&'static str),
    /// `POD` or `TYPE/NAME`, and what follows it.
    Pod(Then),
    /// What `cp` copies.
    Copy,
    /// A kind and its fields, with dots between.
    Fields,
    /// A verb of the API, then a kind.
    Permission,
    /// One name of the kubeconfig.
    Context,
    Cluster,
    User,
    /// A node of the lab.
    LabNode,
    /// One of these.
    Choice(Vec<Candidate>),
    /// Nothing may stand here.
    Nothing,
}

/// What follows a pod's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Nothing,
    Container,
    Ports,
}

const ANY: &[&str] = &[];
const EXPLAINED: &[&str] = &[
    "pod",
    "deployment",
    "statefulset",
    "daemonset",
    "replicaset",
    "job",
    "cronjob",
    "horizontalpodautoscaler",
    "persistentvolumeclaim",
    "service",
    "node",
    "namespace",
];
const SCALED: &[&str] = &["deployment", "replicaset", "replicationcontroller", "statefulset"];
const EXPOSED: &[&str] = &["pod", "service", "replicationcontroller", "deployment", "replicaset"];
const ROLLED: &[&str] = &["deployment", "daemonset", "statefulset"];
const TEMPLATED: &[&str] = &[
    "daemonsets",
    "deployments",
    "pods",
    "cronjobs",
    "replicasets",
    "replicationcontrollers",
    "statefulsets",
];

/// What a verb's arguments are, the first of them being number 0; none where they can be anything, files too.
pub fn of(grammar: &Grammar, path: &[&str], index: usize) -> Option<Subject> {
    let objects = |offered, many| Some(Subject::Objects { offered, many });
    let first = |subject| if index == 0 { Some(subject) } else { Some(Subject::Nothing) };
    match path {
        ["get" | "describe" | "delete" | "edit" | "label" | "annotate" | "patch" | "wait"]
        | ["apply", "view-last-applied" | "edit-last-applied"] => objects(ANY, true),
        ["tree"] => objects(ANY, false),
        ["why"] => objects(EXPLAINED, true),
        ["scale" | "autoscale"] => objects(SCALED, true),
        ["expose"] => objects(EXPOSED, true),
        ["taint"] => objects(&["node"], true),
        ["rollout", "status"] => objects(ROLLED, false),
        ["rollout", "pause" | "resume"] => objects(&["deployment"], true),
        ["rollout", "history" | "restart" | "undo"] => objects(ROLLED, true),
        ["set", "image"] => objects(TEMPLATED, false),
        ["set", "env" | "resources" | "serviceaccount"] => objects(TEMPLATED, false),
        ["set", "selector"] => objects(&["services"], false),
        ["set", "subject"] => objects(&["clusterrolebindings", "rolebindings"], false),
        ["certificate", "approve" | "deny"] => Some(Subject::Names("certificatesigningrequests")),
        ["cordon" | "uncordon" | "drain"] | ["top", "node"] => Some(Subject::Name("nodes")),
        ["top", "pod"] => Some(Subject::Name("pods")),
        ["create", "token"] => Some(Subject::Name("serviceaccounts")),
        ["exec" | "attach" | "debug"] => Some(Subject::Pod(Then::Nothing)),
        ["logs"] => Some(Subject::Pod(Then::Container)),
        ["port-forward"] => Some(Subject::Pod(Then::Ports)),
        ["cp"] => Some(Subject::Copy),
        ["explain"] => first(Subject::Fields),
        ["auth", "can-i"] => Some(Subject::Permission),
        ["config", "use-context" | "delete-context" | "rename-context" | "set-context" | "get-contexts"] => {
            first(Subject::Context)
        }
        ["config", "delete-cluster"] => first(Subject::Cluster),
        ["config", "delete-user"] => first(Subject::User),
        ["lab", "stop" | "start" | "exec"] => first(Subject::LabNode),
        _ => Some(grammar.choices(path, index)).filter(|all| !all.is_empty()).map(Subject::Choice),
    }
}
