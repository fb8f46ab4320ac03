//! Sealing of the certificates that control planes share: AES-256-GCM, a random nonce of 12 bytes before the ciphertext.

use anyhow::{Context, Result, ensure};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// A new certificate key: 32 random bytes as 64 hex digits.
///
/// # Errors
/// No randomness.
pub fn certificate_key() -> Result<String> {
    let mut key = [0u8; 32];
    fill(&mut key)?;
    Ok(hex::encode(key))
}

/// Seals `data` under a certificate key.
///
/// # Errors
/// A key that is not 64 hex digits; no randomness.
pub fn seal(key: &str, data: &[u8]) -> Result<Vec<u8>> {
    let mut nonce = [0u8; NONCE_LEN];
    fill(&mut nonce)?;
    let mut body = data.to_vec();
    cipher(key)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut body)
        .ok()
        .context("sealing failed")?;
    Ok([nonce.as_slice(), &body].concat())
}

/// Opens what [`seal`] made.
///
/// # Errors
/// A key that is not 64 hex digits; text sealed under another key, cut off or changed.
pub fn open(key: &str, sealed: &[u8]) -> Result<Vec<u8>> {
    let (nonce, body) = sealed.split_at_checked(NONCE_LEN).context("the sealed text is too short")?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok().context("the sealed text is too short")?;
    let mut body = body.to_vec();
    let plain = cipher(key)?
        .open_in_place(nonce, Aad::empty(), &mut body)
        .ok()
        .context("the certificate key does not open this: it was sealed under another key, or changed")?;
    Ok(plain.to_vec())
}

/// The name of a shared file in the secret: `/` becomes `-`.
pub fn data_key(relative: &str) -> String {
    relative.replace('/', "-")
}

fn cipher(key: &str) -> Result<LessSafeKey> {
    let bytes = hex::decode(key).ok().filter(|b| b.len() == 32);
    let bytes = bytes.context("a certificate key is 64 hexadecimal digits (32 bytes)")?;
    let key = UnboundKey::new(&AES_256_GCM, &bytes).ok().context("the certificate key is unusable")?;
    Ok(LessSafeKey::new(key))
}

fn fill(out: &mut [u8]) -> Result<()> {
    let filled = SystemRandom::new().fill(out);
    ensure!(filled.is_ok(), "no random numbers from the system");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_key_opens() {
        let (key, other) = (certificate_key().unwrap(), certificate_key().unwrap());
        let sealed = seal(&key, b"secret").unwrap();
        assert_eq!(sealed.len(), 12 + 6 + 16);
        assert_eq!(open(&key, &sealed).unwrap(), b"secret");
        assert!(open(&other, &sealed).unwrap_err().to_string().contains("another key"));
        assert!(open(&key, &sealed[..10]).is_err());
        assert!(seal("abc", b"").unwrap_err().to_string().contains("64 hexadecimal"));
        assert_eq!(data_key("etcd/ca.crt"), "etcd-ca.crt");
    }

    #[test]
    fn a_known_answer_of_the_cipher() {
        // All-zero key and nonce over 16 zero bytes: test case 14 of the GCM specification.
        let sealed = hex::decode(
            "000000000000000000000000cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
        );
        assert_eq!(open(&"0".repeat(64), &sealed.unwrap()).unwrap(), [0u8; 16]);
    }
}
