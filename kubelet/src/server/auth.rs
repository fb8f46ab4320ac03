//! Who may ask the kubelet what: an HTTP request becomes questions about `nodes/SUBRESOURCE` to the API server.

use crate::config::KubeletConfiguration;
use daemon::delegated::{Attributes, Delegated, User};
use daemon::serving::{Body, PeerCert, text};
use http::{Method, Request, Response, StatusCode};

/// Authentication and authorisation as configured.
pub struct Guard {
    delegated: Option<Delegated>,
    node: String,
    anonymous: bool,
    always_allow: bool,
}

impl Guard {
    /// Without a client (standalone mode) only client certificates identify, and only AlwaysAllow lets in.
    pub fn new(client: Option<kube::Client>, node: &str, config: &KubeletConfiguration) -> Self {
        Self {
            delegated: client.map(Delegated::new),
            node: node.to_owned(),
            anonymous: config.authentication.anonymous.enabled,
            always_allow: config.authorization.mode == "AlwaysAllow",
        }
    }

    /// Ok, or the answer that turns the request away.
    pub async fn admit<B>(&self, request: &Request<B>) -> Result<(), Response<Body>> {
        let user = self.authenticate(request).await.or_else(|| self.anonymous.then(User::anonymous));
        let Some(user) = user else {
            return Err(text(StatusCode::UNAUTHORIZED, "Unauthorized"));
        };
        if self.always_allow {
            return Ok(());
        }
        let verb = verb(request.method());
        let subresources = subresources(request.uri().path());
        for subresource in subresources {
            let attributes = Attributes::node(verb, subresource, &self.node);
            if let Some(delegated) = &self.delegated
                && delegated.authorize(&user, &attributes).await
            {
                return Ok(());
            }
        }
        Err(text(StatusCode::FORBIDDEN, forbidden(&user.name, verb, subresources)))
    }

    async fn authenticate<B>(&self, request: &Request<B>) -> Option<User> {
        let peer = request.extensions().get::<PeerCert>().and_then(|p| p.0.clone());
        match &self.delegated {
            Some(delegated) => delegated.authenticate(request.headers(), peer.as_deref()).await,
            None => peer.and_then(|c| daemon::delegated::user_of_cert(&c)),
        }
    }
}

fn forbidden(user: &str, verb: &str, subresources: &[&str]) -> String {
    let list = subresources.join(" ");
    format!("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{list}])\n")
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The subresources of `nodes` of which one must be granted, finest first.
fn subresources(path: &str) -> &'static [&'static str] {
    let under =
        |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    const RULES: &[(&str, &[&str])] = &[
        ("/stats", &["stats"]),
        ("/metrics", &["metrics"]),
        ("/logs", &["log"]),
        ("/checkpoint", &["checkpoint"]),
        ("/statusz", &["statusz", "proxy"]),
        ("/flagz", &["configz", "proxy"]),
        ("/configz", &["configz", "proxy"]),
        ("/pods", &["pods", "proxy"]),
        ("/runningpods", &["pods", "proxy"]),
        ("/healthz", &["healthz", "proxy"]),
    ];
    RULES.iter().find(|(root, _)| under(root)).map_or(&["proxy"], |(_, s)| s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_subresources() {
        let table = "
            /stats/summary            stats
            /metrics                  metrics
            /metrics/cadvisor         metrics
            /metricsx                 proxy
            /logs/syslog              log
            /checkpoint/a/b/c         checkpoint
            /configz                  configz proxy
            /pods                     pods proxy
            /runningpods/             pods proxy
            /healthz/ping             healthz proxy
            /containerLogs/a/b/c      proxy
            /exec/a/b/c               proxy
            /run/a/b/c                proxy
            /                         proxy";
        for line in table.lines().skip(1) {
            let mut words = line.split_whitespace();
            let path = words.next().unwrap_or_default();
            assert_eq!(subresources(path), words.collect::<Vec<_>>(), "{path}");
        }
    }

    #[tokio::test]
    async fn strangers_are_turned_away() {
        let request = Request::get("/pods").body(()).unwrap();
        let mut config = KubeletConfiguration::default();
        let refused = Guard::new(None, "n", &config).admit(&request).await.unwrap_err();
        assert_eq!(refused.status(), 401);
        config.authentication.anonymous.enabled = true;
        let refused = Guard::new(None, "n", &config).admit(&request).await.unwrap_err();
        assert_eq!(refused.status(), 403);
        config.authorization.mode = "AlwaysAllow".into();
        assert!(Guard::new(None, "n", &config).admit(&request).await.is_ok());
    }
}
