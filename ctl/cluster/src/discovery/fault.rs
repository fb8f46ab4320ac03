//! What can be in the way of finding a cluster: each with its cause and its cure.

use std::time::Duration;

/// Why a cluster was not found or not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The name can't be resolved.
    #[error("{address} is no address this machine knows: {cause}; check the name and this machine's DNS")]
    Unknown { address: String, cause: String },
    /// Nobody answers there.
    #[error(
        "{address} can't be reached: {cause}; check the address and port, that the control plane runs, and that no firewall is in between"
    )]
    Unreachable { address: String, cause: String },
    /// Something answers, but not with TLS.
    #[error("{address} answers, but not with TLS: it is not the port of an API server (usually 6443)")]
    NotTls { address: String },
    /// Something answers with TLS, but is no API server.
    #[error("{address} is no Kubernetes API server ({what}); check the address and port")]
    NotApi { address: String, what: String },
    /// There is no cluster-info.
    #[error(
        "the cluster at {address} has no ConfigMap kube-public/cluster-info for anybody to read; run \"coxctl init phase bootstrap-token\" on a control plane"
    )]
    NoClusterInfo { address: String },
    /// No signature by this token.
    #[error(
        "the cluster does not know the token with id {id:?}: it has expired, was deleted, or never existed; \"coxctl token create --print-join-command\" on a control plane makes a new one"
    )]
    UnknownToken { id: String },
    /// A signature by another secret.
    #[error(
        "the signature of cluster-info by token {id:?} is not that of the secret given: the token was mistyped, or {address} is not the cluster it was made for"
    )]
    BadSignature { id: String, address: String },
    /// The authority is another one.
    #[error(
        "the cluster's authority has the hash {have}, wanted {want}: the hash was mistyped, or {address} is another cluster; on a control plane \"coxctl token create --print-join-command\" shows the right one"
    )]
    OtherAuthority { have: String, want: String, address: String },
    /// What a trusted connection shows differs from what was signed.
    #[error("cluster-info at {address} is not the one that was signed; somebody may be in between")]
    Differs { address: String },
    /// The server's certificate is from the future.
    #[error("the certificate of {address} is not valid yet by this machine's clock ({now}){}; set the clock", skew_words(.skew))]
    NotYetValid { address: String, now: String, skew: Option<i64> },
    /// The server's certificate has run out.
    #[error("the certificate of {address} has run out by this machine's clock ({now}){}; set the clock, or renew it with \"coxctl certs renew all\" on the control plane", skew_words(.skew))]
    Expired { address: String, now: String, skew: Option<i64> },
    /// The server's certificate is somebody else's.
    #[error(
        "the certificate of {address} is not signed by the cluster's authority or for another address: {cause}; add the address with --apiserver-cert-extra-sans at init"
    )]
    Untrusted { address: String, cause: String },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

fn skew_words(skew: &Option<i64>) -> String {
    match skew {
        Some(s) if s.abs() > 60 => {
            format!(", which is {} s {} the server's", s.abs(), if *s > 0 { "behind" } else { "ahead of" })
        }
        _ => String::new(),
    }
}

impl Fault {
    /// How long to go on trying: a server that is starting, or a signature that is on its way. `limit` is the configured
    /// one; unless it was set on purpose, causes that seldom pass by themselves are given up sooner.
    pub fn patience(&self, limit: Duration, explicit: bool) -> Duration {
        let usual = match self {
            Self::Unreachable { .. } => Duration::from_secs(10),
            Self::NoClusterInfo { .. } => Duration::from_secs(20),
            Self::NotApi { .. } => Duration::from_secs(3),
            Self::UnknownToken { .. } => Duration::from_secs(5),
            Self::Unknown { .. } => Duration::from_secs(5),
            Self::BadSignature { .. } => Duration::from_secs(1),
            _ => return Duration::ZERO,
        };
        if explicit && !matches!(self, Self::BadSignature { .. }) { limit } else { usual.min(limit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_faults_are_given_time() {
        let limit = Duration::from_secs(300);
        let unreachable = Fault::Unreachable { address: "a".into(), cause: "refused".into() };
        assert_eq!(unreachable.patience(limit, false), Duration::from_secs(10));
        assert_eq!(unreachable.patience(limit, true), limit);
        assert_eq!(Fault::NotTls { address: "a".into() }.patience(limit, true), Duration::ZERO);
    }

    #[test]
    fn a_wrong_clock_is_named() {
        let fault = Fault::NotYetValid { address: "a:1".into(), now: "T".into(), skew: Some(7200) };
        assert!(fault.to_string().contains("7200 s behind the server's"), "{fault}");
    }
}
