//! Phase `wait-control-plane`: every component is asked at the same time; one that dies is told with its last words.

use std::time::Duration;

use anyhow::Result;

use super::{Run, limit};
use crate::{health, paths, say};

/// Waits for etcd, the API server, the controller manager, the scheduler and the kubelet.
pub async fn control_plane(run: &Run) -> Result<()> {
    if run.host.is_dry() {
        say::line("dryrun", "Would wait for the control plane");
        return Ok(());
    }
    let component = limit(run.timeouts().control_plane_component_health_check, 240);
    let kubelet = limit(run.timeouts().kubelet_health_check, 240);
    say::line(
        "wait-control-plane",
        format_args!("Waiting for a healthy control plane. This can take up to {}s", component.as_secs()),
    );
    let kubeconfig =
        if std::path::Path::new(paths::SUPER_ADMIN).exists() { paths::SUPER_ADMIN } else { paths::ADMIN };
    let endpoint = run.endpoint();
    tokio::try_join!(
        health::etcd(&run.host, &run.config.cluster, component),
        health::api_server(&run.host, kubeconfig, &endpoint, component),
        health::controller_manager(&run.host, &run.config.cluster, component),
        health::scheduler(&run.host, &run.config.cluster, component),
        health::kubelet(&run.host, &run.config.kubelet, kubelet),
        cloud(run, component),
    )?;
    Ok(())
}

async fn cloud(run: &Run, limit: Duration) -> Result<()> {
    match run.args.load_balancer_pool.is_empty() {
        true => Ok(()),
        false => health::cloud(&run.host, limit).await,
    }
}
