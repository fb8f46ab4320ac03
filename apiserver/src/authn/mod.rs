//! Who calls.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;
use rustls_pki_types::CertificateDer;

use crate::config::Config;
use crate::reader::Reader;
use crate::request::UserInfo;

/// What authentication may look at.
pub struct AuthnRequest<'a> {
    /// Request headers.
    pub headers: &'a HeaderMap,
    /// The client's certificate chain as presented, leaf first. The TLS layer asks for a certificate but does not
    /// judge it: the authenticators do, each against its own CA.
    pub peer_certs: &'a [CertificateDer<'static>],
    /// Where the connection comes from.
    pub peer_addr: SocketAddr,
    /// Request path, for anonymous access limited to paths.
    pub path: &'a str,
}

/// Credentials were presented and are wrong; the text is for the log, never for the caller.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AuthnError(pub String);

/// One way to prove an identity, or a chain of them.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// The caller; None when this authenticator finds no credentials of its kind.
    async fn authenticate(&self, request: &AuthnRequest<'_>) -> Result<Option<UserInfo>, AuthnError>;
}

/// The chain of authenticators that the configuration asks for.
pub fn build(_config: &Config, _reader: &Reader) -> anyhow::Result<Arc<dyn Authenticator>> {
    Ok(Arc::new(Nobody))
}

struct Nobody;

#[async_trait]
impl Authenticator for Nobody {
    async fn authenticate(&self, _request: &AuthnRequest<'_>) -> Result<Option<UserInfo>, AuthnError> {
        Ok(None)
    }
}
