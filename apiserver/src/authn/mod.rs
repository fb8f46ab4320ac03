//! Who calls: client certificates, tokens, a front proxy's word, or nobody in particular.

pub mod bearer;
pub mod bootstrap_token;
pub mod chain;
pub mod impersonate;
pub mod jwt;
pub mod keys;
pub mod legacy;
pub mod lookup;
pub mod openid;
pub mod request_header;
pub mod service_account;
pub mod static_tokens;
pub mod x509;

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;
use rustls_pki_types::CertificateDer;

use crate::config::Config;
use crate::reader::Reader;
use crate::request::{UserInfo, Warnings};

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
    /// Where to put what the caller is to be told of their credentials.
    pub warnings: &'a Warnings,
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

    /// Checks a bearer token for one of `audiences`, as a TokenReview asks; the user and the shared audiences.
    async fn check_token(
        &self,
        _token: &str,
        _audiences: &[String],
        _warnings: &Warnings,
    ) -> Result<Option<bearer::Found>, AuthnError> {
        Ok(None)
    }

    /// Keys and rules of service-account tokens: for issuing them, and for the discovery documents.
    fn tokens(&self) -> Option<Arc<service_account::Tokens>> {
        None
    }
}

/// The chain of authenticators that the configuration asks for.
pub fn build(config: &Config, reader: &Reader) -> anyhow::Result<Arc<dyn Authenticator>> {
    let bearer = Arc::new(bearer::Bearer {
        fixed: config.token_auth_file.as_deref().map(static_tokens::StaticTokens::from_file).transpose()?,
        tokens: Arc::new(service_account::Tokens::from_config(config)?),
        bootstrap: config.enable_bootstrap_token_auth,
        objects: Arc::new(reader.clone()),
        kept: bearer::Kept::default(),
    });
    let mut ways: Vec<Arc<dyn Authenticator>> = Vec::new();
    if let Some(proxy) = request_header::RequestHeader::from_config(config)? {
        ways.push(Arc::new(proxy));
    }
    if let Some(file) = &config.client_ca_file {
        ways.push(Arc::new(x509::ClientCertificates { verifier: x509::Verifier::from_file(file)? }));
    }
    ways.push(bearer.clone());
    Ok(Arc::new(chain::Chain { ways, bearer, anonymous: config.anonymous_auth }))
}
