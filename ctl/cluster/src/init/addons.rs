//! Phase `addon`: cluster DNS, the service proxy, the pod network, the metrics server, volumes.

use anyhow::{Context, Result};
use coxctl_config::{Arg, control_plane_endpoint, images, service_address};
use futures::FutureExt;

use super::Run;
use crate::api::objects;
use crate::phase::Phase;
use crate::{node, patches, say};

/// The parts of `addon`.
pub static PARTS: &[Phase<Run>] = &[
    Phase::step("coredns", "Install the cluster DNS addon", |r| dns(r).boxed_local()).together(),
    Phase::step("kube-proxy", "Install the kube-proxy addon", |r| proxy(r).boxed_local()).together(),
    Phase::step("network", "Install the pod network", |r| network(r).boxed_local()).together(),
    Phase::step("metrics-server", "Install the metrics server addon", |r| metrics(r).boxed_local())
        .together(),
    Phase::step("local-path", "Install the volumes addon", |r| local_path(r).boxed_local()).together(),
    Phase::step(
        "load-balancer",
        "Give Services of type LoadBalancer addresses, if there is a pool of them",
        |r| load_balancer(r).boxed_local(),
    )
    .together(),
];

async fn dns(run: &Run) -> Result<()> {
    let cluster = &run.config.cluster;
    let Some(image) = images::dns_image(cluster) else { return Ok(()) };
    let ip = service_address(cluster, 10).context("the service network has no tenth address for DNS")?;
    let mut all = objects::dns(&ip.to_string(), &cluster.networking.dns_domain, Some(&image))?;
    for object in all.iter_mut().filter(|o| o["kind"] == "Deployment") {
        *object = patches::apply(run.config.init.patches.as_ref(), "corednsdeployment", object.take())?;
    }
    if run.addon(all).await? {
        return Ok(());
    }
    say::line("addons", "Applied essential addon: cluster DNS");
    Ok(())
}

async fn proxy(run: &Run) -> Result<()> {
    let cluster = &run.config.cluster;
    if cluster.proxy.disabled {
        return Ok(());
    }
    let endpoint = control_plane_endpoint(cluster, &run.config.init.local_api_endpoint);
    let kubeconfig = proxy_kubeconfig(&format!("https://{endpoint}"))?;
    let mut all = objects::proxy(&serde_yaml::to_string(&run.config.proxy)?, &kubeconfig);
    if run.config.proxy_given {
        objects::unhash(&mut all);
    }
    if run.addon(all).await? {
        return Ok(());
    }
    node::proxy(&run.host, run.node(), &cluster.cluster_name, &run.ca()?, &run.config.proxy)?;
    say::line("addons", "Applied essential addon: kube-proxy");
    Ok(())
}

/// kubeadm's kubeconfig for proxies in pods; ours are no pods, but who looks for it finds it.
fn proxy_kubeconfig(server: &str) -> Result<String> {
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let credentials = serde_json::json!({"tokenFile": format!("{account}/token")});
    let authority = format!("{account}/ca.crt");
    let document = objects::kubeconfig(server, None, &objects::Ca::File(&authority), "default", credentials);
    Ok(serde_yaml::to_string(&document)?)
}

async fn metrics(run: &Run) -> Result<()> {
    if run.addon(objects::metrics(&images::metrics_image(&run.config.cluster))?).await? {
        return Ok(());
    }
    say::line("addons", "Applied addon: metrics server");
    Ok(())
}

async fn network(run: &Run) -> Result<()> {
    let cluster = &run.config.cluster;
    let mut args = backend(run.args.network_backend.as_deref());
    if run.args.load_balancer()?.is_some() {
        args.push(Arg { name: "announce".into(), value: "true".into() });
    }
    let pods = &cluster.networking.pod_subnet;
    if run.addon(objects::network(pods, &args)?).await? {
        return Ok(());
    }
    node::network(&run.host, run.node(), &cluster.cluster_name, &run.ca()?, pods, &args)?;
    say::line("addons", "Applied essential addon: pod network");
    Ok(())
}

async fn local_path(run: &Run) -> Result<()> {
    if run.addon(objects::local_path(&images::local_path_image(&run.config.cluster))?).await? {
        return Ok(());
    }
    say::line("addons", "Applied addon: local volumes");
    Ok(())
}

async fn load_balancer(run: &Run) -> Result<()> {
    let Some(config) = run.args.load_balancer()? else { return Ok(()) };
    if run.addon(objects::load_balancer(&config)?).await? {
        return Ok(());
    }
    say::line("addons", "Applied addon: addresses for Services of type LoadBalancer");
    Ok(())
}

fn backend(given: Option<&str>) -> Vec<Arg> {
    given.map(|b| Arg { name: "backend".into(), value: b.into() }).into_iter().collect()
}
