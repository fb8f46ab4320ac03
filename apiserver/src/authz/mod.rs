//! Who may do what: Node and RBAC, or everybody, or nobody.

pub mod feed;
pub mod modes;
pub mod node;
pub mod rbac;

use std::sync::Arc;

use async_trait::async_trait;
use machinery::status::Status;

use crate::config::Config;
use crate::reader::Reader;
use crate::request::{RequestInfo, UserInfo};

/// What is to be decided: a caller and a request.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    /// The caller.
    pub user: &'a UserInfo,
    /// Verb, resource, name, path.
    pub info: &'a RequestInfo,
}

/// An authorizer's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Allowed; nobody else is asked.
    Allow,
    /// Denied; nobody else is asked.
    Deny,
    /// Somebody else may decide.
    NoOpinion,
}

/// One authorisation mode, or a chain of them.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// The verdict and its reason.
    async fn authorize(&self, attributes: &Attributes<'_>) -> (Decision, String);

    /// What the user may do in a namespace, as far as it can be listed.
    fn rules(&self, _user: &UserInfo, _namespace: &str) -> RuleSet {
        RuleSet { incomplete: true, ..RuleSet::default() }
    }

    /// The index of roles and bindings, for guarding against escalation.
    fn rbac(&self) -> Option<Arc<rbac::Index>> {
        None
    }
}

/// What somebody may do in a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// Rules on resources and on paths.
    pub rules: Vec<rbac::Rule>,
    /// There may be more that cannot be listed.
    pub incomplete: bool,
    /// What went wrong.
    pub errors: Vec<String>,
}

/// The refusal of a request, worded as upstream does; `reason` is the authorizers'.
pub fn refusal(attributes: &Attributes<'_>, reason: &str) -> Status {
    let info = attributes.info;
    let mut message = denial(&attributes.user.name, info);
    if !reason.is_empty() {
        message = format!("{message}: {reason}");
    }
    Status::forbidden(&info.group, &info.resource, &info.name, message)
}

/// `User "u" cannot list resource "pods" in API group "" in the namespace "default"` and its like.
fn denial(user: &str, info: &RequestInfo) -> String {
    if !info.is_resource {
        return format!("User {user:?} cannot {} path {:?}", info.verb, info.path);
    }
    let what = format!("{} resource {:?} in API group {:?}", info.verb, info.resource_path(), info.group);
    match info.namespace.as_str() {
        "" => format!("User {user:?} cannot {what} at the cluster scope"),
        ns => format!("User {user:?} cannot {what} in the namespace {ns:?}"),
    }
}

/// The chain of authorizers that `--authorization-mode` asks for.
pub fn build(config: &Config, reader: &Reader) -> anyhow::Result<Arc<dyn Authorizer>> {
    let always = vec!["AlwaysAllow".to_owned()];
    let names = if config.authorization_mode.is_empty() { &always } else { &config.authorization_mode };
    let index = Arc::new(rbac::Index::new());
    feed::rbac(reader, &index);
    let mut modes: Vec<Arc<dyn Authorizer>> = Vec::new();
    for name in names {
        modes.push(match name.as_str() {
            "AlwaysAllow" => Arc::new(modes::AlwaysAllow),
            "AlwaysDeny" => Arc::new(modes::AlwaysDeny),
            "RBAC" => Arc::new(modes::Rbac(index.clone())),
            "Node" => {
                let graph = Arc::new(node::Graph::new());
                feed::graph(reader, &graph);
                Arc::new(node::NodeAuthorizer::new(graph))
            }
            other => anyhow::bail!(
                "--authorization-mode: {other} is not one of AlwaysAllow, AlwaysDeny, Node, RBAC"
            ),
        });
    }
    Ok(Arc::new(modes::Union { modes, index }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals() {
        let user = UserInfo { name: "x".into(), ..UserInfo::default() };
        let info = |namespace: &str, subresource: &str, name: &str| RequestInfo {
            is_resource: true,
            verb: "list".into(),
            resource: "pods".into(),
            namespace: namespace.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..RequestInfo::default()
        };
        let say =
            |info: &RequestInfo, reason: &str| refusal(&Attributes { user: &user, info }, reason).message;
        let want = r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#;
        assert_eq!(say(&info("default", "", ""), ""), want);
        let want = r#"pods "p" is forbidden: User "x" cannot list resource "pods/log" in API group "" at the cluster scope: why"#;
        assert_eq!(say(&info("", "log", "p"), "why"), want);
        let path = RequestInfo { verb: "get".into(), path: "/metrics".into(), ..RequestInfo::default() };
        assert_eq!(say(&path, ""), r#"forbidden: User "x" cannot get path "/metrics""#);
        let status = refusal(&Attributes { user: &user, info: &path }, "");
        assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    }
}

#[cfg(test)]
mod strangers {
    //! A walk over every kind and verb: who has been given nothing may do nothing.

    use super::*;
    use crate::authz::rbac::{Index, Kind};
    use crate::bootstrap::policy;

    /// A new cluster's authorizers.
    fn fresh() -> modes::Union {
        let index = Arc::new(Index::new());
        for object in policy::all() {
            if let Some(kind) = Kind::of_resource(object.plural) {
                index.put(kind, &object.object());
            }
        }
        let node = node::NodeAuthorizer::new(Arc::new(node::Graph::new()));
        modes::Union { modes: vec![Arc::new(node), Arc::new(modes::Rbac(index.clone()))], index }
    }

    fn user(name: &str, groups: &[&str]) -> UserInfo {
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        UserInfo { name: name.into(), groups, ..UserInfo::default() }
    }

    /// Every request on a resource that a server serves.
    fn requests() -> Vec<RequestInfo> {
        const SUB: [&str; 4] = ["get", "create", "update", "patch"];
        let mut out = Vec::new();
        for r in machinery::kinds::builtin() {
            let subs = r.subresources.iter().flat_map(|s| SUB.map(|v| (v.to_owned(), s.name.clone())));
            let own = r.verbs.iter().map(|v| (v.clone(), String::new()));
            for (verb, subresource) in own.chain(subs) {
                out.push(RequestInfo {
                    is_resource: true,
                    verb,
                    group: r.group.clone(),
                    version: r.version.clone(),
                    namespace: if r.namespaced { "default".into() } else { String::new() },
                    resource: r.plural.clone(),
                    subresource,
                    name: "x".into(),
                    ..RequestInfo::default()
                });
            }
        }
        out
    }

    async fn allowed_to(user: &UserInfo) -> Vec<String> {
        let authorizer = fresh();
        let mut out = Vec::new();
        for info in requests() {
            let attributes = Attributes { user, info: &info };
            let (decision, reason) = authorizer.authorize(&attributes).await;
            if decision == Decision::Allow {
                out.push(format!("{} {}", info.verb, info.resource_path()));
            } else {
                let status = refusal(&attributes, &reason);
                assert_eq!(status.code, 403);
                let want =
                    format!("User {:?} cannot {} resource {:?}", user.name, info.verb, info.resource_path());
                assert!(status.message.contains(&want), "{}", status.message);
            }
        }
        out.sort();
        out.dedup();
        out
    }

    #[tokio::test]
    async fn may_nothing() {
        assert!(requests().len() > 500);
        assert_eq!(allowed_to(&user("system:anonymous", &["system:unauthenticated"])).await, [""; 0]);
        let own = [
            "create selfsubjectaccessreviews",
            "create selfsubjectreviews",
            "create selfsubjectrulesreviews",
        ];
        assert_eq!(allowed_to(&user("stranger", &["system:authenticated"])).await, own);
        let account = ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"];
        assert_eq!(allowed_to(&user("system:serviceaccount:a:b", &account)).await, own);
        let false_node = user("system:node:n", &["system:authenticated"]);
        assert_eq!(allowed_to(&false_node).await, own, "the name alone makes no node");
    }

    #[tokio::test]
    async fn a_node_without_pods_reads_no_secrets() {
        let node = user("system:node:n", &["system:nodes", "system:authenticated"]);
        let allowed = allowed_to(&node).await;
        for forbidden in
            ["secrets", "configmaps", "serviceaccounts", "persistentvolumes", "roles", "deployments"]
        {
            assert!(
                !allowed.iter().any(|a| a.ends_with(&format!(" {forbidden}"))),
                "{forbidden}: {allowed:?}"
            );
        }
        assert!(allowed.contains(&"create events".to_owned()));
    }

    #[tokio::test]
    async fn masters_and_paths() {
        let masters = user("root", &["system:masters"]);
        assert!(allowed_to(&masters).await.len() > 300);
        let authorizer = fresh();
        let anonymous = user("system:anonymous", &["system:unauthenticated"]);
        let stranger = user("stranger", &["system:authenticated"]);
        for (user, path, good) in [
            (&anonymous, "/healthz", true),
            (&anonymous, "/livez", true),
            (&anonymous, "/readyz", true),
            (&anonymous, "/version", true),
            (&anonymous, "/healthz/etcd", false),
            (&anonymous, "/metrics", false),
            (&anonymous, "/api", false),
            (&anonymous, "/apis", false),
            (&anonymous, "/openapi/v2", false),
            (&stranger, "/api", true),
            (&stranger, "/apis/apps/v1", true),
            (&stranger, "/openapi/v3", true),
            (&stranger, "/metrics", false),
            (&stranger, "/logs", false),
        ] {
            let info = RequestInfo { verb: "get".into(), path: path.into(), ..RequestInfo::default() };
            let (decision, _) = authorizer.authorize(&Attributes { user, info: &info }).await;
            assert_eq!(decision == Decision::Allow, good, "{} {path}", user.name);
        }
    }
}
