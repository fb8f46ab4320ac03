//! The images a cluster needs. The control plane is no pods here, so they are few.

use crate::ClusterConfiguration;

/// Registry of the images that come with the build.
pub const DEFAULT_IMAGE_REPOSITORY: &str = "coxswain.local";

/// Every image the cluster of this configuration runs.
pub fn images(cluster: &ClusterConfiguration) -> Vec<String> {
    let mut all = vec![pause_image(cluster)];
    all.extend(dns_image(cluster));
    all.push(metrics_image(cluster));
    all.push(local_path_image(cluster));
    all
}

/// The image that holds a pod's namespaces.
pub fn pause_image(cluster: &ClusterConfiguration) -> String {
    format!("{}/pause:1", repository(&cluster.image_repository))
}

/// Cluster DNS's image; none when it is disabled.
pub fn dns_image(cluster: &ClusterConfiguration) -> Option<String> {
    if cluster.dns.disabled {
        return None;
    }
    let own = &cluster.dns.image_repository;
    let from = repository(if own.is_empty() { &cluster.image_repository } else { own });
    let tag = if cluster.dns.image_tag.is_empty() { "1" } else { &cluster.dns.image_tag };
    Some(format!("{from}/dns:{tag}"))
}

/// The metrics server's image.
pub fn metrics_image(cluster: &ClusterConfiguration) -> String {
    format!("{}/metrics-server:1", repository(&cluster.image_repository))
}

/// The image of what makes volumes out of the nodes' disks.
pub fn local_path_image(cluster: &ClusterConfiguration) -> String {
    format!("{}/local-path:1", repository(&cluster.image_repository))
}

/// Upstream's registry holds none of our images, so naming it means the same as naming none.
fn repository(given: &str) -> &str {
    match given.trim_end_matches('/') {
        "" | "registry.k8s.io" => DEFAULT_IMAGE_REPOSITORY,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_images_come_from() {
        let of = |repository: &str, dns: &str, tag: &str| {
            let mut cluster =
                ClusterConfiguration { image_repository: repository.into(), ..Default::default() };
            cluster.dns.image_repository = dns.into();
            cluster.dns.image_tag = tag.into();
            images(&cluster)[..2].join(" ")
        };
        assert_eq!(of("", "", ""), "coxswain.local/pause:1 coxswain.local/dns:1");
        assert_eq!(of("registry.k8s.io", "", ""), "coxswain.local/pause:1 coxswain.local/dns:1");
        assert_eq!(of("reg.example/k8s", "", ""), "reg.example/k8s/pause:1 reg.example/k8s/dns:1");
        assert_eq!(of("a", "b/", "2"), "a/pause:1 b/dns:2");
        let mut without = ClusterConfiguration::default();
        without.dns.disabled = true;
        let rest =
            ["coxswain.local/pause:1", "coxswain.local/metrics-server:1", "coxswain.local/local-path:1"];
        assert_eq!(images(&without), rest);
    }
}
