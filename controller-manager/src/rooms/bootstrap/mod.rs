//! Bootstrap tokens: what they sign, and their end.

mod cleaner;
mod signer;
mod token;

pub use cleaner::start as start_cleaner;
pub use signer::start as start_signer;

use control::Cache;
use control::cache::Options;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;

use crate::kit::Context;

const NAMESPACE: &str = "kube-system";

/// The token Secrets, with no more of them kept than `keys` of their data.
fn tokens(context: &Context, keys: &'static [&'static str]) -> Cache<Secret> {
    let options =
        Options::default().fields(format!("type={}", token::TYPE)).trim(move |secret: &mut Secret| {
            secret.metadata.annotations = None;
            secret.metadata.labels = None;
            if let Some(data) = &mut secret.data {
                data.retain(|key, _| keys.contains(&key.as_str()));
            }
        });
    Cache::start(Api::namespaced(context.root.clone(), NAMESPACE), options, &context.tasks)
}
