//! Addresses for Services of type LoadBalancer, if the user gave a pool of them: the file that
//! cloud-controller-manager reads, the same on all control planes.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use serde_json::json;

/// The ConfigMap from which other control planes get it, in kube-system.
pub const NAME: &str = "coxswain-cloud";
/// Its key.
pub const KEY: &str = "cloud.yaml";

/// The file for one pool; `None` when it is empty.
///
/// # Errors
/// An entry that is neither a network, nor a range, nor an address.
pub fn config(pool: &[String]) -> Result<Option<String>> {
    if pool.is_empty() {
        return Ok(None);
    }
    for entry in pool {
        ensure!(
            is_range(entry.trim()),
            "--load-balancer-pool: {entry:?} is neither a network (10.0.0.0/24), nor a range (10.0.0.1-10.0.0.9), nor an address"
        );
    }
    let addresses: Vec<&str> = pool.iter().map(|p| p.trim()).collect();
    let document = json!({
        "apiVersion": "cloud.coxswain.io/v1alpha1", "kind": "CloudConfiguration",
        "pools": [{"name": "default", "addresses": addresses}],
    });
    Ok(Some(serde_yaml::to_string(&document)?))
}

fn is_range(text: &str) -> bool {
    let is = |t: &str| t.trim().parse::<IpAddr>().ok();
    let range =
        |(a, b): (&str, &str)| is(a).zip(is(b)).is_some_and(|(a, b)| a.is_ipv4() == b.is_ipv4() && a <= b);
    let net = |(ip, bits): (&str, &str)| {
        let most = is(ip).map_or(0, |ip| if ip.is_ipv4() { 32 } else { 128 });
        bits.parse::<u8>().is_ok_and(|n| n > 0 && n <= most)
    };
    is(text).is_some() || text.split_once('-').is_some_and(range) || text.split_once('/').is_some_and(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_becomes_a_file() {
        assert_eq!(config(&[]).unwrap(), None);
        let text = config(&["10.0.0.0/28".into(), " fd00::1-fd00::9".into()]).unwrap().unwrap();
        assert!(text.contains("- fd00::1-fd00::9\n") && text.contains("kind: CloudConfiguration"), "{text}");
        for bad in ["x", "10.0.0.0/33", "10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1", ""] {
            let error = config(&[bad.into()]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--load-balancer-pool: {bad:?} is neither")), "{error}");
        }
    }
}
