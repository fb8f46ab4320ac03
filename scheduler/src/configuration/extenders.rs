//! Extenders.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::fault::Reader;
use crate::extender::{Extender, Tls};

/// Reads `extenders`.
pub fn read(r: &mut Reader<'_>) -> Vec<Extender> {
    let mut all: Vec<Extender> = Vec::new();
    for n in 0..r.length("extenders") {
        let mut e = r.item("extenders", n);
        e.known(&[
            "urlPrefix",
            "filterVerb",
            "preemptVerb",
            "prioritizeVerb",
            "weight",
            "bindVerb",
            "enableHTTPS",
            "tlsConfig",
            "httpTimeout",
            "nodeCacheCapable",
            "managedResources",
            "ignorable",
        ]);
        all.push(one(&mut e));
        for name in all[n].resources.keys() {
            if all[..n].iter().any(|other| other.resources.contains_key(name)) {
                e.duplicate("managedResources", name);
            }
        }
    }
    let binders = all.iter().filter(|e| !e.bind.is_empty()).count();
    if binders > 1 {
        let found = json!(format!("found {binders} extenders implementing bind"));
        r.invalid("extenders", &found, "only one extender can implement bind");
    }
    all
}

fn one(e: &mut Reader<'_>) -> Extender {
    let mut text = |field: &str| e.text(field).unwrap_or_default();
    let (url, filter, prioritize) = (text("urlPrefix"), text("filterVerb"), text("prioritizeVerb"));
    let (preempt, bind) = (text("preemptVerb"), text("bindVerb"));
    let weight = e.int("weight").unwrap_or(0);
    if url.is_empty() {
        e.required("urlPrefix", "");
    }
    if weight < 0 || (!prioritize.is_empty() && weight == 0) {
        e.invalid("weight", &json!(weight), "must have a positive weight applied to it");
    }
    let https = e.bool("enableHTTPS").unwrap_or(false);
    let tls = tls(e).or_else(|| (https || url.starts_with("https:")).then(Tls::default));
    Extender {
        url,
        filter,
        prioritize,
        preempt,
        bind,
        weight,
        timeout: timeout(e),
        knows_nodes: e.bool("nodeCacheCapable").unwrap_or(false),
        ignorable: e.bool("ignorable").unwrap_or(false),
        resources: resources(e),
        tls,
    }
}

fn timeout(e: &mut Reader<'_>) -> Duration {
    let Some(text) = e.text("httpTimeout") else { return Duration::from_secs(5) };
    match daemon::flags::duration(&text) {
        Ok(timeout) if timeout > Duration::ZERO => timeout,
        Ok(_) => Duration::from_secs(5),
        Err(error) => {
            e.invalid("httpTimeout", &json!(text), &error.to_string());
            Duration::from_secs(5)
        }
    }
}

fn resources(e: &mut Reader<'_>) -> BTreeMap<String, bool> {
    let mut all = BTreeMap::new();
    for n in 0..e.length("managedResources") {
        let mut r = e.item("managedResources", n);
        r.known(&["name", "ignoredByScheduler"]);
        let name = r.text("name").unwrap_or_default();
        if !name.contains('/') || name.starts_with("kubernetes.io/") {
            r.invalid("name", &json!(name), "is an invalid extended resource name");
        }
        let ignored = r.bool("ignoredByScheduler").unwrap_or(false);
        if all.insert(name.clone(), ignored).is_some() {
            r.duplicate("name", &name);
        }
    }
    all
}

fn tls(e: &mut Reader<'_>) -> Option<Tls> {
    let mut t = e.child("tlsConfig")?;
    t.known(&["insecure", "serverName", "certFile", "keyFile", "caFile", "certData", "keyData", "caData"]);
    let path = |t: &mut Reader<'_>, field: &str| t.text(field).filter(|s| !s.is_empty()).map(PathBuf::from);
    Some(Tls {
        insecure: t.bool("insecure").unwrap_or(false),
        server_name: t.text("serverName"),
        ca: path(&mut t, "caFile"),
        cert: path(&mut t, "certFile"),
        key: path(&mut t, "keyFile"),
        ca_data: data(&mut t, "caData"),
        cert_data: data(&mut t, "certData"),
        key_data: data(&mut t, "keyData"),
    })
}

fn data(t: &mut Reader<'_>, field: &str) -> Vec<u8> {
    t.object::<k8s_openapi::ByteString>(field).map(|b| b.0).unwrap_or_default()
}
