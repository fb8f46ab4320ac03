//! Signs approved requests with the CA of their signer.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Csr;
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose as Extended, IsCa, Issuer, KeyPair,
    KeyUsagePurpose as Usage, SerialNumber,
};

use super::request::{Request, not_after};
use crate::Config;

/// Nobody gets less by asking for less.
const SHORTEST: Duration = Duration::from_secs(600);
/// Clocks differ: validity begins a little earlier than now.
const BACKDATE: Duration = Duration::from_secs(300);
/// From this length on the backdating is taken off the end, so that the whole is as long as asked.
const LONG: Duration = Duration::from_secs(8 * 3600);

/// Why a request is not signed.
pub enum Refusal {
    /// It will never be.
    Invalid(String),
    /// It could not be now.
    Broken(anyhow::Error),
}

type Check = fn(&Request, &[String]) -> Result<(), &'static str>;

struct Signer {
    name: &'static str,
    check: Check,
    ca_pem: String,
    key_pem: String,
}

/// The signers that have a CA.
pub struct Signers {
    signers: Vec<Signer>,
    longest: Duration,
}

impl Signers {
    /// Reads the CA of each signer; its own if given, else the common one.
    pub fn new(config: &Config) -> Result<Self> {
        let common = (&config.cluster_signing_cert_file, &config.cluster_signing_key_file);
        let c = config;
        let wanted: [(&'static str, Check, _); 3] = [
            (
                "kubernetes.io/kubelet-serving",
                Request::is_kubelet_serving,
                (&c.cluster_signing_kubelet_serving_cert_file, &c.cluster_signing_kubelet_serving_key_file),
            ),
            (
                super::KUBELET_CLIENT,
                Request::is_kubelet_client,
                (&c.cluster_signing_kubelet_client_cert_file, &c.cluster_signing_kubelet_client_key_file),
            ),
            (
                "kubernetes.io/kube-apiserver-client",
                Request::is_client,
                (
                    &c.cluster_signing_kube_apiserver_client_cert_file,
                    &c.cluster_signing_kube_apiserver_client_key_file,
                ),
            ),
        ];
        let mut signers = Vec::new();
        for (name, check, (cert, key)) in wanted {
            let (Some(cert), Some(key)) =
                (cert.as_ref().or(common.0.as_ref()), key.as_ref().or(common.1.as_ref()))
            else {
                continue;
            };
            let signer = Signer { name, check, ca_pem: read(cert)?, key_pem: pkcs8(&read(key)?)? };
            issuer(&signer).with_context(|| format!("CA of signer {name}"))?;
            signers.push(signer);
        }
        Ok(Self { signers, longest: config.cluster_signing_duration })
    }

    /// Whether there is nothing to sign with.
    pub fn is_empty(&self) -> bool {
        self.signers.is_empty()
    }

    /// The certificate in PEM; `None` if the request's signer is not one of ours.
    pub fn sign(&self, csr: &Csr, now: Timestamp) -> Option<Result<String, Refusal>> {
        let signer = self.signers.iter().find(|s| s.name == csr.spec.signer_name)?;
        let request = match Request::parse(&csr.spec.request.0) {
            Ok(request) => request,
            Err(error) => return Some(Err(Refusal::Invalid(format!("{error:#}")))),
        };
        let usages = csr.spec.usages.clone().unwrap_or_default();
        if let Err(why) = (signer.check)(&request, &usages) {
            return Some(Err(Refusal::Invalid(why.into())));
        }
        let ttl = lifetime(csr.spec.expiration_seconds, self.longest);
        Some(issue(signer, &request, &usages, ttl, now).map_err(Refusal::Broken))
    }
}

/// How long a certificate lives: as long as asked, within limits; the upper one wins, so that a cluster may have
/// lives of minutes.
fn lifetime(asked: Option<i32>, longest: Duration) -> Duration {
    let Some(asked) = asked else { return longest };
    Duration::from_secs(asked.max(0) as u64).max(SHORTEST).min(longest)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn issuer(signer: &Signer) -> Result<Issuer<'static, KeyPair>> {
    Ok(Issuer::from_ca_cert_pem(&signer.ca_pem, KeyPair::from_pem(&signer.key_pem)?)?)
}

/// Beginning and end of a certificate made now.
fn validity(ttl: Duration, ca_end: Option<Timestamp>, now: Timestamp) -> (Timestamp, Timestamp) {
    let signed = |d: Duration| SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX);
    let ttl = if ttl >= LONG { ttl - BACKDATE } else { ttl };
    let end = now.checked_add(signed(ttl)).unwrap_or(Timestamp::MAX);
    (now - signed(BACKDATE), ca_end.map_or(end, |ca| ca.min(end)))
}

fn issue(
    signer: &Signer,
    request: &Request,
    usages: &[String],
    ttl: Duration,
    now: Timestamp,
) -> Result<String> {
    let der = rcgen::CertificateSigningRequestParams::from_der(&request.der.clone().into());
    let mut csr: CertificateSigningRequestParams = der.context("request")?;
    let (start, end) = validity(ttl, not_after(signer.ca_pem.as_bytes()), now);
    let moment = |t: Timestamp| time::OffsetDateTime::from_unix_timestamp(t.as_second());
    csr.params.not_before = moment(start)?;
    csr.params.not_after = moment(end)?;
    csr.params.is_ca = IsCa::ExplicitNoCa;
    csr.params.serial_number = Some(SerialNumber::from_slice(&rand::random::<[u8; 16]>()));
    csr.params.use_authority_key_identifier_extension = true;
    csr.params.key_usages = usages.iter().filter_map(|u| usage(u)).collect();
    csr.params.extended_key_usages = usages.iter().filter_map(|u| extended(u)).collect();
    csr.params.custom_extensions.clear();
    Ok(csr.signed_by(&issuer(signer)?)?.pem())
}

fn usage(word: &str) -> Option<Usage> {
    Some(match word {
        "digital signature" => Usage::DigitalSignature,
        "key encipherment" => Usage::KeyEncipherment,
        _ => return None,
    })
}

fn extended(word: &str) -> Option<Extended> {
    Some(match word {
        "client auth" => Extended::ClientAuth,
        "server auth" => Extended::ServerAuth,
        _ => return None,
    })
}

/// What stands before a key in PKCS#8: its version and algorithm.
const RSA: &[u8] = &[2, 1, 0, 0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
const P256: &[u8] = &[
    2, 1, 0, 0x30, 19, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7,
];
const P384: &[u8] =
    &[2, 1, 0, 0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22];

/// A key in PKCS#8, which keys of kubeadm's making are not: their PKCS#1 and SEC1 forms are wrapped.
pub(crate) fn pkcs8(pem: &str) -> Result<String> {
    let block = x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes())
        .filter_map(Result::ok)
        .find(|block| block.label.ends_with("PRIVATE KEY"));
    let Some(block) = block else { anyhow::bail!("no private key in PEM") };
    let head = match block.label.as_str() {
        "RSA PRIVATE KEY" => RSA,
        // A P-256 key with all its parts is about 120 bytes long, a P-384 key about 165.
        "EC PRIVATE KEY" if block.contents.len() < 140 => P256,
        "EC PRIVATE KEY" => P384,
        _ => return Ok(pem.to_string()),
    };
    let body = [head, &tagged(0x04, &block.contents)].concat();
    let encoded = base64::engine::general_purpose::STANDARD.encode(tagged(0x30, &body));
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{encoded}\n-----END PRIVATE KEY-----\n"))
}

/// A DER value with its tag and length.
pub(crate) fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    if length < 128 {
        out.push(length as u8);
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, time};
    use k8s_openapi::ByteString;

    fn signers() -> Signers {
        let key = KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        let signer = Signer {
            name: super::super::KUBELET_CLIENT,
            check: Request::is_kubelet_client,
            ca_pem: ca.pem(),
            key_pem: key.serialize_pem(),
        };
        Signers { signers: vec![signer], longest: Duration::from_secs(365 * 86400) }
    }

    /// Keys as kubeadm writes them, made by openssl for this test alone.
    #[test]
    fn keys_of_every_form_sign() {
        const EC256: &str = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEICIdAMaSx4GkszQyFyQHew+bZD9I8pC98nxHpzj7D97VoAoGCCqGSM49\nAwEHoUQDQgAE4RGsEC4JKub3WmTGDq2RmV2D2shwSY9+3MMSxm+4yc3PUiuZYIyP\nQ3VCkOdAvybEzs57g2yV4FMriFuo4eM6wA==\n-----END EC PRIVATE KEY-----\n";
        const EC384: &str = "-----BEGIN EC PRIVATE KEY-----\nMIGkAgEBBDB5DrxN0XsK8XuazgZ1FiBajFXL/6pKEN+PyJRN6W3mUGQ+kPvRYru2\nK9yeNl9SNH6gBwYFK4EEACKhZANiAAQY9gImi0FELIyp0fEnw3rGbEr9iHMs/IYe\nlVjFgBsfyJbCUxcLxQn1dYZkFe19zo2F4IGRCYteEAwQCpmF1q+rbjFhnuRgZ6sy\nov5yId1Yu6/aYek6QAsRV+96eNTfz5w=\n-----END EC PRIVATE KEY-----\n";
        for pem in [EC256, EC384] {
            let key = KeyPair::from_pem(&pkcs8(pem).unwrap()).unwrap();
            assert!(pkcs8(&key.serialize_pem()).unwrap() == key.serialize_pem());
        }
        assert!(pkcs8("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }

    fn csr(cn: &str) -> Csr {
        let mut csr = Csr::default();
        csr.spec.signer_name = super::super::KUBELET_CLIENT.into();
        csr.spec.usages = Some(vec!["digital signature".into(), "client auth".into()]);
        csr.spec.request =
            ByteString(super::super::request::tests::pem(cn, &["system:nodes"], &[]).into_bytes());
        csr.spec.expiration_seconds = Some(3600);
        csr
    }

    #[test]
    fn a_good_request_becomes_a_certificate() {
        let Some(Ok(pem)) = signers().sign(&csr("system:node:a"), now()) else { panic!("not signed") };
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&block.contents).unwrap();
        assert_eq!(
            certificate.subject().iter_common_name().next().unwrap().as_str().unwrap(),
            "system:node:a"
        );
        assert!(!certificate.is_ca());
        let usages = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usages.client_auth && !usages.server_auth);
        assert_eq!(not_after(pem.as_bytes()), Some(time("2026-01-01T11:00:00Z").0));
    }

    #[test]
    fn a_bad_one_is_refused_and_a_strange_one_left() {
        assert!(matches!(signers().sign(&csr("root"), now()), Some(Err(Refusal::Invalid(_)))));
        let mut strange = csr("system:node:a");
        strange.spec.signer_name = "example.com/x".into();
        assert!(signers().sign(&strange, now()).is_none());
    }

    #[test]
    fn the_longest_life_is_the_last_word() {
        let secs = |asked, longest| lifetime(asked, Duration::from_secs(longest)).as_secs();
        assert_eq!([secs(None, 120), secs(Some(60), 120), secs(Some(3600), 120)], [120; 3]);
        assert_eq!([secs(Some(60), 86400), secs(Some(3600), 86400), secs(Some(-1), 86400)], [600, 3600, 600]);
    }

    #[test]
    fn validity_is_backdated_and_ends_with_the_ca() {
        let hour = Duration::from_secs(3600);
        let (start, end) = validity(hour, None, now());
        assert_eq!((start, end), (time("2026-01-01T09:55:00Z").0, time("2026-01-01T11:00:00Z").0));
        let (_, end) = validity(hour * 10, None, now());
        assert_eq!(end, time("2026-01-01T19:55:00Z").0);
        let (_, end) = validity(hour, Some(time("2026-01-01T10:10:00Z").0), now());
        assert_eq!(end, time("2026-01-01T10:10:00Z").0);
    }
}
