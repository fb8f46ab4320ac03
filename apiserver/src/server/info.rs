//! Takes a request path apart.

use http::Method;

use crate::request::RequestInfo;
use crate::rest::Query;

/// Subresources that stand for a namespace itself rather than for something in it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

/// What a request means by its method, path and query.
pub fn parse(method: &Method, path: &str, query: &Query) -> RequestInfo {
    let mut info = RequestInfo {
        path: path.to_owned(),
        verb: method.as_str().to_ascii_lowercase(),
        ..RequestInfo::default()
    };
    let mut parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    if parts.len() < 3 || !matches!(parts[0], "api" | "apis") {
        return info;
    }
    info.api_prefix = parts.remove(0).to_owned();
    if info.api_prefix == "apis" {
        if parts.len() < 3 {
            return info;
        }
        info.group = parts.remove(0).to_owned();
    }
    info.is_resource = true;
    info.version = parts.remove(0).to_owned();
    info.verb = verb(method).to_owned();
    if matches!(parts.first(), Some(&("watch" | "proxy"))) && parts.len() > 1 {
        info.verb = parts.remove(0).to_owned();
    }
    name_parts(&mut info, parts);
    refine(&mut info, method, query);
    info
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn name_parts(info: &mut RequestInfo, mut parts: Vec<&str>) {
    if parts.first() == Some(&"namespaces") {
        if let Some(name) = parts.get(1) {
            info.namespace = plain(name);
        }
        let own = parts.get(2).is_none_or(|p| NAMESPACE_SUBRESOURCES.contains(p));
        if parts.len() > 2 && !own {
            parts.drain(..2);
        }
    }
    info.parts = parts.iter().map(|p| (*p).to_owned()).collect();
    let part = |at: usize| parts.get(at).map(|p| plain(p)).unwrap_or_default();
    info.resource = part(0);
    info.name = part(1);
    info.subresource = part(2);
}

/// A segment of a path without its escapes; a plus is one.
fn plain(segment: &str) -> String {
    match segment.contains('%') {
        true => crate::rest::params::decode(&segment.replace('+', "%2B")),
        false => segment.to_owned(),
    }
}

fn refine(info: &mut RequestInfo, method: &Method, query: &Query) {
    info.label_selector = query.get("labelSelector").to_owned();
    info.field_selector = query.get("fieldSelector").to_owned();
    if info.name.is_empty() {
        match info.verb.as_str() {
            "get" if query.flag("watch") => info.verb = "watch".into(),
            "get" => info.verb = "list".into(),
            "delete" => info.verb = "deletecollection".into(),
            _ => {}
        }
        if matches!(info.verb.as_str(), "list" | "watch" | "deletecollection")
            && let Ok(selector) = machinery::selector::FieldSelector::parse(&info.field_selector)
            && let Some(name) = selector.requires_exact("metadata.name")
        {
            info.name = name.to_owned();
        }
    }
    let _ = method;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: Method, uri: &str) -> String {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let i = parse(&method, path, &Query::parse(query));
        format!(
            "{} {} g={} v={} ns={} r={} n={} s={}",
            i.is_resource, i.verb, i.group, i.version, i.namespace, i.resource, i.name, i.subresource
        )
    }

    #[test]
    fn paths() {
        for (method, uri, expected) in [
            (Method::GET, "/healthz", "false get g= v= ns= r= n= s="),
            (Method::GET, "/apis/apps", "false get g= v= ns= r= n= s="),
            (Method::GET, "/api/v1", "false get g= v= ns= r= n= s="),
            (Method::GET, "/apis/apps/v1", "false get g= v= ns= r= n= s="),
            (Method::GET, "/api/v1/pods", "true list g= v=v1 ns= r=pods n= s="),
            (Method::GET, "/api/v1/namespaces/a/pods?watch=true", "true watch g= v=v1 ns=a r=pods n= s="),
            (Method::GET, "/api/v1/watch/namespaces/a/pods", "true watch g= v=v1 ns=a r=pods n= s="),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dx",
                "true list g= v=v1 ns=a r=pods n=x s=",
            ),
            (Method::POST, "/api/v1/namespaces/a/pods/p/exec", "true create g= v=v1 ns=a r=pods n=p s=exec"),
            (
                Method::PUT,
                "/api/v1/namespaces/a/finalize",
                "true update g= v=v1 ns=a r=namespaces n=a s=finalize",
            ),
            (Method::GET, "/api/v1/namespaces/a", "true get g= v=v1 ns=a r=namespaces n=a s="),
            (Method::GET, "/api/v1/namespaces", "true list g= v=v1 ns= r=namespaces n= s="),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments",
                "true deletecollection g=apps v=v1 ns=a r=deployments n= s=",
            ),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "true patch g=apps v=v1 ns=a r=deployments n=d s=scale",
            ),
            (Method::GET, "/api/v1/nodes/a+b%2Fc", "true get g= v=v1 ns= r=nodes n=a+b/c s="),
            (Method::GET, "/api/v1/nodes/a+b", "true get g= v=v1 ns= r=nodes n=a+b s="),
            (Method::GET, "/api/v1/nodes/n/proxy/healthz", "true get g= v=v1 ns= r=nodes n=n s=proxy"),
        ] {
            assert_eq!(of(method, uri), expected, "{uri}");
        }
    }
}
