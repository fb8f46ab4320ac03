//! Phases `certs` and `kubeconfig`.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use coxctl_pki::{Outcome, cluster_certificates, cluster_kubeconfigs, ensure, ensure_kubeconfig};
use futures::FutureExt;

use super::Run;
use crate::phase::Phase;
use crate::{paths, say};

macro_rules! steps {
    ($work:ident: $($name:literal, $about:literal;)*) => {
        &[$(Phase::step($name, $about, |r| async { $work(r, $name) }.boxed_local())),*]
    };
}

/// The parts of `certs`.
pub static CERTS: &[Phase<Run>] = steps! { cert:
    "ca", "Generate the self-signed Kubernetes CA";
    "apiserver", "Generate the certificate for serving the Kubernetes API";
    "apiserver-kubelet-client", "Generate the certificate for the API server to connect to kubelet";
    "front-proxy-ca", "Generate the self-signed CA to provision identities for front proxy";
    "front-proxy-client", "Generate the certificate for the front proxy client";
    "etcd-ca", "Generate the self-signed CA to provision identities for etcd";
    "etcd-server", "Generate the certificate for serving etcd";
    "etcd-peer", "Generate the certificate for etcd nodes to communicate with each other";
    "etcd-healthcheck-client", "Generate the certificate for liveness probes to healthcheck etcd";
    "apiserver-etcd-client", "Generate the certificate the apiserver uses to access etcd";
    "sa", "Generate a private key for signing service account tokens along with its public key";
};

/// The parts of `kubeconfig`.
pub static KUBECONFIGS: &[Phase<Run>] = steps! { kubeconfig:
    "admin", "Generate a kubeconfig file for the admin to use and for kubeadm itself";
    "super-admin", "Generate a kubeconfig file for the super-admin";
    "kubelet", "Generate a kubeconfig file for the kubelet to use";
    "controller-manager", "Generate a kubeconfig file for the controller manager to use";
    "scheduler", "Generate a kubeconfig file for the scheduler to use";
};

fn cert(run: &Run, name: &str) -> Result<()> {
    let cluster = &run.config.cluster;
    let advertise = &run.config.init.local_api_endpoint.advertise_address;
    let ip: IpAddr = advertise.parse().with_context(|| format!("advertise address {advertise:?}"))?;
    let specs = cluster_certificates(cluster, run.node(), ip)?;
    // With an etcd elsewhere its certificates are not ours to make.
    let Some(spec) = specs.iter().find(|s| s.name == name) else { return Ok(()) };
    let dir = run.host.path(&cluster.certificates_dir);
    let (outcome, warnings) = ensure(&dir, spec, cluster, &mut |p: &Path| run.host.record(p))?;
    warnings.iter().for_each(|w| say::warn("certs", w));
    say_cert(name, spec.ca, outcome, &spec.identity);
    Ok(())
}

fn say_cert(name: &str, ca: Option<&str>, outcome: Outcome, who: &coxctl_pki::authority::Identity) {
    let what = if name == "sa" { "key" } else { "certificate" };
    match outcome {
        Outcome::Kept => say::line("certs", format_args!("Using existing {name:?} {what}")),
        Outcome::External => {
            say::line("certs", format_args!("Using {name:?} {what} of an external authority"))
        }
        Outcome::Renewed => say::line("certs", format_args!("Renewed {name:?} {what}, which had run out")),
        Outcome::Made => {
            say::line(
                "certs",
                format_args!("Generating {name:?} {what}{}", if ca.is_some() { " and key" } else { "" }),
            );
            if ca.is_some() && who.server {
                let ips: Vec<String> = who.ips.iter().map(ToString::to_string).collect();
                say::line(
                    "certs",
                    format_args!(
                        "{name} serving cert is signed for DNS names [{}] and IPs [{}]",
                        who.dns.join(" "),
                        ips.join(" ")
                    ),
                );
            }
        }
    }
}

fn kubeconfig(run: &Run, name: &str) -> Result<()> {
    let (cluster, local) = (&run.config.cluster, &run.config.init.local_api_endpoint);
    let specs = cluster_kubeconfigs(cluster, run.node(), local, true);
    let spec =
        specs.iter().find(|s| s.name == name).with_context(|| format!("no kubeconfig is named {name}"))?;
    let (dir, pki) = (run.host.path(paths::KUBERNETES), run.host.path(&cluster.certificates_dir));
    let (outcome, warnings) =
        ensure_kubeconfig(&dir, &pki, spec, cluster, &mut |p: &Path| run.host.record(p))?;
    warnings.iter().for_each(|w| say::warn("kubeconfig", w));
    match outcome {
        Outcome::Kept | Outcome::External => {
            say::line(
                "kubeconfig",
                format_args!("Using existing kubeconfig file: {:?}", dir.join(spec.file)),
            );
        }
        _ => say::line("kubeconfig", format_args!("Writing {:?} kubeconfig file", spec.file)),
    }
    Ok(())
}
