//! Talks to extenders.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use super::{Extender, Filtered, Tls, binding, read_filtered, read_scores, read_victims};
use crate::framework::preempt::Candidate;
use crate::model::pod::PodInfo;

/// An extender with connections to it.
pub struct Client {
    /// As configured.
    pub config: Extender,
    client: kube::Client,
}

impl Client {
    /// Makes ready to talk; no connection is made yet.
    ///
    /// # Errors
    /// When the address or a certificate is none.
    pub async fn new(config: Extender) -> Result<Self> {
        let text = kubeconfig(&config).to_string();
        let parsed = Kubeconfig::from_yaml(&text).with_context(|| config.url.clone())?;
        let options = KubeConfigOptions::default();
        let made = kube::Config::from_custom_kubeconfig(parsed, &options).await;
        let client = kube::Client::try_from(made.with_context(|| config.url.clone())?)?;
        Ok(Self { config, client })
    }

    async fn call(&self, verb: &str, body: &Value) -> Result<Value> {
        let address = self.config.address(verb);
        let path = format!("/{verb}");
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(body)?)?;
        let answer = tokio::time::timeout(self.config.timeout, self.client.request_text(request)).await;
        let text = answer
            .with_context(|| format!("{address}: no answer in time"))?
            .with_context(|| address.clone())?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| address)
    }

    /// Which of the nodes will do. Asked only with a filter verb.
    ///
    /// # Errors
    /// When it does not answer, or not what it should, or calls an error.
    pub async fn filter(&self, pod: &Pod, names: &[String], nodes: &[Value]) -> Result<Filtered> {
        let answer = self.call(&self.config.filter, &self.config.arguments(pod, names, nodes)).await?;
        read_filtered(answer).map_err(|e| anyhow!("{}: {e}", self.config.address(&self.config.filter)))
    }

    /// How good the nodes are, 0 to 10.
    ///
    /// # Errors
    /// As [`Client::filter`].
    pub async fn prioritize(
        &self,
        pod: &Pod,
        names: &[String],
        nodes: &[Value],
    ) -> Result<BTreeMap<String, i64>> {
        let answer = self.call(&self.config.prioritize, &self.config.arguments(pod, names, nodes)).await?;
        read_scores(answer).map_err(|e| anyhow!("{}: {e}", self.config.address(&self.config.prioritize)))
    }

    /// Which candidates are left, and with which victims.
    ///
    /// # Errors
    /// As [`Client::filter`].
    pub async fn preempt(
        &self,
        pod: &Pod,
        candidates: Vec<Candidate>,
        whole: impl Fn(&PodInfo) -> Value,
    ) -> Result<Vec<Candidate>> {
        let answer = self.call(&self.config.preempt, &self.config.victims(pod, &candidates, whole)).await?;
        read_victims(answer, candidates)
            .map_err(|e| anyhow!("{}: {e}", self.config.address(&self.config.preempt)))
    }

    /// Binds the pod.
    ///
    /// # Errors
    /// As [`Client::filter`].
    pub async fn bind(&self, pod: &PodInfo, node: &str) -> Result<()> {
        let answer = self.call(&self.config.bind, &binding(pod, node)).await?;
        let error = answer.get("Error").or_else(|| answer.get("error")).and_then(Value::as_str);
        match error.filter(|e| !e.is_empty()) {
            Some(error) => Err(anyhow!("{}: {error}", self.config.address(&self.config.bind))),
            None => Ok(()),
        }
    }
}

/// The same connection that a kubeconfig would describe.
fn kubeconfig(extender: &Extender) -> Value {
    let none = Tls::default();
    let tls = extender.tls.as_ref().unwrap_or(&none);
    let data =
        |bytes: &[u8]| (!bytes.is_empty()).then(|| base64::engine::general_purpose::STANDARD.encode(bytes));
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {
            "server": extender.url.trim_end_matches('/'), "insecure-skip-tls-verify": tls.insecure,
            "tls-server-name": tls.server_name, "certificate-authority": tls.ca,
            "certificate-authority-data": data(&tls.ca_data),
        }}],
        "users": [{"name": "x", "user": {
            "client-certificate": tls.cert, "client-key": tls.key,
            "client-certificate-data": data(&tls.cert_data), "client-key-data": data(&tls.key_data),
        }}],
    })
}
