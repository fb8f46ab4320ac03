//! `explain KIND.FIELD.FIELD`: kubectl completes nothing here; fields are what one looks for.

use coxctl_kit::Cluster;

use crate::{Answer, Directive, objects};

/// Kinds, and after a dot their fields.
pub async fn fields(cluster: &Cluster, prefix: &str) -> Answer {
    let Some((path, _)) = prefix.rsplit_once('.') else {
        return Answer::values(kinds(cluster).await).directed(Directive::NO_FILES | Directive::NO_SPACE);
    };
    let names = coxctl_get::explain::fields(cluster, path).await.unwrap_or_default();
    let answer = Answer::values(names.into_iter().map(|name| format!("{path}.{name}")));
    answer.directed(Directive::NO_FILES | Directive::NO_SPACE)
}

/// The kinds' names without their groups, which a dot would end, each once.
async fn kinds(cluster: &Cluster) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for kind in objects::kinds(cluster).await {
        let name = kind.split('.').next().unwrap_or_default().to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
