//! Bootstrap tokens and the signature of cluster-info.

use anyhow::{Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;

/// A bootstrap token `id.secret`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Public part, 6 of `[a-z0-9]`.
    pub id: String,
    /// Secret part, 16 of `[a-z0-9]`.
    pub secret: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({}.***)", self.id)
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

impl Token {
    /// A new random token.
    pub fn generate() -> Self {
        let text = coxctl_config::defaults::new_token();
        let (id, secret) = text.split_once('.').unwrap_or_default();
        Self { id: id.into(), secret: secret.into() }
    }

    /// Reads `id.secret`.
    ///
    /// # Errors
    /// Any other form.
    pub fn parse(text: &str) -> Result<Self> {
        let parts = text.split_once('.').filter(|(id, secret)| is_id(id) && is_word(secret, 16));
        let form = r#"the bootstrap token is not of the form "[a-z0-9]{6}.[a-z0-9]{16}""#;
        let (id, secret) = parts.ok_or_else(|| anyhow::anyhow!(form))?;
        Ok(Self { id: id.into(), secret: secret.into() })
    }

    /// Name of its secret in kube-system.
    pub fn secret_name(&self) -> String {
        format!("bootstrap-token-{}", self.id)
    }
}

/// Whether the text is the id of a token.
pub fn is_id(text: &str) -> bool {
    is_word(text, 6)
}

fn is_word(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

/// Whether the text may be an extra group of a token.
///
/// # Errors
/// A group of another form.
pub fn check_group(group: &str) -> Result<()> {
    ensure!(
        coxctl_config::validate::is_bootstrap_group(group),
        r#"bootstrap group {group:?} is invalid (must match \Asystem:bootstrappers:[a-z0-9:-]{{0,255}}[a-z0-9]\z)"#
    );
    Ok(())
}

/// The detached signature of `content` (`header..signature`), as stored in cluster-info under `jws-kubeconfig-ID`.
pub fn sign(content: &str, token: &Token) -> String {
    let header = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{}"}}"#, token.id));
    let input = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(content));
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.secret.as_bytes());
    let signature = hmac::sign(&key, input.as_bytes());
    format!("{header}..{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// Whether `signature` is that of `content` under the token: made again and compared whole.
pub fn verify(content: &str, token: &Token, signature: &str) -> bool {
    sign(content, token) == signature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_one_form() {
        let token = Token::generate();
        assert_eq!(Token::parse(&token.to_string()).unwrap(), token);
        for bad in
            ["", "abcdef", "abcdef.0123456789abcde", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef\n"]
        {
            assert!(Token::parse(bad).is_err(), "{bad:?}");
        }
        assert!(!format!("{token:?}").contains(&token.secret));
    }

    #[test]
    fn groups_are_bootstrappers() {
        check_group("system:bootstrappers:kubeadm:default-node-token").unwrap();
        for bad in
            ["system:masters", "system:bootstrappers:", "system:bootstrappers:a-", "system:bootstrappers:A"]
        {
            assert!(check_group(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signature_holds_for_its_content_and_token_alone() {
        let token = Token::parse("abcdef.0123456789abcdef").unwrap();
        let signature = sign("content", &token);
        assert!(signature.starts_with("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9.."));
        assert!(verify("content", &token, &signature));
        assert!(!verify("contents", &token, &signature));
        assert!(!verify("content", &Token::parse("abcdef.0123456789abcdee").unwrap(), &signature));
    }
}
