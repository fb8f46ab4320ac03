//! Rules of address ranges.

use ipnet::IpNet;
use machinery::field::Path;
use machinery::names::is_dns1123_subdomain;

use super::each;
use crate::{Arg, ClusterConfiguration, FieldError};

/// A service range needs ten addresses: the API server's is the first, DNS's the tenth.
const MIN_SERVICE: u128 = 10;
/// Room for the smallest node range that still holds pods.
const MIN_POD: u128 = 14;
/// A service range has a bit in a map for each address.
const MAX_SERVICE_BITS: u8 = 20;
/// Ranges of nodes within the pods' range are counted in 16 bits.
const MAX_MASK_DIFFERENCE: u8 = 16;

pub(super) fn validate(cluster: &ClusterConfiguration) -> Vec<FieldError> {
    let at = Path::new("networking");
    let net = &cluster.networking;
    let mut errors: Vec<FieldError> =
        each(&at.child("dnsDomain"), is_dns1123_subdomain(&net.dns_domain), &net.dns_domain).collect();
    errors.extend(services(&at.child("serviceSubnet"), &net.service_subnet));
    if !net.pod_subnet.is_empty() {
        errors.extend(pods(&at.child("podSubnet"), &net.pod_subnet, &cluster.controller_manager.extra_args));
        errors.extend(families(&at, &net.service_subnet, &net.pod_subnet));
    }
    errors
}

fn services(at: &Path, text: &str) -> Vec<FieldError> {
    let nets = match ranges(at, text, MIN_SERVICE) {
        Ok(nets) => nets,
        Err(errors) => return errors,
    };
    let large = nets.iter().filter(|n| n.max_prefix_len() - n.prefix_len() > MAX_SERVICE_BITS);
    let detail = |n: &IpNet| {
        let bits = n.max_prefix_len();
        format!(
            "specified service subnet is too large; for {bits}-bit addresses, the mask must be >= {}",
            bits - MAX_SERVICE_BITS
        )
    };
    large.map(|n| FieldError::invalid(at, text, detail(n))).collect()
}

fn pods(at: &Path, text: &str, args: &[Arg]) -> Vec<FieldError> {
    let nets = match ranges(at, text, MIN_POD) {
        Ok(nets) => nets,
        Err(errors) => return errors,
    };
    nets.iter().filter_map(|net| masks(at, text, net, args)).collect()
}

fn masks(at: &Path, text: &str, net: &IpNet, args: &[Arg]) -> Option<FieldError> {
    let (pod, node) = (net.prefix_len(), node_mask(net, args));
    let detail = if pod > node {
        format!(
            "the size of pod subnet with mask {pod} is smaller than the size of node subnet with mask {node}"
        )
    } else if node - pod > MAX_MASK_DIFFERENCE {
        format!(
            "pod subnet mask ({pod}) and node-mask ({node}) difference is greater than {MAX_MASK_DIFFERENCE}"
        )
    } else {
        return None;
    };
    Some(FieldError::invalid(at, text, detail))
}

/// Size of a node's range: an argument of the controller manager, else 24 or 64.
fn node_mask(net: &IpNet, args: &[Arg]) -> u8 {
    let (own, default) = match net {
        IpNet::V4(_) => ("node-cidr-mask-size-ipv4", 24),
        IpNet::V6(_) => ("node-cidr-mask-size-ipv6", 64),
    };
    let given = |name: &str| args.iter().rev().find(|a| a.name == name).and_then(|a| a.value.parse().ok());
    given(own).or_else(|| given("node-cidr-mask-size")).unwrap_or(default)
}

/// One range, or two of different families, each large enough.
fn ranges(at: &Path, text: &str, least: u128) -> Result<Vec<IpNet>, Vec<FieldError>> {
    let invalid = |detail: String| vec![FieldError::invalid(at, text, detail)];
    let parsed: Result<Vec<IpNet>, _> = text.split(',').map(|t| t.trim().parse::<IpNet>()).collect();
    let nets = parsed.map_err(|_| invalid("couldn't parse subnet".into()))?;
    let two_families = || nets[0].addr().is_ipv4() != nets[1].addr().is_ipv4();
    if nets.len() > 2 || (nets.len() == 2 && !two_families()) {
        let detail =
            "expected one (IPv4 or IPv6) CIDR or two CIDRs from each family for dual-stack networking";
        return Err(invalid(detail.into()));
    }
    let small: Vec<FieldError> =
        nets.iter().filter(|n| size(n) < least).flat_map(|n| too_small(at, n, least)).collect();
    if small.is_empty() { Ok(nets) } else { Err(small) }
}

fn too_small(at: &Path, net: &IpNet, least: u128) -> Option<FieldError> {
    let detail = format!("subnet with {} address(es) is too small, the minimum is {least}", size(net));
    Some(FieldError::invalid(at, net.to_string(), detail))
}

fn size(net: &IpNet) -> u128 {
    1u128.checked_shl(u32::from(net.max_prefix_len() - net.prefix_len())).unwrap_or(u128::MAX)
}

/// Services and pods are of the same families, in the same order.
fn families(at: &Path, services: &str, pods: &str) -> Option<FieldError> {
    let of = |text: &str| -> Option<Vec<bool>> {
        text.split(',').map(|t| t.trim().parse::<IpNet>().ok().map(|n| n.addr().is_ipv4())).collect()
    };
    let (own, theirs) = (of(services)?, of(pods)?);
    let same = own.iter().all(|s| theirs.contains(s)) && theirs.iter().all(|p| own.contains(p));
    let detail = "the IP families of podSubnet and serviceSubnet differ";
    (!same).then(|| FieldError::invalid(&at.child("podSubnet"), pods, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::default_cluster;

    fn errors(services: &str, pods: &str, args: &[(&str, &str)]) -> Vec<String> {
        let mut cluster = ClusterConfiguration::default();
        cluster.networking.service_subnet = services.into();
        cluster.networking.pod_subnet = pods.into();
        cluster.controller_manager.extra_args =
            args.iter().map(|(n, v)| Arg { name: n.to_string(), value: v.to_string() }).collect();
        default_cluster(&mut cluster);
        validate(&cluster).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ranges_that_are_fine() {
        for (services, pods) in [
            ("10.96.0.0/12", "10.244.0.0/16"),
            ("10.96.0.0/28", "10.0.0.0/8"),
            ("10.96.0.0/16,fd00:1::/112", "10.244.0.0/16,fd00:2::/56"),
            ("fd00:1::/108", "fd00:2::/48"),
        ] {
            assert_eq!(errors(services, pods, &[]), [""; 0], "{services} {pods}");
        }
        assert_eq!(errors("10.96.0.0/16", "10.244.0.0/26", &[("node-cidr-mask-size", "28")]), [""; 0]);
    }

    #[test]
    fn ranges_that_are_not() {
        for (services, pods, want) in [
            (
                "10.96.0.0/29",
                "10.244.0.0/16",
                "networking.serviceSubnet: Invalid value: \"10.96.0.0/29\": subnet with 8 address(es) is too small, the minimum is 10",
            ),
            ("10.0.0.0/8", "10.244.0.0/16", "for 32-bit addresses, the mask must be >= 12"),
            ("fd00::/64", "fd01::/48", "for 128-bit addresses, the mask must be >= 108"),
            (
                "10.96.0.0/12",
                "10.244.0.0/28",
                "the size of pod subnet with mask 28 is smaller than the size of node subnet with mask 24",
            ),
            ("10.96.0.0/12", "10.0.0.0/7", "difference is greater than 16"),
            ("10.96.0.0/12", "10.244.0.0/29", "too small, the minimum is 14"),
            (
                "10.96.0.0/12,10.1.0.0/16",
                "10.244.0.0/16",
                "expected one (IPv4 or IPv6) CIDR or two CIDRs from each family",
            ),
            ("nonsense", "10.244.0.0/16", "couldn't parse subnet"),
            ("10.96.0.0/12", "fd00::/48", "the IP families"),
        ] {
            let got = errors(services, pods, &[]).join("\n");
            assert!(got.contains(want), "{got:?} lacks {want:?}");
        }
    }
}
