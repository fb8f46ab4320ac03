//! The compact form of signed tokens. Says who signed what; what the claims mean is for others.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::keys::{PublicKey, SigningKey};

/// Longest token that is looked at, in bytes.
const MAX_LEN: usize = 64 * 1024;

/// Why a token is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Not a token of this form at all.
    #[error("the token is malformed")]
    Malformed,
    /// No key of ours made the signature.
    #[error("the token's signature is not of a known key")]
    Signature,
}

/// Signs claims into a token.
pub fn sign(key: &SigningKey, claims: &Value) -> anyhow::Result<String> {
    let header = json!({"alg": key.public().algorithm.name(), "kid": key.public().kid});
    let encode = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
    let message = format!("{}.{}", encode(&header), encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())?);
    Ok(format!("{message}.{signature}"))
}

fn json_part(part: &str) -> Result<Value, JwtError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| JwtError::Malformed)
}

fn parts(token: &str) -> Result<[&str; 3], JwtError> {
    let parts: Vec<&str> = token.split('.').collect();
    if token.len() > MAX_LEN {
        return Err(JwtError::Malformed);
    }
    <[&str; 3]>::try_from(parts).map_err(|_| JwtError::Malformed)
}

/// The issuer a token names, unchecked: only good for choosing who is to check it.
pub fn issuer(token: &str) -> Option<String> {
    let [_, claims, _] = parts(token).ok()?;
    Some(json_part(claims).ok()?.get("iss")?.as_str()?.to_owned())
}

/// The claims of a token that one of the keys signed. The key named by the header is tried first;
/// a header naming none of ours is tried against all, as keys made elsewhere may be named otherwise.
pub fn verify(token: &str, keys: &[PublicKey]) -> Result<Value, JwtError> {
    let [header, claims, signature] = parts(token)?;
    let head = json_part(header)?;
    let alg = head.get("alg").and_then(Value::as_str).ok_or(JwtError::Malformed)?;
    let kid = head.get("kid").and_then(Value::as_str).unwrap_or_default();
    let message = token.get(..header.len() + 1 + claims.len()).ok_or(JwtError::Malformed)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtError::Malformed)?;
    let named = keys.iter().any(|k| k.kid == kid);
    let tried = keys.iter().filter(|k| k.algorithm.name() == alg && (!named || k.kid == kid));
    let good = tried.into_iter().any(|k| k.verify(message.as_bytes(), &signature));
    if good { json_part(claims) } else { Err(JwtError::Signature) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        let pem = rcgen::KeyPair::generate().expect("key").serialize_pem();
        SigningKey::from_pem(pem.as_bytes()).expect("signing key")
    }

    #[test]
    fn there_and_back() {
        let key = key();
        let claims = json!({"iss": "https://x", "sub": "y"});
        let token = sign(&key, &claims).expect("token");
        assert_eq!(issuer(&token).as_deref(), Some("https://x"));
        assert_eq!(verify(&token, &[key.public().clone()]), Ok(claims));
    }

    #[test]
    fn tampering_is_seen() {
        let (mine, other) = (key(), key());
        let token = sign(&mine, &json!({"sub": "a"})).expect("token");
        let keys = [mine.public().clone()];
        assert_eq!(verify(&token, &[other.public().clone()]), Err(JwtError::Signature));
        let forged = URL_SAFE_NO_PAD.encode(r#"{"sub":"b"}"#);
        let [h, _, s] = parts(&token).expect("parts");
        assert_eq!(verify(&format!("{h}.{forged}.{s}"), &keys), Err(JwtError::Signature));
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        assert_eq!(verify(&format!("{none}.{forged}."), &keys), Err(JwtError::Signature));
        for bad in ["", "a.b", "a.b.c.d", "?.?.?"] {
            assert_eq!(verify(bad, &keys), Err(JwtError::Malformed), "{bad}");
        }
    }
}
