//! Phases `upload-config` and `upload-certs`.

use anyhow::{Context, Result, ensure};
use coxctl_config::cluster_document;
use coxctl_pki::{seal, token::Token};
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Run;
use crate::api::{self, objects};
use crate::phase::Phase;
use crate::token::secret;
use crate::{say, upload};

/// The parts of `upload-config`.
pub static CONFIG: &[Phase<Run>] = &[
    Phase::step("kubeadm", "Upload the ClusterConfiguration to a ConfigMap", |r| kubeadm(r).boxed_local())
        .together(),
    Phase::step("kubelet", "Upload the kubelet configuration to a ConfigMap", |r| kubelet(r).boxed_local())
        .together(),
];
/// How long the uploaded certificates can be fetched.
const LIFE: SignedDuration = SignedDuration::from_hours(2);

async fn kubeadm(run: &Run) -> Result<()> {
    say::line(
        "upload-config",
        "Storing the configuration used in ConfigMap \"kubeadm-config\" in the \"kube-system\" Namespace",
    );
    run.apply(objects::kubeadm_config(&cluster_document(&run.config.cluster))).await
}

async fn kubelet(run: &Run) -> Result<()> {
    say::line(
        "kubelet",
        "Creating a ConfigMap \"kubelet-config\" in namespace kube-system with the configuration for the kubelets in the cluster",
    );
    let mut all = objects::kubelet_config(&serde_yaml::to_string(&run.config.kubelet)?);
    if run.config.kubelet_given {
        objects::unhash(&mut all);
    }
    run.apply(all).await
}

/// Puts what other control planes need into the cluster, encrypted, for two hours.
pub async fn certs(run: &Run) -> Result<()> {
    if !run.args.upload_certs {
        if run.args.only().is_empty() {
            say::line("upload-certs", "Skipping phase. Please see --upload-certs");
            return Ok(());
        }
        say::detail("[upload-certs] without --upload-certs nothing is uploaded");
        return Ok(());
    }
    let given = &run.config.init.certificate_key;
    let key = if given.is_empty() { seal::certificate_key()? } else { given.clone() };
    let dir = run.host.path(&run.config.cluster.certificates_dir);
    ensure!(
        dir.join("ca.key").exists(),
        "can't use --upload-certs with an external CA: {} is not here",
        run.pki("ca.key")
    );
    say::line(
        "upload-certs",
        "Storing the certificates in Secret \"kubeadm-certs\" in the \"kube-system\" Namespace",
    );
    if !run.host.is_dry() {
        let files = upload::files(&run.config.cluster);
        let data = upload::seal_files(|p| run.host.path(p), &files, &key)?;
        store(run.admin().await?, &data, run.api_limit()).await?;
    }
    if !run.args.skip_certificate_key_print {
        say::line("upload-certs", format_args!("Using certificate key:\n{key}"));
    }
    run.state.lock().certificate_key = Some(key);
    Ok(())
}

/// Writes the secret, owned by a token without use that runs out in two hours and takes it along.
///
/// # Errors
/// When the API server refuses.
pub async fn store(client: &kube::Client, data: &Value, limit: std::time::Duration) -> Result<()> {
    let owner = secret::Entry {
        token: Token::generate(),
        description: "Proxy for managing TTL for the kubeadm-certs secret".into(),
        expires: secret::expiry(Some(LIFE), Timestamp::now()),
        usages: Vec::new(),
        groups: Vec::new(),
    };
    api::apply(client, &owner.object(), limit).await?;
    let name = owner.name();
    let made =
        api::retry(limit, async || api::get(client, "Secret", Some(secret::NAMESPACE), &name).await).await?;
    let uid = made.pointer("/metadata/uid").and_then(Value::as_str).context("a secret without uid")?;
    let fresh = objects::uploaded_certs(data, Some((&name, uid)));
    api::apply_all(client, fresh, limit).await.context("storing the certificates")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_secret_goes_with_its_token() {
        let all = objects::uploaded_certs(&json!({"ca.crt": ""}), Some(("bootstrap-token-abcdef", "u")));
        assert_eq!(all[0]["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(all.len(), 3);
    }
}
