//! Why a server could not be reached.

use crate::Error;

/// Why no answer came, in kubectl's words.
pub fn connect_error(server: &str, cause: &dyn std::error::Error) -> Error {
    let text = deepest(cause);
    let host =
        server.split_once("://").map_or(server, |(_, host)| host).split('/').next().unwrap_or_default();
    if text.contains("Connection refused") {
        return Error::Unreachable(format!(
            "The connection to the server {host} was refused - did you specify the right host or port?"
        ));
    }
    let said = if text.contains("not valid for name") {
        format!("tls: failed to verify certificate: x509: {}", valid_for(&text))
    } else if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_string()
    } else if text.contains("certificate expired") || text.contains("Expired") {
        "tls: failed to verify certificate: x509: certificate has expired or is not yet valid".to_string()
    } else if text.contains("failed to lookup address") {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        format!("dial tcp: lookup {name}: no such host")
    } else if text.contains("deadline has elapsed") || text.contains("timed out") {
        format!("dial tcp {host}: i/o timeout")
    } else {
        text
    };
    Error::Unreachable(format!("Unable to connect to the server: {said}"))
}

/// The innermost cause says what really happened.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}

/// Whom a certificate is for, from the TLS library's sentence.
fn valid_for(text: &str) -> String {
    let (head, names) = text.split_once("only valid for").unwrap_or((text, ""));
    let wanted = head.split('"').nth(1).unwrap_or_default();
    let address = wanted.parse::<std::net::IpAddr>().is_ok();
    let names: Vec<&str> = names
        .split([',', ' '])
        .filter_map(|name| match address {
            true => name.strip_prefix("IpAddress(").map(|name| name.trim_end_matches(')')),
            false => name.strip_prefix("DnsName(\"").map(|name| name.trim_end_matches("\")")),
        })
        .collect();
    match names.is_empty() {
        true => format!("cannot validate certificate for {wanted} because it doesn't contain any IP SANs"),
        false => format!("certificate is valid for {}, not {wanted}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_for_others() {
        let text = "invalid peer certificate: certificate not valid for name \"foo\"; certificate is only valid for DnsName(\"a\"), DnsName(\"b.c\"), IpAddress(10.0.0.1) or IpAddress(127.0.0.1)";
        assert_eq!(valid_for(text), "certificate is valid for a, b.c, not foo");
        assert_eq!(
            valid_for(&text.replace("foo", "1.2.3.4")),
            "certificate is valid for 10.0.0.1, 127.0.0.1, not 1.2.3.4"
        );
    }
}
