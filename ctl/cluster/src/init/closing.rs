//! The last words of `init`: what to do next.

use anyhow::{Context, Result, bail};
use coxctl_config::control_plane_endpoint;

use super::Run;
use crate::joinline::JoinLine;
use crate::{api, paths};

/// Prints how to use the cluster and how to add nodes to it.
pub async fn show(run: &Run) -> Result<()> {
    let Some(token) = run.config.init.bootstrap_tokens.first() else { return Ok(()) };
    if !run.args.only().is_empty() {
        alone(run, &token.token).await?;
    }
    let hidden =
        |secret: &str, hide: bool| if hide { "<value withheld>".to_string() } else { secret.to_string() };
    let key = run.state.lock().certificate_key.clone();
    let line = JoinLine {
        endpoint: control_plane_endpoint(&run.config.cluster, &run.config.init.local_api_endpoint),
        token: hidden(&token.token, run.args.skip_token_print),
        hashes: coxctl_pki::ca_hashes(&run.ca()?)?,
        certificate_key: key.map(|k| hidden(&k, run.args.skip_certificate_key_print)),
    };
    print!("{}", text(&line, run.host.signs(&run.config.cluster.certificates_dir)));
    Ok(())
}

/// Run by itself, the phase knows of no token but one that is given; and it is the last one.
async fn alone(run: &Run, token: &str) -> Result<()> {
    if run.host.is_dry() {
        return Ok(());
    }
    run.host.made().finish()?;
    let name = format!("bootstrap-token-{}", token.split('.').next().unwrap_or_default());
    match api::get(run.admin().await?, "Secret", Some("kube-system"), &name).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => bail!(
            "the cluster does not know this token; give one with --token or in the configuration, or run \"coxctl token create --print-join-command\""
        ),
        Err(error) => Err(api::plain(error)).context("looking for the token"),
    }
}

fn text(line: &JoinLine, signs: bool) -> String {
    let mut out = format!(
        "\nYour Kubernetes control-plane has initialized successfully!\n\n\
        To start using your cluster, you need to run the following as a regular user:\n\n  \
        mkdir -p $HOME/.kube\n  sudo cp -i {admin} $HOME/.kube/config\n  sudo chown $(id -u):$(id -g) $HOME/.kube/config\n\n\
        Alternatively, if you are the root user, you can run:\n\n  export KUBECONFIG={admin}\n\n",
        admin = paths::ADMIN
    );
    if line.certificate_key.is_some() {
        out.push_str(&format!(
            "You can now join any number of control-plane nodes running the following command on each as root:\n\n{}\n\n\
            Please note that the certificate-key gives access to cluster sensitive data, keep it secret!\n\
            The uploaded certificates are deleted in two hours; \"coxctl init phase upload-certs --upload-certs\" uploads them again.\n\n",
            line.wrapped(true)
        ));
    } else if !signs {
        out.push_str(
            "The authority's key is not here. Further control planes need the shared certificates and leaves of their own, and workers a\n\
            signed /etc/kubernetes/kubelet.conf, put in place before the command below is run there.\n\n",
        );
    } else {
        out.push_str(
            "To join control-plane nodes, first run on this one\n\n  coxctl init phase upload-certs --upload-certs\n\n\
            and then on each of them, as root, the command below with --control-plane --certificate-key KEY.\n\n",
        );
    }
    let worker = JoinLine { certificate_key: None, ..line.clone() };
    out.push_str(&format!(
        "Then you can join any number of worker nodes by running the following on each as root:\n\n{}\n",
        worker.wrapped(false)
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_in_are_shown() {
        let mut line = JoinLine {
            endpoint: "10.0.0.1:6443".into(),
            token: "abcdef.0123456789abcdef".into(),
            hashes: vec!["sha256:aa".into()],
            certificate_key: Some("k".into()),
        };
        let all = text(&line, true);
        assert!(all.contains("--control-plane --certificate-key k"), "{all}");
        assert!(all.contains("coxctl join 10.0.0.1:6443 --token abcdef.0123456789abcdef \\\n\t--discovery-token-ca-cert-hash sha256:aa"), "{all}");
        line.certificate_key = None;
        assert!(!text(&line, true).contains("--certificate-key k"));
        assert!(
            text(&line, false).contains("The authority's key is not here")
                && !text(&line, false).contains("upload-certs")
        );
    }
}
