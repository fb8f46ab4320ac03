//! Addresses, ranges and ports.

use crate::registry::errs::{At, Errs};
use machinery::names;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The wording for something that is no address.
pub const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// Parses an address as stored ones may be: IPv4 parts with leading zeros are read as decimal.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let parts: Vec<&str> = text.split('.').collect();
    let octet = |p: &&str| p.bytes().all(|b| b.is_ascii_digit()).then(|| p.parse::<u8>().ok()).flatten();
    let octets: Option<Vec<u8>> = parts.iter().map(octet).collect();
    let octets: [u8; 4] = octets?.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(octets)))
}

/// An address in strict form: no leading zeros, no IPv4 mapped into IPv6. `old` are values that are tolerated.
pub fn ip(text: &str, old: &[&str], at: &At<'_>, errs: &mut Errs) -> Option<IpAddr> {
    let parsed = parse_ip(text);
    match parsed {
        None => errs.invalid(at, text, NOT_AN_IP),
        Some(_) if old.contains(&text) => {}
        Some(IpAddr::V6(v6)) if mapped(v6) => {
            errs.invalid(at, text, "must not be an IPv4-mapped IPv6 address")
        }
        Some(_) if text.parse::<IpAddr>().is_err() => errs.invalid(at, text, "must not have leading 0s"),
        Some(_) => {}
    }
    parsed
}

fn mapped(ip: Ipv6Addr) -> bool {
    ip.to_ipv4_mapped().is_some()
}

/// A range in strict form. `old` are values that are tolerated.
pub fn cidr(text: &str, old: &[&str], at: &At<'_>, errs: &mut Errs) -> Option<ipnet::IpNet> {
    let parsed = parse_cidr(text);
    match parsed {
        None => errs.invalid(at, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        Some(_) if old.contains(&text) => {}
        Some(net) if net.addr() != net.network() => {
            errs.invalid(at, text, "must not have bits set beyond the prefix length");
        }
        Some(_) => {}
    }
    parsed
}

/// Parses a range as stored ones may be.
pub fn parse_cidr(text: &str) -> Option<ipnet::IpNet> {
    let (ip, bits) = text.split_once('/')?;
    ipnet::IpNet::new(parse_ip(ip)?, bits.parse().ok()?).ok()
}

/// Addresses that no endpoint and no external address can have.
pub fn special(ip: &IpAddr, text: &str, at: &At<'_>, errs: &mut Errs) {
    if ip.is_unspecified() {
        errs.invalid(at, text, format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        errs.invalid(at, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (unicast, multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), matches!(v4.octets(), [224, 0, 0, _])),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), matches!(v6.segments(), [0xff02, ..])),
    };
    if unicast {
        errs.invalid(at, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        errs.invalid(at, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// A port number.
pub fn port_number(port: i64, at: &At<'_>, errs: &mut Errs) {
    errs.in_range(at, port, 1, 65535);
}

/// A port by number or by name.
pub fn port_number_or_name(value: &Value, at: &At<'_>, errs: &mut Errs) {
    match value {
        Value::String(name) => errs.invalid_each(at, name, names::is_port_name(name)),
        other => port_number(other.as_i64().unwrap_or(0), at, errs),
    }
}

/// `IPv4` or `IPv6`.
pub fn family(ip: &IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Whether an address is not in its canonical spelling, and so worth a warning.
pub fn warn_ip(at: &At<'_>, text: &str, warnings: &mut Vec<String>) {
    let Some(ip) = parse_ip(text) else { return };
    if text.parse::<IpAddr>().is_err() {
        warnings.push(format!("{at}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use {:?}", ip.to_string()));
    } else if ip.is_ipv6() && ip.to_string() != text {
        warnings.push(format!(
            "{at}: IPv6 address {text:?} should be in RFC 5952 canonical format ({:?})",
            ip.to_string()
        ));
    }
}
