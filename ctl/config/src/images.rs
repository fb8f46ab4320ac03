//! The images a cluster needs. The control plane is no pods here, so they are few.

use crate::ClusterConfiguration;

/// Registry of the images that come with the build.
pub const DEFAULT_IMAGE_REPOSITORY: &str = "coxswain.local";

/// Every image the cluster of this configuration runs.
pub fn images(cluster: &ClusterConfiguration) -> Vec<String> {
    let mut all = vec![pause_image(cluster)];
    all.extend(dns_image(cluster));
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

/// Upstream's registry holds none of our images, so naming it means the same as naming none.
fn repository(given: &str) -> &str {
    match given.trim_end_matches('/') {
        "" | "registry.k8s.io" => DEFAULT_IMAGE_REPOSITORY,
        other => other,
    }
}
