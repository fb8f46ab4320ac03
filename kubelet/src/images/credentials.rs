//! Pull credentials out of Secrets of the types dockercfg and dockerconfigjson.

use crate::runtime::cri;
use base64::Engine;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;
use std::sync::Arc;

/// The credentials that fit an image, most specific first.
pub fn for_image(secrets: &[Arc<Secret>], image: &str) -> Vec<cri::AuthConfig> {
    let mut found: Vec<(usize, cri::AuthConfig)> = Vec::new();
    for (registry, entry) in secrets.iter().flat_map(|s| entries(s)) {
        if let (Some(len), Some(auth)) = (matches(&registry, image), auth(&entry, &registry)) {
            found.push((len, auth));
        }
    }
    found.sort_by_key(|(len, _)| std::cmp::Reverse(*len));
    found.into_iter().map(|(_, a)| a).collect()
}

fn entries(secret: &Secret) -> Vec<(String, Value)> {
    let data = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        serde_json::from_slice::<Value>(&bytes.0).ok()
    };
    let auths = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => {
            data(".dockerconfigjson").and_then(|v| v.get("auths").cloned())
        }
        Some("kubernetes.io/dockercfg") => data(".dockercfg"),
        _ => None,
    };
    match auths {
        Some(Value::Object(map)) => map.into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Host and path of an image; images without a registry belong to docker.io.
fn split(image: &str) -> (String, String) {
    let first = image.split('/').next().unwrap_or_default();
    let has_host = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    match image.split_once('/') {
        Some((host, path)) if has_host => (host.to_owned(), path.to_owned()),
        _ => ("docker.io".to_owned(), image.to_owned()),
    }
}

/// Length of the match of a registry key with an image, None if it does not fit.
fn matches(registry: &str, image: &str) -> Option<usize> {
    let bare = registry.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let (key_host, key_path) = bare.split_once('/').unwrap_or((bare, ""));
    let key_path = if matches!(key_path, "v1" | "v2") { "" } else { key_path };
    let (host, path) = split(image);
    let key_host = if key_host == "index.docker.io" { "docker.io" } else { key_host };
    let host_fits = key_host == host || wildcard(key_host, &host);
    let path_fits = key_path.is_empty() || path == key_path || path.starts_with(&format!("{key_path}/"));
    (host_fits && path_fits).then_some(bare.len())
}

fn wildcard(pattern: &str, host: &str) -> bool {
    let (p, h): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), host.split('.').collect());
    pattern.contains('*') && p.len() == h.len() && p.iter().zip(&h).all(|(p, h)| *p == "*" || p == h)
}

fn auth(entry: &Value, registry: &str) -> Option<cri::AuthConfig> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    if username.is_empty() {
        let decoded = base64::engine::general_purpose::STANDARD.decode(text("auth")).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (u, p) = decoded.trim_end_matches('\0').split_once(':')?;
        (username, password) = (u.to_owned(), p.to_owned());
    }
    Some(cri::AuthConfig {
        username,
        password,
        identity_token: text("identitytoken"),
        server_address: registry.to_owned(),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_registry_first() {
        let config = r#"{"auths":{"r.io":{"auth":"dTpw"},"r.io/team":{"username":"t","password":"q"},"*.corp.io":{"username":"w","password":"w"},"other":{"auth":"dTpw"}}}"#;
        let secret: Secret = serde_json::from_value(serde_json::json!({
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": base64::engine::general_purpose::STANDARD.encode(config)}
        }))
        .unwrap();
        let secrets = [Arc::new(secret)];
        let users =
            |image: &str| for_image(&secrets, image).into_iter().map(|a| a.username).collect::<Vec<_>>();
        assert_eq!(users("r.io/team/app:1"), ["t", "u"]);
        assert_eq!(users("r.io/teams/app:1"), ["u"]);
        assert_eq!(users("a.corp.io/x"), ["w"]);
        assert!(users("busybox").is_empty());
    }
}
