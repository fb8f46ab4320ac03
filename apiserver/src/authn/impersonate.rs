//! Acting as somebody else: which headers ask for it, and what must be allowed for it.

use std::collections::BTreeMap;

use http::HeaderMap;
use machinery::status::Status;

use super::request_header::percent_decode;
use super::service_account::{groups_of, split_user};
use crate::authz::{Attributes, Authorizer, Decision, refusal};
use crate::request::{RequestInfo, UserInfo};

const EXTRA_PREFIX: &str = "impersonate-extra-";

/// Who a request wants to be; `None` when it carries no such header. Errors: headers without a user.
pub fn wanted(headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let (Some(key), Ok(value)) = (header.as_str().strip_prefix(EXTRA_PREFIX), value.to_str()) {
            extra.entry(percent_decode(key)).or_default().push(value.to_owned());
        }
    }
    let name = all("impersonate-user").into_iter().next().unwrap_or_default();
    let uid = all("impersonate-uid").into_iter().next().unwrap_or_default();
    let user = UserInfo { name, uid, groups: all("impersonate-group"), extra };
    match (user.name.is_empty(), user == UserInfo::default()) {
        (_, true) => Ok(None),
        (true, false) => {
            Err(Status::internal("requested the impersonation of groups, uid or extra without a user"))
        }
        (false, false) => Ok(Some(user)),
    }
}

/// Takes the impersonation headers off a request.
pub fn strip(headers: &mut HeaderMap) {
    let names: Vec<_> = headers.keys().filter(|k| k.as_str().starts_with("impersonate-")).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The user to go on as: checks that `caller` may impersonate everything in `wanted`.
/// Errors: Forbidden, as upstream words it.
pub async fn impersonate(
    caller: &UserInfo,
    wanted: UserInfo,
    authorizer: &dyn Authorizer,
) -> Result<UserInfo, Status> {
    for info in checks(&wanted) {
        let attributes = Attributes { user: caller, info: &info };
        let (decision, reason) = authorizer.authorize(&attributes).await;
        if decision != Decision::Allow {
            return Err(refusal(&attributes, &reason));
        }
    }
    Ok(completed(wanted))
}

fn check(group: &str, resource: (&str, &str), namespace: &str, name: &str) -> RequestInfo {
    RequestInfo {
        is_resource: true,
        verb: "impersonate".into(),
        group: group.into(),
        version: "v1".into(),
        namespace: namespace.into(),
        resource: resource.0.into(),
        subresource: resource.1.into(),
        name: name.into(),
        ..RequestInfo::default()
    }
}

/// What the caller needs the verb `impersonate` on.
fn checks(wanted: &UserInfo) -> Vec<RequestInfo> {
    const AUTHN: &str = "authentication.k8s.io";
    let mut out = vec![match split_user(&wanted.name) {
        Some((namespace, name)) => check("", ("serviceaccounts", ""), namespace, name),
        None => check("", ("users", ""), "", &wanted.name),
    }];
    out.extend(wanted.groups.iter().map(|g| check("", ("groups", ""), "", g)));
    for (key, values) in &wanted.extra {
        out.extend(values.iter().map(|v| check(AUTHN, ("userextras", key), "", v)));
    }
    if !wanted.uid.is_empty() {
        out.push(check(AUTHN, ("uids", ""), "", &wanted.uid));
    }
    out
}

/// Adds the groups that come with a name.
fn completed(mut user: UserInfo) -> UserInfo {
    if let Some((namespace, _)) = split_user(&user.name).filter(|_| user.groups.is_empty()) {
        user.groups = groups_of(namespace);
    }
    let group =
        if user.name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    let known = user.in_group("system:unauthenticated") || user.in_group("system:authenticated");
    if !known {
        user.groups.push(group.into());
    }
    user
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;

    /// Allows impersonating names out of a list.
    struct Only(&'static [&'static str]);

    #[async_trait]
    impl Authorizer for Only {
        async fn authorize(&self, attributes: &Attributes<'_>) -> (Decision, String) {
            assert_eq!(attributes.info.verb, "impersonate");
            let known = self.0.contains(&attributes.info.name.as_str());
            (if known { Decision::Allow } else { Decision::NoOpinion }, String::new())
        }
    }

    fn user(name: &str, groups: &[&str]) -> UserInfo {
        UserInfo {
            name: name.into(),
            groups: groups.iter().map(|g| (*g).into()).collect(),
            ..UserInfo::default()
        }
    }

    #[tokio::test]
    async fn every_part_is_checked() {
        let caller = user("root", &[]);
        let good =
            impersonate(&caller, user("bob", &["dev"]), &Only(&["bob", "dev"])).await.expect("allowed");
        assert_eq!(good.groups, ["dev", "system:authenticated"]);
        let err = impersonate(&caller, user("bob", &["dev"]), &Only(&["bob"])).await.expect_err("refused");
        let want = r#"groups "dev" is forbidden: User "root" cannot impersonate resource "groups" in API group "" at the cluster scope"#;
        assert_eq!(err.message, want);
        let account = impersonate(&caller, user("system:serviceaccount:a:b", &[]), &Only(&["b"]))
            .await
            .expect("allowed");
        assert_eq!(
            account.groups,
            ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]
        );
        let nobody = impersonate(&caller, user("system:anonymous", &[]), &Only(&["system:anonymous"]))
            .await
            .expect("allowed");
        assert_eq!(nobody.groups, ["system:unauthenticated"]);
    }

    #[test]
    fn headers() {
        let mut map = HeaderMap::new();
        assert!(matches!(wanted(&map), Ok(None)));
        map.append("impersonate-group", "dev".parse().expect("value"));
        assert!(wanted(&map).is_err());
        map.append("impersonate-user", "bob".parse().expect("value"));
        map.append("impersonate-extra-a%2Fb", "1".parse().expect("value"));
        let user = wanted(&map).expect("good").expect("some");
        assert_eq!((user.name.as_str(), user.extra["a/b"].as_slice()), ("bob", &["1".to_owned()][..]));
        strip(&mut map);
        assert!(map.is_empty());
    }
}
