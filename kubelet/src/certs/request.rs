//! Certificate signing requests: what stands in them, and their way to a certificate.

use super::{NODES_GROUP, node_user};
use anyhow::{Context, bail};
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::watcher::{self, Event};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use sha2::Digest;
use std::time::Duration;

/// Signer of client certificates of nodes.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signer of serving certificates of nodes.
pub const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";

const CALL_DEADLINE: Duration = Duration::from_secs(60);
/// After this long a word is said about what is waited for.
const USUAL: Duration = Duration::from_secs(15);
/// A watch refused so often in a row will not be let in later.
const REFUSALS: u32 = 5;

/// What is asked for.
pub struct Wish {
    /// who signs
    pub signer: &'static str,
    /// usages beside digital signature
    pub usage: &'static str,
    /// node name
    pub node: String,
    /// names and addresses (serving only)
    pub sans: Vec<SanType>,
}

impl Wish {
    /// A client certificate for a node.
    pub fn client(node: &str) -> Self {
        Self { signer: CLIENT_SIGNER, usage: "client auth", node: node.to_owned(), sans: Vec::new() }
    }

    /// A serving certificate for a node.
    pub fn serving(node: &str, sans: Vec<SanType>) -> Self {
        Self { signer: SERVING_SIGNER, usage: "server auth", node: node.to_owned(), sans }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, NODES_GROUP);
        params.distinguished_name.push(DnType::CommonName, node_user(&self.node));
        params.subject_alt_names = self.sans.clone();
        params
    }

    /// The PEM request, signed with `key`.
    pub fn pem(&self, key: &KeyPair) -> anyhow::Result<String> {
        Ok(self.params().serialize_request(key)?.pem()?)
    }

    /// The same key, subject and usages give the same name, so a restart takes up the old request.
    pub fn name(&self, key: &KeyPair) -> String {
        let mut hash = sha2::Sha256::new();
        let user = node_user(&self.node);
        for part in [key.public_key_raw(), user.as_bytes(), self.usage.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        for san in &self.sans {
            hash.update(format!("{san:?}"));
        }
        let digest = hex::encode(hash.finalize());
        format!("node-csr-{}", digest.get(..43).unwrap_or(&digest))
    }

    fn object(&self, key: &KeyPair) -> anyhow::Result<CertificateSigningRequest> {
        let spec = CertificateSigningRequestSpec {
            request: ByteString(self.pem(key)?.into_bytes()),
            signer_name: self.signer.to_owned(),
            usages: Some(vec!["digital signature".into(), self.usage.into()]),
            ..Default::default()
        };
        let metadata = ObjectMeta { name: Some(self.name(key)), ..Default::default() };
        Ok(CertificateSigningRequest { metadata, spec, status: None })
    }
}

/// Submits the wish and waits, by watch, until it is signed, refused, or `patience` is over. Answers PEM.
pub async fn obtain(
    client: &kube::Client,
    wish: &Wish,
    key: &KeyPair,
    patience: Duration,
) -> anyhow::Result<Vec<u8>> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let object = wish.object(key)?;
    let params = PostParams::default();
    let name = match tokio::time::timeout(CALL_DEADLINE, api.create(&params, &object)).await? {
        Ok(made) => made.metadata.name.unwrap_or_default(),
        Err(kube::Error::Api(e)) if e.code == 409 => wish.name(key),
        Err(error) => return Err(error).context("submit the certificate signing request"),
    };
    tracing::info!(csr = name, signer = wish.signer, "waiting for the certificate");
    let mut waiting = Box::pin(wait(api, &name));
    if let Ok(outcome) = tokio::time::timeout(USUAL.min(patience), &mut waiting).await {
        return outcome;
    }
    tracing::warn!(
        csr = name,
        "no certificate yet: the request must be approved (kubectl certificate approve) and signed by the controller manager"
    );
    tokio::time::timeout(patience.saturating_sub(USUAL), waiting)
        .await
        .with_context(|| format!("certificate signing request {name}"))?
}

async fn wait(api: Api<CertificateSigningRequest>, name: &str) -> anyhow::Result<Vec<u8>> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher::watcher(api, config));
    let mut failures = 0;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(csr) | Event::InitApply(csr)) => {
                if let Some(outcome) = outcome(&csr) {
                    return outcome
                        .map_err(|why| anyhow::anyhow!("certificate signing request {name} {why}"));
                }
                failures = 0;
            }
            Ok(Event::Delete(_)) => bail!("certificate signing request {name} was deleted"),
            Ok(_) => {}
            Err(error) => {
                let error = anyhow::Error::from(error);
                if failures > REFUSALS && matches!(code(&error), Some(401 | 403)) {
                    return Err(error).with_context(|| format!("watch certificate signing request {name}"));
                }
                tracing::debug!(%error, "watching the certificate signing request");
                tokio::time::sleep(super::backoff(failures)).await;
                failures += 1;
            }
        }
    }
    bail!("watch of certificate signing request {name} ended")
}

/// The HTTP status an API server answered with, if that is what went wrong.
pub fn code(error: &anyhow::Error) -> Option<u16> {
    error.chain().find_map(|e| match e.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    })
}

/// None while undecided, or approved and not yet signed.
fn outcome(csr: &CertificateSigningRequest) -> Option<Result<Vec<u8>, String>> {
    let status = csr.status.as_ref()?;
    for condition in status.conditions.iter().flatten() {
        let why = condition.message.clone().or(condition.reason.clone()).unwrap_or_default();
        match condition.type_.as_str() {
            "Denied" => return Some(Err(format!("was denied: {why}"))),
            "Failed" => return Some(Err(format!("failed: {why}"))),
            _ => {}
        }
    }
    status.certificate.as_ref().map(|c| c.0.clone()).filter(|c| !c.is_empty()).map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::*;

    fn parsed(wish: &Wish) -> (String, Vec<String>) {
        let key = KeyPair::generate().unwrap();
        let pem = wish.pem(&key).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        assert_eq!(pem.label, "CERTIFICATE REQUEST");
        let (_, csr) = X509CertificationRequest::from_der(&pem.contents).unwrap();
        csr.verify_signature().unwrap();
        let sans = csr.requested_extensions().into_iter().flatten().flat_map(|e| match e {
            ParsedExtension::SubjectAlternativeName(s) => {
                s.general_names.iter().map(|n| n.to_string()).collect::<Vec<_>>()
            }
            _ => vec![],
        });
        (csr.certification_request_info.subject.to_string(), sans.collect())
    }

    #[test]
    fn subjects_and_names() {
        let (subject, sans) = parsed(&Wish::client("n1"));
        assert_eq!(subject, "O=system:nodes, CN=system:node:n1");
        assert!(sans.is_empty());
        let sans =
            vec![SanType::DnsName("n1".try_into().unwrap()), SanType::IpAddress("10.0.0.1".parse().unwrap())];
        let (subject, sans) = parsed(&Wish::serving("n1", sans));
        assert_eq!(subject, "O=system:nodes, CN=system:node:n1");
        assert_eq!(sans.len(), 2);
    }

    #[test]
    fn names_are_stable_and_differ_by_key_and_usage() {
        let key = KeyPair::generate().unwrap();
        let name = Wish::client("n").name(&key);
        assert!(name.starts_with("node-csr-") && name.len() == 52);
        assert_eq!(name, Wish::client("n").name(&key));
        assert_ne!(name, Wish::serving("n", vec![]).name(&key));
        assert_ne!(name, Wish::client("n").name(&KeyPair::generate().unwrap()));
    }

    #[test]
    fn usages_fit_the_signer() {
        let key = KeyPair::generate().unwrap();
        let spec = Wish::client("n").object(&key).unwrap().spec;
        assert_eq!(spec.signer_name, CLIENT_SIGNER);
        assert_eq!(spec.usages.unwrap(), ["digital signature", "client auth"]);
    }

    #[test]
    fn outcomes() {
        let with = |status: serde_json::Value| {
            let csr = serde_json::json!({
                "metadata": {}, "spec": { "request": "", "signerName": "" }, "status": status,
            });
            outcome(&serde_json::from_value(csr).unwrap())
        };
        let condition = |t: &str| serde_json::json!([{ "type": t, "status": "True", "message": "m" }]);
        assert_eq!(with(serde_json::json!({})), None);
        assert_eq!(with(serde_json::json!({ "conditions": condition("Approved") })), None);
        assert_eq!(with(serde_json::json!({ "certificate": "YQ==" })), Some(Ok(b"a".to_vec())));
        assert_eq!(
            with(serde_json::json!({ "conditions": condition("Denied") })),
            Some(Err("was denied: m".into()))
        );
    }
}
