//! `upgrade plan`: what runs where, and what it could be upgraded to.

use anyhow::{Context, Result};
use coxctl_machine::bundle;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};

use super::UpgradeArgs;
use crate::{api, paths, say, table};

/// Prints the plan; nothing is changed.
pub async fn run(args: &UpgradeArgs) -> Result<()> {
    say::verbosity(args.v);
    let bundle = args.bundle.as_deref().map(bundle::open).transpose()?;
    let client = api::client(&args.kubeconfig(), None).await?;
    say::line("preflight", "Running pre-flight checks.");
    let nodes: Api<Node> = Api::all(client);
    let list = tokio::time::timeout(api::CALL, nodes.list(&ListParams::default())).await;
    let list = list.context("the API server does not answer")?.context("listing the nodes")?;
    let target = bundle.as_ref().map_or("<none given>", |b| b.index.kubernetes.as_str());
    let mut rows = vec![["NODE", "ROLE", "KUBELET", "TARGET"].map(str::to_string)];
    rows.extend(list.iter().map(|n| row(n, target)));
    println!(
        "\nMachines are upgraded one at a time: \"coxctl upgrade apply\" on the first control plane, then \"coxctl upgrade node\"\non the other control planes, then on the workers.\n"
    );
    print!("{}", table::render(&rows));
    println!(
        "\nThis machine runs version {}.",
        bundle::current().unwrap_or_else(|| "unknown (not from a bundle)".into())
    );
    let installed = bundle::versions();
    if !installed.is_empty() {
        println!("Installed here: {}.", installed.join(", "));
    }
    match &bundle {
        Some(b) => println!(
            "The bundle is version {} (Kubernetes {}). Begin with:\n\n\tcoxctl upgrade apply --bundle {}\n",
            b.index.version,
            b.index.kubernetes,
            b.file.display()
        ),
        None => println!("Give --bundle FILE to see what it would bring."),
    }
    Ok(())
}

fn row(node: &Node, target: &str) -> [String; 4] {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let role = if labels.contains_key(paths::CONTROL_PLANE) { "control-plane" } else { "worker" };
    let info = node.status.as_ref().and_then(|s| s.node_info.as_ref());
    let version = info.map(|i| i.kubelet_version.clone()).unwrap_or_default();
    [node.metadata.name.clone().unwrap_or_default(), role.into(), version, target.into()]
}
