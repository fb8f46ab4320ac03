//! Secrets.

use super::config_map::{MAX_SIZE, decoded_len, sealed};
use crate::registry::errs::{At, Errs};
use crate::registry::kind::Kind;
use crate::registry::val::{at, entries, s};
use base64::Engine;
use machinery::names;
use serde_json::Value;

/// Secrets.
pub const KIND: Kind = Kind {
    validate,
    fixed: &["type"],
    validate_update: |new, old, errs| sealed(new, old, &["data"], errs),
    ..Kind::core("secrets")
};

fn validate(new: &Value, _: Option<&Value>, errs: &mut Errs) {
    let data = At::ROOT.f("data");
    let mut size = 0;
    for (key, value) in entries(new, "data") {
        errs.invalid_each(&data.k(key), key, names::is_config_key(key));
        size += decoded_len(value.as_str().unwrap_or_default());
    }
    if size > MAX_SIZE {
        errs.too_long(&data, MAX_SIZE);
    }
    by_type(new, &data, errs);
}

/// Keys that some types of secrets cannot do without.
fn by_type(new: &Value, data: &At<'_>, errs: &mut Errs) {
    let value = |key: &str| at(new, &["data", key]).and_then(Value::as_str);
    match s(new, "type") {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if at(new, &["metadata", "annotations", key])
                .and_then(Value::as_str)
                .unwrap_or_default()
                .is_empty()
            {
                errs.required(&At::ROOT.f("metadata.annotations").k(key), "");
            }
        }
        "kubernetes.io/dockercfg" => docker(value(".dockercfg"), ".dockercfg", data, errs),
        "kubernetes.io/dockerconfigjson" => {
            docker(value(".dockerconfigjson"), ".dockerconfigjson", data, errs)
        }
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            errs.required(&data.k("username"), "");
            errs.required(&data.k("password"), "");
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").unwrap_or_default().is_empty() => {
            errs.required(&data.k("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|k| value(k).is_none()) {
                errs.required(&data.k(key), "");
            }
        }
        _ => {}
    }
}

fn docker(value: Option<&str>, key: &str, data: &At<'_>, errs: &mut Errs) {
    let Some(text) = value else {
        return errs.required(&data.k(key), "");
    };
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    if serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes).is_err() {
        errs.invalid(&data.k(key), "<secret contents redacted>", "must be a JSON object");
    }
}
