//! PodTopologyLabels: a binding carries its node's zone and region to the pod.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::kinds::Resource;
use machinery::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin, pods};
use crate::authn::lookup::{Lookup, text};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// The plugin.
pub struct PodTopologyLabels {
    /// Where nodes are looked up.
    pub objects: Arc<dyn Lookup>,
}

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, op: Operation, resource: &Resource, subresource: &str) -> bool {
        op == Operation::Create && pods::is_pods(resource) && subresource == "binding"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if let Some(binding) = a.object.as_deref_mut() {
            copy(binding, &*self.objects);
        }
        Ok(())
    }
}

/// The labels stand on the binding; whoever binds puts them on the pod.
fn copy(binding: &mut Value, objects: &dyn Lookup) {
    let labels = objects.labels("nodes", "", text(binding, "/target/name"));
    for (key, value) in labels.iter().filter(|(key, _)| LABELS.contains(&&**key)) {
        machinery::meta::set_label(binding, key, value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::authn::lookup::fixture::Fixed;

    #[test]
    fn zone_and_region_and_nothing_else() {
        let node = json!({"metadata": {"name": "n", "labels": {LABELS[0]: "z", "other": "x"}}});
        let mut binding = json!({"target": {"name": "n"}});
        copy(&mut binding, &Fixed::default().with("nodes", node));
        assert_eq!(binding["metadata"]["labels"], json!({LABELS[0]: "z"}));
    }
}
