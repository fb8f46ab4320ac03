//! Users vouched for by a front proxy in request headers.

use std::collections::BTreeMap;

use async_trait::async_trait;
use http::HeaderMap;

use super::x509::Verifier;
use super::{Authenticator, AuthnError, AuthnRequest};
use crate::config::Config;
use crate::request::UserInfo;

/// Trusts the headers of clients that show a certificate of the front proxy's CA.
pub struct RequestHeader {
    verifier: Verifier,
    allowed: Vec<String>,
    names: Names,
}

/// Which headers say what.
#[derive(Clone, Debug, Default)]
pub struct Names {
    user: Vec<String>,
    group: Vec<String>,
    uid: Vec<String>,
    extra: Vec<String>,
}

impl RequestHeader {
    /// As the flags say; `None` without `--requestheader-client-ca-file`.
    pub fn from_config(config: &Config) -> anyhow::Result<Option<RequestHeader>> {
        let Some(file) = &config.requestheader_client_ca_file else { return Ok(None) };
        let names = Names {
            user: config.requestheader_username_headers.clone(),
            group: config.requestheader_group_headers.clone(),
            uid: config.requestheader_uid_headers.clone(),
            extra: config.requestheader_extra_headers_prefix.clone(),
        };
        let allowed = config.requestheader_allowed_names.clone();
        Ok(Some(RequestHeader { verifier: Verifier::from_file(file)?, allowed, names }))
    }
}

#[async_trait]
impl Authenticator for RequestHeader {
    async fn authenticate(&self, request: &AuthnRequest<'_>) -> Result<Option<UserInfo>, AuthnError> {
        let Some(user) = self.names.user_of(request.headers) else { return Ok(None) };
        if request.peer_certs.is_empty() {
            return Ok(None);
        }
        let proxy =
            self.verifier.check(request.peer_certs, machinery::time::now_unix()).map_err(AuthnError)?;
        let name = proxy.map(|p| p.name).unwrap_or_default();
        if self.allowed.is_empty() || self.allowed.contains(&name) {
            Ok(Some(user))
        } else {
            Err(AuthnError(format!("front proxy {name:?} is not an allowed one")))
        }
    }
}

impl Names {
    fn user_of(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let first = |names: &[String]| names.iter().flat_map(|n| values(headers, n)).find(|v| !v.is_empty());
        let name = first(&self.user)?;
        let groups = self.group.iter().flat_map(|n| values(headers, n)).filter(|g| !g.is_empty()).collect();
        Some(UserInfo {
            name,
            uid: first(&self.uid).unwrap_or_default(),
            groups,
            extra: self.extra_of(headers),
        })
    }

    fn extra_of(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in self.extra.iter().map(|p| p.to_ascii_lowercase()) {
            for (header, value) in headers {
                if let (Some(key), Ok(value)) = (header.as_str().strip_prefix(&prefix), value.to_str()) {
                    out.entry(percent_decode(key)).or_default().push(value.to_owned());
                }
            }
        }
        out
    }
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok().map(str::to_owned)).collect()
}

/// Takes `%2f` and the like out of a header's name; what is no such escape stays.
pub fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| byte == b'%').and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::x509::tests::ca;
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut out = HeaderMap::new();
        for (k, v) in list {
            out.append(*k, v.parse().expect("header"));
        }
        out
    }

    #[tokio::test]
    async fn only_the_proxy_is_believed() {
        let (front, other) = (ca(), ca());
        let header = RequestHeader {
            verifier: Verifier::from_pem(front.pem.as_bytes()).expect("verifier"),
            allowed: vec!["front-proxy-client".into()],
            names: Names {
                user: vec!["X-Remote-User".into()],
                group: vec!["X-Remote-Group".into()],
                uid: vec!["X-Remote-Uid".into()],
                extra: vec!["X-Remote-Extra-".into()],
            },
        };
        let sent = headers(&[
            ("x-remote-user", "alice"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "ops"),
            ("x-remote-extra-a%2fb", "1"),
        ]);
        let years = (2020, 2200);
        for (what, chain, good) in [
            ("proxy", vec![front.client("front-proxy-client", "x", years)], Some(true)),
            ("another name", vec![front.client("somebody", "x", years)], None),
            ("another CA", vec![other.client("front-proxy-client", "x", years)], None),
            ("no certificate", vec![], Some(false)),
        ] {
            let request = AuthnRequest {
                headers: &sent,
                peer_certs: &chain,
                path: "/",
                peer_addr: ([127, 0, 0, 1], 1).into(),
                warnings: &Default::default(),
            };
            let got = header.authenticate(&request).await;
            assert_eq!(got.as_ref().ok().map(Option::is_some), good, "{what}");
            if let Ok(Some(user)) = got {
                assert_eq!(user.groups, ["dev", "ops"]);
                assert_eq!(user.extra["a/b"], ["1"]);
            }
        }
    }

    #[test]
    fn escapes() {
        for (text, want) in
            [("a%2Fb", "a/b"), ("a%", "a%"), ("a%zz", "a%zz"), ("plain", "plain"), ("%41%42", "AB")]
        {
            assert_eq!(percent_decode(text), want);
        }
    }
}
