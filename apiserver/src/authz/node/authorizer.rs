//! What a kubelet may do. Reasons are upstream's.

use std::sync::Arc;

use async_trait::async_trait;

use super::graph::{Graph, Vertex};
use super::node_of;
use crate::authz::modes::want_of;
use crate::authz::rbac::Rule;
use crate::authz::{Attributes, Authorizer, Decision, RuleSet};
use crate::bootstrap::policy;
use crate::request::{RequestInfo, UserInfo};

/// A verdict with a fixed reason; `Ok` allows.
type Verdict = Result<(), String>;

/// Decides for users of the group system:nodes.
pub struct NodeAuthorizer {
    graph: Arc<Graph>,
    rules: Vec<Rule>,
}

impl NodeAuthorizer {
    /// Decides by the graph, and by the rules of the role system:node for the rest.
    pub fn new(graph: Arc<Graph>) -> Self {
        Self { graph, rules: policy::rules_of_cluster_role("system:node") }
    }

    fn decide(&self, node: &str, attributes: &Attributes<'_>) -> Verdict {
        let info = attributes.info;
        if !info.is_resource {
            return Err(String::new());
        }
        match (info.group.as_str(), info.resource.as_str()) {
            ("", "secrets") => self.read_namespaced(node, Vertex::Secret, info),
            ("", "configmaps") => self.read_namespaced(node, Vertex::ConfigMap, info),
            ("", "persistentvolumeclaims") if info.subresource == "status" => self.claim_status(node, info),
            // Upstream's kubelets only get claims; ours waits for one to be bound by watching it.
            ("", "persistentvolumeclaims") if matches!(info.verb.as_str(), "list" | "watch") => {
                require(!info.name.is_empty(), "can only get individual resources of this type")?;
                self.read_namespaced(node, Vertex::Claim, info)
            }
            ("", "persistentvolumeclaims") => self.get_one(node, Vertex::Claim, info),
            ("", "persistentvolumes") => self.get_one(node, Vertex::Volume, info),
            ("resource.k8s.io", "resourceclaims") => self.get_one(node, Vertex::ResourceClaim, info),
            ("resource.k8s.io", "resourceslices") => self.slice(node, info),
            ("storage.k8s.io", "volumeattachments") => self.get_one(node, Vertex::Attachment, info),
            ("storage.k8s.io", "csinodes") => csi_node(node, info),
            ("coordination.k8s.io", "leases") => lease(node, info),
            ("", "serviceaccounts") => self.account(node, info),
            ("", "nodes") => own_node(node, info),
            ("", "pods") => self.pod(node, info),
            _ => self.by_rules(attributes),
        }
    }

    fn by_rules(&self, attributes: &Attributes<'_>) -> Verdict {
        let want = want_of(attributes);
        if self.rules.iter().any(|r| r.allows(&want)) { Ok(()) } else { Err(String::new()) }
    }

    fn reaches(&self, node: &str, vertex: Vertex, info: &RequestInfo) -> Verdict {
        if info.name.is_empty() {
            return Err("No Object name found".into());
        }
        let found = self.graph.reaches(node, vertex, &info.namespace, &info.name);
        found
            .then_some(())
            .ok_or_else(|| format!("no relationship found between node '{node}' and this object"))
    }

    fn read_namespaced(&self, node: &str, vertex: Vertex, info: &RequestInfo) -> Verdict {
        let reads = matches!(info.verb.as_str(), "get" | "list" | "watch");
        require(reads, "can only read resources of this type")?;
        require(info.subresource.is_empty(), "cannot read subresource")?;
        require(!info.namespace.is_empty(), "can only read namespaced object of this type")?;
        self.reaches(node, vertex, info)
    }

    fn get_one(&self, node: &str, vertex: Vertex, info: &RequestInfo) -> Verdict {
        require(info.verb == "get", "can only get individual resources of this type")?;
        require(info.subresource.is_empty(), "cannot get subresource")?;
        self.reaches(node, vertex, info)
    }

    fn claim_status(&self, node: &str, info: &RequestInfo) -> Verdict {
        let verb = matches!(info.verb.as_str(), "get" | "update" | "patch");
        require(verb, "can only get/update/patch this type")?;
        self.reaches(node, Vertex::Claim, info)
    }

    fn account(&self, node: &str, info: &RequestInfo) -> Verdict {
        match (info.verb.as_str(), info.subresource.as_str()) {
            ("create", "token") => self.reaches(node, Vertex::ServiceAccount, info),
            ("get", "") => self.reaches(node, Vertex::ServiceAccount, info),
            (_, "") => Err("can only get individual service accounts".into()),
            _ => Err("can only create tokens for individual service accounts".into()),
        }
    }

    fn pod(&self, node: &str, info: &RequestInfo) -> Verdict {
        match (info.subresource.as_str(), info.verb.as_str()) {
            ("", "get") => self.reaches(node, Vertex::Pod, info),
            ("", "list" | "watch") if selects_node(&info.field_selector, node) => Ok(()),
            ("", "list" | "watch") if !info.name.is_empty() => self.reaches(node, Vertex::Pod, info),
            ("", "list" | "watch") => {
                Err("can only list/watch pods with spec.nodeName field selector".into())
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }

    fn slice(&self, node: &str, info: &RequestInfo) -> Verdict {
        require(info.subresource.is_empty(), "cannot authorize ResourceSlice subresources")?;
        match info.verb.as_str() {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.reaches(node, Vertex::ResourceSlice, info),
            "list" | "watch" | "deletecollection" => {
                let own = selects_node(&info.field_selector, node);
                require(own, "can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => Err("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection".into()),
        }
    }
}

fn require(good: bool, reason: &str) -> Verdict {
    if good { Ok(()) } else { Err(reason.to_owned()) }
}

/// True when the selector holds `spec.nodeName=NODE` among its requirements.
fn selects_node(selector: &str, node: &str) -> bool {
    let equal = |part: &str| {
        let (field, value) = part.split_once('=')?;
        (field == "spec.nodeName" && value.strip_prefix('=').unwrap_or(value) == node).then_some(())
    };
    !node.is_empty() && selector.split(',').any(|part| equal(part.trim()).is_some())
}

fn lease(node: &str, info: &RequestInfo) -> Verdict {
    let verb = matches!(info.verb.as_str(), "get" | "create" | "update" | "patch" | "delete");
    require(verb, "can only get, create, update, patch, or delete a node lease")?;
    require(
        info.namespace == "kube-node-lease",
        "can only access leases in the \"kube-node-lease\" system namespace",
    )?;
    // The name of a new lease stands in its body: admission checks it.
    let own = info.verb == "create" || info.name == node;
    require(own, "can only access node lease with the same name as the requesting node")
}

fn csi_node(node: &str, info: &RequestInfo) -> Verdict {
    let verb = matches!(info.verb.as_str(), "get" | "create" | "update" | "patch" | "delete");
    require(verb, "can only get, create, update, patch, or delete a CSINode")?;
    require(info.subresource.is_empty(), "cannot authorize CSINode subresources")?;
    let own = info.verb == "create" || info.name == node;
    require(own, "can only access CSINode with the same name as the requesting node")
}

/// Writes are narrowed to the node's own object by admission.
fn own_node(node: &str, info: &RequestInfo) -> Verdict {
    match (info.subresource.as_str(), info.verb.as_str()) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") => match info.name.as_str() {
            name if name == node => Ok(()),
            "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
            name => Err(format!("node '{node}' cannot read '{name}', only its own Node object")),
        },
        _ => Err(String::new()),
    }
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, attributes: &Attributes<'_>) -> (Decision, String) {
        let Some(node) = node_of(attributes.user) else { return (Decision::NoOpinion, String::new()) };
        if node.is_empty() {
            return (Decision::NoOpinion, format!("unknown node for user {:?}", attributes.user.name));
        }
        match self.decide(node, attributes) {
            Ok(()) => (Decision::Allow, String::new()),
            Err(reason) => (Decision::NoOpinion, reason),
        }
    }

    fn rules(&self, user: &UserInfo, _namespace: &str) -> RuleSet {
        let errors = match node_of(user) {
            Some(_) => vec!["node authorizer does not support user rule resolution".to_owned()],
            None => vec![],
        };
        RuleSet { incomplete: !errors.is_empty(), errors, ..RuleSet::default() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn authorizer() -> NodeAuthorizer {
        let graph = Graph::new();
        let pod = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": "n1",
            "serviceAccountName": "sa", "volumes": [{"secret": {"secretName": "s"}},
            {"persistentVolumeClaim": {"claimName": "data"}}]}});
        graph.put_pod(&serde_json::from_value(pod).expect("a pod"));
        graph.put_owned(Vertex::Attachment, &json!({"metadata": {"name": "va"}, "spec": {"nodeName": "n1"}}));
        NodeAuthorizer::new(Arc::new(graph))
    }

    /// `VERB GROUP RESOURCE[/SUB] NAMESPACE NAME SELECTOR`, `-` for none.
    fn request(text: &str) -> RequestInfo {
        let c: Vec<&str> = text.split_whitespace().map(|w| if w == "-" { "" } else { w }).collect();
        let (resource, subresource) = c[2].split_once('/').unwrap_or((c[2], ""));
        RequestInfo {
            is_resource: true,
            verb: c[0].into(),
            group: c[1].into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: c[3].into(),
            name: c[4].into(),
            field_selector: c.get(5).copied().unwrap_or_default().into(),
            ..RequestInfo::default()
        }
    }

    fn node(name: &str) -> UserInfo {
        let groups = vec!["system:nodes".into(), "system:authenticated".into()];
        UserInfo { name: format!("system:node:{name}"), groups, ..UserInfo::default() }
    }

    #[tokio::test]
    async fn what_a_node_may() {
        let authorizer = authorizer();
        let table = "
            n1 get - secrets a s yes
            n2 get - secrets a s no
            n1 watch - secrets a s yes
            n1 list - secrets a - no
            n1 get - secrets b s no
            n1 update - secrets a s no
            n1 get - configmaps a x no
            n1 get - persistentvolumeclaims a data yes
            n1 watch - persistentvolumeclaims a data yes
            n2 watch - persistentvolumeclaims a data no
            n1 watch - persistentvolumeclaims a - no
            n1 update - persistentvolumeclaims a data no
            n1 patch - persistentvolumeclaims/status a data yes
            n2 patch - persistentvolumeclaims/status a data no
            n1 get storage.k8s.io volumeattachments - va yes
            n2 get storage.k8s.io volumeattachments - va no
            n1 create - serviceaccounts/token a sa yes
            n2 create - serviceaccounts/token a sa no
            n1 delete - serviceaccounts a sa no
            n1 get - nodes - n1 yes
            n1 get - nodes - n2 no
            n1 list - nodes - - no
            n1 create - nodes - - yes
            n1 delete - nodes - n1 no
            n1 patch - nodes/status - n1 yes
            n1 get - nodes/proxy - n1 no
            n1 get - pods a p yes
            n2 get - pods a p no
            n1 list - pods - - spec.nodeName=n1 yes
            n1 list - pods - - spec.nodeName==n1,status.phase!=Failed yes
            n1 list - pods - - spec.nodeName=n2 no
            n1 list - pods - - spec.nodeName!=n1 no
            n1 watch - pods - - no
            n1 create - pods/eviction a p yes
            n1 create - pods/exec a p no
            n1 patch - pods/status a p yes
            n1 update coordination.k8s.io leases kube-node-lease n1 yes
            n1 update coordination.k8s.io leases kube-node-lease n2 no
            n1 update coordination.k8s.io leases kube-system n1 no
            n1 list coordination.k8s.io leases kube-node-lease n1 no
            n1 get storage.k8s.io csinodes - n1 yes
            n1 get storage.k8s.io csinodes - n2 no
            n1 list - services - - yes
            n1 create - events a - yes
            n1 create authorization.k8s.io subjectaccessreviews - - yes
            n1 list storage.k8s.io csidrivers - - yes
            n1 list apps deployments a - no
            n1 deletecollection resource.k8s.io resourceslices - - spec.nodeName=n1 yes
            n1 deletecollection resource.k8s.io resourceslices - - no";
        for line in table.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (who, rest) = line.split_once(' ').expect("words");
            let (what, good) = rest.rsplit_once(' ').expect("words");
            let (user, info) = (node(who), request(what));
            let (decision, _) = authorizer.authorize(&Attributes { user: &user, info: &info }).await;
            assert_eq!(decision == Decision::Allow, good == "yes", "{line}");
        }
    }

    #[tokio::test]
    async fn others_are_not_its_business() {
        let authorizer = authorizer();
        let info = request("get - nodes - n1");
        let outsider = UserInfo { name: "system:node:n1".into(), ..UserInfo::default() };
        let (decision, _) = authorizer.authorize(&Attributes { user: &outsider, info: &info }).await;
        assert_eq!(decision, Decision::NoOpinion);
        let unnamed = node("");
        let (decision, why) = authorizer.authorize(&Attributes { user: &unnamed, info: &info }).await;
        assert_eq!((decision, why.contains("unknown node")), (Decision::NoOpinion, true));
        let (_, why) = authorizer
            .authorize(&Attributes { user: &node("n9"), info: &request("get - secrets a s") })
            .await;
        assert_eq!(why, "no relationship found between node 'n9' and this object");
    }
}
