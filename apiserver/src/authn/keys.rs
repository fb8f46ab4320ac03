//! Keys of service-account tokens: reading PEM files, signing, checking, and the published key set.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    RsaKeyPair, UnparsedPublicKey,
};
use rustls_pemfile::Item;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Signature algorithms of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
}

impl Algorithm {
    /// Name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
        }
    }
}

/// A public key that checks tokens.
#[derive(Clone, Debug)]
pub struct PublicKey {
    /// The algorithm the key is used with.
    pub algorithm: Algorithm,
    /// Key id: hash of the key in its standard form.
    pub kid: String,
    /// RSA: the PKCS#1 form; EC: the uncompressed point.
    bytes: Vec<u8>,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo.
    pub fn from_spki(der: &[u8]) -> anyhow::Result<PublicKey> {
        let (_, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|e| anyhow!("public key: {e}"))?;
        let bytes = spki.subject_public_key.data.to_vec();
        let algorithm = match (spki.algorithm.algorithm.to_id_string().as_str(), bytes.len()) {
            ("1.2.840.113549.1.1.1", _) => Algorithm::Rs256,
            ("1.2.840.10045.2.1", 65) => Algorithm::Es256,
            ("1.2.840.10045.2.1", 97) => Algorithm::Es384,
            (other, _) => bail!("public key algorithm {other} is not supported"),
        };
        Ok(PublicKey { algorithm, kid: URL_SAFE_NO_PAD.encode(Sha256::digest(der)), bytes })
    }

    fn from_parts(algorithm: Algorithm, bytes: &[u8]) -> anyhow::Result<PublicKey> {
        PublicKey::from_spki(&der::spki(algorithm, bytes))
    }

    /// True when `signature` is this key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn ring::signature::VerificationAlgorithm = match self.algorithm {
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
            Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
        };
        UnparsedPublicKey::new(algorithm, &self.bytes).verify(message, signature).is_ok()
    }

    /// The key as a member of a JSON web key set.
    pub fn jwk(&self) -> Value {
        let common =
            |kty: &str| json!({"use": "sig", "kty": kty, "kid": self.kid, "alg": self.algorithm.name()});
        let encode = |b: &[u8]| Value::String(URL_SAFE_NO_PAD.encode(b));
        match self.algorithm {
            Algorithm::Rs256 => {
                let mut jwk = common("RSA");
                if let Some((n, e)) = der::rsa_numbers(&self.bytes) {
                    jwk["n"] = encode(n);
                    jwk["e"] = encode(e);
                }
                jwk
            }
            Algorithm::Es256 | Algorithm::Es384 => {
                let mut jwk = common("EC");
                let (x, y) =
                    self.bytes.get(1..).unwrap_or_default().split_at(self.bytes.len().saturating_sub(1) / 2);
                jwk["crv"] = json!(if self.algorithm == Algorithm::Es256 { "P-256" } else { "P-384" });
                jwk["x"] = encode(x);
                jwk["y"] = encode(y);
                jwk
            }
        }
    }
}

enum Private {
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
}

/// The private key that signs tokens.
pub struct SigningKey {
    private: Private,
    public: PublicKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public.kid)
    }
}

impl SigningKey {
    /// Reads the first private key of a PEM file.
    pub fn from_file(path: &Path) -> anyhow::Result<SigningKey> {
        let pem = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        SigningKey::from_pem(&pem).with_context(|| path.display().to_string())
    }

    /// Reads the first private key of a PEM text.
    pub fn from_pem(pem: &[u8]) -> anyhow::Result<SigningKey> {
        let key = items(pem).iter().find_map(SigningKey::from_item);
        key.ok_or_else(|| anyhow!("no private key (RSA, or EC on P-256 or P-384) in the file"))
    }

    fn from_item(item: &Item) -> Option<SigningKey> {
        match item {
            Item::Pkcs1Key(der) => SigningKey::rsa(RsaKeyPair::from_der(der.secret_pkcs1_der()).ok()?),
            Item::Pkcs8Key(der) => {
                let der = der.secret_pkcs8_der();
                RsaKeyPair::from_pkcs8(der).ok().and_then(SigningKey::rsa).or_else(|| SigningKey::ec(der))
            }
            Item::Sec1Key(der) => {
                let wrap = |a| der::pkcs8_of_sec1(a, der.secret_sec1_der());
                SigningKey::ec(&wrap(Algorithm::Es256)).or_else(|| SigningKey::ec(&wrap(Algorithm::Es384)))
            }
            _ => None,
        }
    }

    fn rsa(pair: RsaKeyPair) -> Option<SigningKey> {
        let public = PublicKey::from_parts(Algorithm::Rs256, pair.public_key().as_ref()).ok()?;
        Some(SigningKey { private: Private::Rsa(Box::new(pair)), public })
    }

    fn ec(pkcs8: &[u8]) -> Option<SigningKey> {
        let rng = SystemRandom::new();
        let kinds = [
            (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED_SIGNING),
            (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED_SIGNING),
        ];
        let found =
            kinds.into_iter().find_map(|(a, k)| Some((a, EcdsaKeyPair::from_pkcs8(k, pkcs8, &rng).ok()?)));
        let (algorithm, pair) = found?;
        let public = PublicKey::from_parts(algorithm, pair.public_key().as_ref()).ok()?;
        Some(SigningKey { private: Private::Ec(Box::new(pair)), public })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let rng = SystemRandom::new();
        match &self.private {
            Private::Rsa(pair) => {
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &rng, message, &mut out)
                    .map_err(|_| anyhow!("signing failed"))?;
                Ok(out)
            }
            Private::Ec(pair) => {
                let signature = pair.sign(&rng, message).map_err(|_| anyhow!("signing failed"))?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

/// All public keys of a PEM file: public keys, certificates, and the public halves of private keys.
pub fn public_keys_of_file(path: &Path) -> anyhow::Result<Vec<PublicKey>> {
    let pem = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let keys = public_keys(&pem);
    if keys.is_empty() {
        bail!("{}: no RSA or EC key in the file", path.display());
    }
    Ok(keys)
}

/// The same out of a PEM text; what is not a key is skipped.
pub fn public_keys(pem: &[u8]) -> Vec<PublicKey> {
    items(pem).iter().filter_map(public_key).collect()
}

fn items(mut pem: &[u8]) -> Vec<Item> {
    rustls_pemfile::read_all(&mut pem).filter_map(Result::ok).collect()
}

fn public_key(item: &Item) -> Option<PublicKey> {
    match item {
        Item::SubjectPublicKeyInfo(der) => PublicKey::from_spki(der.as_ref()).ok(),
        Item::X509Certificate(der) => {
            let (_, cert) = x509_parser::parse_x509_certificate(der.as_ref()).ok()?;
            PublicKey::from_spki(cert.public_key().raw).ok()
        }
        other => SigningKey::from_item(other).map(|k| k.public),
    }
}

/// The few ASN.1 forms that have to be wrapped or taken apart.
mod der {
    use super::Algorithm;

    const RSA: &[u8] =
        &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    const P256: &[u8] = &[
        0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
        0x3d, 0x03, 0x01, 0x07,
    ];
    const P384: &[u8] = &[
        0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
        0x22,
    ];

    fn identifier(algorithm: Algorithm) -> &'static [u8] {
        match algorithm {
            Algorithm::Rs256 => RSA,
            Algorithm::Es256 => P256,
            Algorithm::Es384 => P384,
        }
    }

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = content.len();
        let mut out = vec![tag];
        if len < 128 {
            out.push(len as u8);
        } else {
            let bytes: Vec<u8> = len.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
            out.push(0x80 | bytes.len() as u8);
            out.extend(bytes);
        }
        out.extend_from_slice(content);
        out
    }

    /// SubjectPublicKeyInfo around a key.
    pub fn spki(algorithm: Algorithm, key: &[u8]) -> Vec<u8> {
        let bits: Vec<u8> = std::iter::once(0).chain(key.iter().copied()).collect();
        element(0x30, &[identifier(algorithm), &element(0x03, &bits)].concat())
    }

    /// PKCS#8 around an EC private key in its own form.
    pub fn pkcs8_of_sec1(algorithm: Algorithm, key: &[u8]) -> Vec<u8> {
        element(0x30, &[&[0x02, 0x01, 0x00], identifier(algorithm), &element(0x04, key)].concat())
    }

    /// Tag, content and rest of an element.
    fn take(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
        let (&tag, rest) = der.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut len = usize::from(first);
        if first >= 0x80 {
            let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            len = bytes.iter().try_fold(0usize, |n, b| n.checked_mul(256)?.checked_add(usize::from(*b)))?;
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(len)?;
        Some((tag, content, rest))
    }

    fn trim(number: &[u8]) -> &[u8] {
        if let [0, rest @ ..] = number { rest } else { number }
    }

    /// Modulus and exponent of an RSA public key, without leading zeros.
    pub fn rsa_numbers(key: &[u8]) -> Option<(&[u8], &[u8])> {
        let (_, body, _) = take(key)?;
        let (_, n, rest) = take(body)?;
        let (_, e, _) = take(rest)?;
        Some((trim(n), trim(e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().expect("key");
        (key.serialize_pem(), key.public_key_pem())
    }

    #[test]
    fn signed_by_the_one_checked_by_the_other() {
        let (private, public) = pair();
        let key = SigningKey::from_pem(private.as_bytes()).expect("private");
        let publics = public_keys(public.as_bytes());
        assert_eq!(publics.len(), 1);
        assert_eq!(publics[0].kid, key.public().kid);
        let signature = key.sign(b"hello").expect("signature");
        assert!(publics[0].verify(b"hello", &signature));
        assert!(!publics[0].verify(b"hellp", &signature));
        let (_, other) = pair();
        assert!(!public_keys(other.as_bytes())[0].verify(b"hello", &signature));
    }

    #[test]
    fn private_files_serve_as_public_ones() {
        let (private, _) = pair();
        let key = SigningKey::from_pem(private.as_bytes()).expect("private");
        assert_eq!(public_keys(private.as_bytes())[0].kid, key.public().kid);
        let jwk = key.public().jwk();
        assert_eq!(jwk["kty"], "EC");
        assert_eq!(jwk["x"].as_str().map(str::len), Some(43));
    }

    #[test]
    fn rubbish_is_no_key() {
        assert!(public_keys(b"-----BEGIN NONSENSE-----\nAAAA\n-----END NONSENSE-----\n").is_empty());
        assert!(SigningKey::from_pem(b"").is_err());
    }
}
