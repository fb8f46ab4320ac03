//! What is wrong with a document, by field. Every check is of a document already defaulted.

mod cluster;
mod machine;
mod network;

pub use cluster::{validate_cluster, without_effect};
pub use machine::{
    check_mixed, ignored_checks, is_bootstrap_group, validate_init, validate_join, validate_reset,
    validate_upgrade,
};

use machinery::field::Path;
use machinery::names::{is_dns1123_subdomain, is_wildcard_dns1123_subdomain};

use crate::FieldError;

/// Field errors as one text: each on its own line when there are several.
pub fn report(errors: &[FieldError]) -> String {
    machinery::field::join(errors)
}

pub(crate) fn each<'a>(
    path: &Path,
    complaints: Vec<String>,
    value: &'a str,
) -> impl Iterator<Item = FieldError> + use<'a> {
    let path = path.clone();
    complaints.into_iter().map(move |detail| FieldError::invalid(&path, value, detail))
}

pub(crate) fn absolute(path: &Path, value: &str) -> Option<FieldError> {
    (!value.starts_with('/')).then(|| FieldError::invalid(path, value, "path is not absolute"))
}

/// An address, a name, or a name with a wildcard.
pub(crate) fn is_alt_name(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
        || is_dns1123_subdomain(text).is_empty()
        || is_wildcard_dns1123_subdomain(text).is_empty()
}

pub(crate) fn alt_names(path: &Path, names: &[String]) -> Vec<FieldError> {
    let bad = names.iter().enumerate().filter(|(_, n)| !is_alt_name(n));
    let detail = "altName is not a valid IP address, DNS label or a DNS label with subdomain wildcards";
    bad.map(|(i, n)| FieldError::invalid(&path.index(i), n.as_str(), detail)).collect()
}

/// A host that is an address or a name, and a port in range when there is one.
pub(crate) fn host_port(path: &Path, text: &str) -> Vec<FieldError> {
    let (host, port) = crate::split_host_port(text);
    let bare = [host.to_string(), format!("[{host}]")].contains(&text.to_string());
    if !bare && !port.is_some_and(|p| (1..=65535).contains(&p)) {
        return vec![FieldError::invalid(
            path,
            text,
            "port must be a valid number between 1 and 65535, inclusive",
        )];
    }
    if host.parse::<std::net::IpAddr>().is_ok() || is_dns1123_subdomain(host).is_empty() {
        return Vec::new();
    }
    let detail = format!("hostname {host:?} should be a valid IP address or a DNS-1123 subdomain");
    vec![FieldError::invalid(path, text, detail)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_ports() {
        for (text, fine) in [
            ("api.example", true),
            ("api.example:6443", true),
            ("10.0.0.1", true),
            ("[fd00::1]:6443", true),
            ("fd00::1", true),
            ("api.example:", false),
            ("api.example:70000", false),
            ("https://api.example", false),
            ("API:6443", false),
        ] {
            assert_eq!(host_port(&Path::new("x"), text).is_empty(), fine, "{text}");
        }
    }

    #[test]
    fn alternative_names() {
        let names: Vec<String> =
            ["10.0.0.1", "a.example", "*.example", "fd00::1", "a_b", "*"].map(String::from).into();
        let errors = alt_names(&Path::new("apiServer.certSANs"), &names);
        let fields: Vec<&str> = errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(fields, ["apiServer.certSANs[4]", "apiServer.certSANs[5]"]);
    }
}
