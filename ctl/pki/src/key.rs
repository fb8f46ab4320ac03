//! Private keys: made, read in every form kubeadm and openssl write, written as kubeadm writes them.

use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{KeyPair, PublicKeyData};
use ring::rand::{SecureRandom, SystemRandom};
use rsa::pkcs8::EncodePrivateKey;
use rustls_pki_types::PrivateKeyDer;

use crate::der;

const RSA_ENCRYPTION: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
const EC_PUBLIC_KEY: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: &[u8] = &[0x06, 5, 0x2b, 0x81, 4, 0, 0x22];

/// The algorithms of `encryptionAlgorithm`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// The default.
    #[default]
    EcdsaP256,
    /// The larger curve.
    EcdsaP384,
    /// kubeadm's default.
    Rsa2048,
    /// Larger.
    Rsa3072,
    /// Largest.
    Rsa4096,
}

impl FromStr for Algorithm {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "" | "ECDSA-P256" => Self::EcdsaP256,
            "ECDSA-P384" => Self::EcdsaP384,
            "RSA-2048" => Self::Rsa2048,
            "RSA-3072" => Self::Rsa3072,
            "RSA-4096" => Self::Rsa4096,
            other => bail!(
                "encryptionAlgorithm {other:?} is none of ECDSA-P256, ECDSA-P384, RSA-2048, RSA-3072, RSA-4096"
            ),
        })
    }
}

/// A private key, ready to sign.
pub struct Key(KeyPair);

impl Key {
    /// A new key.
    ///
    /// # Errors
    /// No randomness.
    pub fn generate(algorithm: Algorithm) -> Result<Self> {
        let bits = match algorithm {
            Algorithm::EcdsaP256 => return Ok(Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)),
            Algorithm::EcdsaP384 => return Ok(Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?)),
            Algorithm::Rsa2048 => 2048,
            Algorithm::Rsa3072 => 3072,
            Algorithm::Rsa4096 => 4096,
        };
        let key =
            rsa::RsaPrivateKey::new(&mut Random(SystemRandom::new()), bits).context("making an RSA key")?;
        let pkcs8 = key.to_pkcs8_der().map_err(|e| anyhow!("writing an RSA key: {e}"))?;
        Self::from_pkcs8(pkcs8.as_bytes())
    }

    /// Reads the first private key of a PEM text: PKCS#1, SEC1 or PKCS#8; RSA, P-256 or P-384.
    ///
    /// # Errors
    /// No key, an encrypted one, one of another kind.
    pub fn from_pem(pem: &str) -> Result<Self> {
        if pem.contains("ENCRYPTED") {
            bail!(
                "the private key is encrypted; write it without passphrase (openssl pkey -in OLD -out NEW)"
            );
        }
        let key = rustls_pemfile::private_key(&mut pem.as_bytes()).context("reading a private key")?;
        let key = key.context("no private key in the text")?;
        let pkcs8 = match &key {
            PrivateKeyDer::Pkcs8(key) => key.secret_pkcs8_der().to_vec(),
            PrivateKeyDer::Pkcs1(key) => wrapped(RSA_ENCRYPTION, key.secret_pkcs1_der()),
            PrivateKeyDer::Sec1(key) => {
                of_sec1(key.secret_sec1_der()).context("reading an EC private key")?
            }
            _ => bail!("a private key of an unknown form"),
        };
        Self::from_pkcs8(&pkcs8)
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self> {
        let pair = KeyPair::try_from(der);
        pair.map(Self)
            .map_err(|_| anyhow!("a private key that is neither RSA (2048 bits or more), P-256 nor P-384"))
    }

    /// The key as kubeadm writes it: `RSA PRIVATE KEY` or `EC PRIVATE KEY`.
    pub fn to_pem(&self) -> String {
        let pkcs8 = self.0.serialized_der();
        match inside(pkcs8) {
            Some((algorithm, key)) if algorithm == RSA_ENCRYPTION => pem("RSA PRIVATE KEY", key),
            Some((algorithm, key)) => match sec1(algorithm, key) {
                Some(der) => pem("EC PRIVATE KEY", &der),
                None => pem("PRIVATE KEY", pkcs8),
            },
            None => pem("PRIVATE KEY", pkcs8),
        }
    }

    /// The public half as `PUBLIC KEY`.
    pub fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki())
    }

    /// The public half as SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// Which algorithm it is of; RSA keys by the nearest size.
    pub fn algorithm(&self) -> Algorithm {
        match (self.0.algorithm(), self.0.public_key_raw().len()) {
            (a, _) if a == &rcgen::PKCS_ECDSA_P256_SHA256 => Algorithm::EcdsaP256,
            (a, _) if a == &rcgen::PKCS_ECDSA_P384_SHA384 => Algorithm::EcdsaP384,
            (_, ..330) => Algorithm::Rsa2048,
            (_, ..460) => Algorithm::Rsa3072,
            _ => Algorithm::Rsa4096,
        }
    }

    /// What signs.
    pub fn pair(&self) -> &KeyPair {
        &self.0
    }
}

/// A key in PKCS#8's wrapping.
fn wrapped(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let version = der::element(der::INTEGER, &[0]);
    let body = [version, der::element(der::SEQUENCE, algorithm), der::element(der::OCTETS, key)].concat();
    der::element(der::SEQUENCE, &body)
}

/// Algorithm and key out of PKCS#8's wrapping.
fn inside(pkcs8: &[u8]) -> Option<(&[u8], &[u8])> {
    let (body, _) = der::expect(der::SEQUENCE, pkcs8)?;
    let (_version, rest) = der::expect(der::INTEGER, body)?;
    let (algorithm, rest) = der::expect(der::SEQUENCE, rest)?;
    Some((algorithm, der::expect(der::OCTETS, rest)?.0))
}

/// PKCS#8 of a SEC1 key; its curve is named inside, or told by its size.
fn of_sec1(sec1: &[u8]) -> Option<Vec<u8>> {
    let members = der::members(der::expect(der::SEQUENCE, sec1)?.0)?;
    let secret = members.iter().find(|m| m.0 == der::OCTETS)?.1;
    let curve = match members.iter().find(|m| m.0 == der::FIRST) {
        Some((_, curve)) => curve.to_vec(),
        None if secret.len() <= 32 => P256.to_vec(),
        None => P384.to_vec(),
    };
    Some(wrapped(&[EC_PUBLIC_KEY, &curve].concat(), sec1))
}

/// SEC1 with its curve named inside, which Go's readers want.
fn sec1(algorithm: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let curve = algorithm.strip_prefix(EC_PUBLIC_KEY)?;
    let mut body = Vec::new();
    for (tag, member) in der::members(der::expect(der::SEQUENCE, key)?.0)? {
        if tag != der::FIRST {
            body.extend(der::element(tag, member));
        }
        if tag == der::OCTETS {
            body.extend(der::element(der::FIRST, curve));
        }
    }
    Some(der::element(der::SEQUENCE, &body))
}

/// A PEM block.
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}

/// The system's random numbers, as the RSA maker wants them.
struct Random(SystemRandom);

impl rsa::rand_core::RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        // The trait leaves no room for an error here; without random numbers no key may come out.
        if self.try_fill_bytes(dest).is_err() {
            std::process::abort();
        }
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        let code = std::num::NonZeroU32::MIN;
        self.0.fill(dest).map_err(|_| rsa::rand_core::Error::from(code))
    }
}

impl rsa::rand_core::CryptoRng for Random {}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Keys made by openssl for these tests alone, in each form.
    pub const RSA_PKCS1: &str = include_str!("../testdata/rsa-pkcs1.key");
    const RSA_PKCS8: &str = include_str!("../testdata/rsa-pkcs8.key");
    const P256_SEC1: &str = include_str!("../testdata/p256-sec1.key");
    const P256_PKCS8: &str = include_str!("../testdata/p256-pkcs8.key");
    const P384_SEC1: &str = include_str!("../testdata/p384-sec1.key");

    #[test]
    fn keys_of_every_form_are_read_and_written_as_kubeadm_does() {
        for (text, algorithm, label) in [
            (RSA_PKCS1, Algorithm::Rsa2048, "RSA PRIVATE KEY"),
            (RSA_PKCS8, Algorithm::Rsa2048, "RSA PRIVATE KEY"),
            (P256_SEC1, Algorithm::EcdsaP256, "EC PRIVATE KEY"),
            (P256_PKCS8, Algorithm::EcdsaP256, "EC PRIVATE KEY"),
            (P384_SEC1, Algorithm::EcdsaP384, "EC PRIVATE KEY"),
        ] {
            let key = Key::from_pem(text).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            let written = key.to_pem();
            assert!(written.starts_with(&format!("-----BEGIN {label}-----\n")), "{written}");
            assert_eq!(Key::from_pem(&written).unwrap().spki(), key.spki());
        }
        assert_eq!(Key::from_pem(RSA_PKCS8).unwrap().to_pem(), RSA_PKCS1);
        assert_eq!(Key::from_pem(P256_PKCS8).unwrap().spki(), Key::from_pem(P256_SEC1).unwrap().spki());
    }

    #[test]
    fn openssl_wrote_the_same_bytes() {
        let without_parameters =
            P256_SEC1.split_once("-----END EC PARAMETERS-----\n").map_or(P256_SEC1, |p| p.1);
        assert_eq!(Key::from_pem(P256_SEC1).unwrap().to_pem(), without_parameters);
    }

    #[test]
    fn new_keys_read_back() {
        for algorithm in [Algorithm::EcdsaP256, Algorithm::EcdsaP384] {
            let key = Key::generate(algorithm).unwrap();
            let again = Key::from_pem(&key.to_pem()).unwrap();
            assert_eq!((again.algorithm(), again.spki()), (algorithm, key.spki()));
            assert!(key.public_pem().starts_with("-----BEGIN PUBLIC KEY-----\n"));
        }
    }

    #[test]
    fn an_rsa_key_is_made_and_reads_back() {
        let key = Key::generate(Algorithm::Rsa2048).unwrap();
        let again = Key::from_pem(&key.to_pem()).unwrap();
        assert_eq!((again.algorithm(), again.spki()), (Algorithm::Rsa2048, key.spki()));
    }

    #[test]
    fn what_is_no_key_is_said() {
        for (text, want) in [
            ("", "no private key"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "encrypted"),
            (
                "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
                "reading an EC private key",
            ),
            ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "neither RSA"),
        ] {
            let error = Key::from_pem(text).err().unwrap().to_string();
            assert!(error.contains(want), "{error}");
        }
        assert!("RSA-1024".parse::<Algorithm>().is_err());
    }
}
