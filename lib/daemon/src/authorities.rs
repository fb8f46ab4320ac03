//! Whom a server behind the API server's aggregation trusts: ConfigMap kube-system/extension-apiserver-authentication
//! names the authority of client certificates, and that of the front proxy with the headers in which it says whose
//! request it brings.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use http::HeaderMap;
use parking_lot::RwLock;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::cert::root_store;
use crate::delegated::{User, user_of_cert};

/// The ConfigMap's namespace and name.
pub const CONFIG_MAP: (&str, &str) = ("kube-system", "extension-apiserver-authentication");

/// The authorities as they are now; replaced when the ConfigMap changes.
#[derive(Default)]
pub struct Watched(RwLock<Option<Arc<Authorities>>>);

impl Watched {
    /// None until the ConfigMap was read.
    pub fn current(&self) -> Option<Arc<Authorities>> {
        self.0.read().clone()
    }

    /// Takes the ConfigMap's data. What can't be read is said, and those known before stay.
    pub fn take(&self, data: &BTreeMap<String, String>) {
        match Authorities::read(data) {
            Ok(authorities) => *self.0.write() = Some(Arc::new(authorities)),
            Err(error) => tracing::warn!("ConfigMap {}/{}: {error:#}", CONFIG_MAP.0, CONFIG_MAP.1),
        }
    }
}

/// Authorities of client certificates.
#[derive(Debug, Default)]
pub struct Authorities {
    clients: Option<Arc<dyn ClientCertVerifier>>,
    front: Option<Front>,
}

/// The front proxy.
#[derive(Debug)]
struct Front {
    verifier: Arc<dyn ClientCertVerifier>,
    allowed: Vec<String>,
    user: Vec<String>,
    uid: Vec<String>,
    group: Vec<String>,
    extra: Vec<String>,
}

impl Authorities {
    /// From the ConfigMap's data: PEM texts, and lists as JSON.
    ///
    /// # Errors
    /// When a text is no such thing.
    pub fn read(data: &BTreeMap<String, String>) -> Result<Self> {
        let text = |key: &str| data.get(key).filter(|text| !text.trim().is_empty());
        let pem = |key: &str| text(key).map(|pem| verifier(pem).with_context(|| key.to_string())).transpose();
        let list = |key: &str| match text(key) {
            Some(json) => serde_json::from_str::<Vec<String>>(json).with_context(|| key.to_string()),
            None => Ok(Vec::new()),
        };
        let front = match pem("requestheader-client-ca-file")? {
            None => None,
            Some(verifier) => Some(Front {
                verifier,
                allowed: list("requestheader-allowed-names")?,
                user: list("requestheader-username-headers")?,
                uid: list("requestheader-uid-headers")?,
                group: list("requestheader-group-headers")?,
                extra: list("requestheader-extra-headers-prefix")?,
            }),
        };
        Ok(Self { clients: pem("client-ca-file")?, front })
    }

    /// The user a request with this certificate is of: whom the front proxy names, else the certificate's subject.
    /// `None` when none of the authorities made it.
    pub fn user(&self, headers: &HeaderMap, cert: &CertificateDer<'_>) -> Option<User> {
        let brought = self.front.as_ref().and_then(|front| front.user(headers, cert));
        brought
            .or_else(|| user_of_cert(cert).filter(|_| self.clients.as_ref().is_some_and(|ca| made(ca, cert))))
    }
}

fn verifier(pem: &str) -> Result<Arc<dyn ClientCertVerifier>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(root_store(pem.as_bytes())?);
    Ok(WebPkiClientVerifier::builder_with_provider(roots, provider).build()?)
}

fn made(by: &Arc<dyn ClientCertVerifier>, cert: &CertificateDer<'_>) -> bool {
    by.verify_client_cert(cert, &[], UnixTime::now()).is_ok()
}

impl Front {
    fn user(&self, headers: &HeaderMap, cert: &CertificateDer<'_>) -> Option<User> {
        let name = first(headers, &self.user)?;
        if !made(&self.verifier, cert) || !self.allows(cert) {
            return None;
        }
        let groups = self.group.iter().flat_map(|header| values(headers, header)).collect();
        let uid = first(headers, &self.uid).unwrap_or_default();
        Some(User { name, uid, groups, extra: self.extra(headers) })
    }

    fn allows(&self, cert: &CertificateDer<'_>) -> bool {
        self.allowed.is_empty() || user_of_cert(cert).is_some_and(|proxy| self.allowed.contains(&proxy.name))
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in self.extra.iter().map(|prefix| prefix.to_ascii_lowercase()) {
            for (header, value) in headers {
                if let (Some(key), Ok(value)) = (header.as_str().strip_prefix(&prefix), value.to_str()) {
                    extra.entry(unescaped(key)).or_default().push(value.to_owned());
                }
            }
        }
        extra
    }
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let all = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    all.filter(|value| !value.is_empty()).map(str::to_owned).collect()
}

fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    names.iter().find_map(|name| values(headers, name).into_iter().next())
}

/// `%2f` and the like as what they stand for; what is no such escape stays.
fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| byte == b'%').and_then(|two| std::str::from_utf8(two).ok());
        let decoded = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        out.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ca(rcgen::Certificate, rcgen::Issuer<'static, rcgen::KeyPair>);

    fn ca() -> Ca {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Ca(cert, rcgen::Issuer::new(params, key))
    }

    fn client(ca: &Ca, name: &str) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = rcgen::KeyPair::generate().unwrap();
        params.signed_by(&key, &ca.1).unwrap().der().clone()
    }

    fn data(clients: &Ca, front: &Ca) -> BTreeMap<String, String> {
        let pairs = [
            ("client-ca-file", clients.0.pem()),
            ("requestheader-client-ca-file", front.0.pem()),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#.into()),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#.into()),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#.into()),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#.into()),
        ];
        pairs.map(|(key, value): (&str, String)| (key.to_string(), value)).into()
    }

    #[test]
    fn the_front_proxy_speaks_for_others_and_nobody_else_does() {
        let (clients, front, other) = (ca(), ca(), ca());
        let authorities = Authorities::read(&data(&clients, &front)).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-remote-user", "alice"), ("x-remote-group", "dev"), ("x-remote-extra-a%2fb", "1")]
        {
            headers.append(name, value.parse().unwrap());
        }
        let who = |headers: &HeaderMap, cert| authorities.user(headers, &cert).map(|user| user.name);
        let named = |name: &str| Some(name.to_string());
        assert_eq!(who(&headers, client(&front, "front-proxy-client")), named("alice"));
        assert_eq!(who(&headers, client(&front, "somebody")), None);
        assert_eq!(who(&headers, client(&other, "front-proxy-client")), None);
        assert_eq!(who(&headers, client(&clients, "bob")), named("bob"));
        assert_eq!(who(&HeaderMap::new(), client(&front, "front-proxy-client")), None);
        let user = authorities.user(&headers, &client(&front, "front-proxy-client")).unwrap();
        assert_eq!(
            (user.groups, user.extra["a/b"].clone()),
            (vec!["dev".to_string()], vec!["1".to_string()])
        );
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let watched = Watched::default();
        assert!(watched.current().is_none());
        watched.take(&data(&ca(), &ca()));
        let before = watched.current().unwrap();
        watched.take(&[("client-ca-file".to_string(), "rubbish".to_string())].into());
        assert!(Arc::ptr_eq(&before, &watched.current().unwrap()));
        assert_eq!(unescaped("%41%2fb%zz%"), "A/b%zz%");
    }
}
