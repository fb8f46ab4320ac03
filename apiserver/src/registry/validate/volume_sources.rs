//! The sources of volumes, of pods and of persistent volumes.

use super::volume::{local_non_reserved, no_backsteps};
use super::{env, labels, resources};
use crate::registry::errs::{At, Errs};
use crate::registry::val::{entries, get, i, list, s, set};
use machinery::names;
use serde_json::Value;

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// One source of a pod's volume.
pub fn pod_source(kind: &str, v: &Value, template: bool, at: &At<'_>, errs: &mut Errs) {
    match kind {
        "emptyDir" => empty_dir(v, at, errs),
        "secret" => keyed(v, "secretName", at, errs),
        "configMap" => keyed(v, "name", at, errs),
        "downwardAPI" => downward(v, at, errs),
        "projected" => projected(v, at, errs),
        "persistentVolumeClaim" => needs(v, &["claimName"], at, errs),
        "gitRepo" => git_repo(v, at, errs),
        "ephemeral" => ephemeral(v, at, errs),
        "image" => image(v, template, at, errs),
        "csi" => csi(v, at, errs),
        _ => shared_source(kind, v, false, at, errs),
    }
}

/// Sources that pods and persistent volumes have in common. `persistent` picks the stricter form where they differ.
pub fn shared_source(kind: &str, v: &Value, persistent: bool, at: &At<'_>, errs: &mut Errs) {
    match kind {
        "hostPath" => host_path(v, at, errs),
        "nfs" => nfs(v, at, errs),
        "iscsi" => iscsi(v, at, errs),
        "gcePersistentDisk" => {
            needs(v, &["pdName"], at, errs);
            partition(v, at, errs);
        }
        "awsElasticBlockStore" => {
            needs(v, &["volumeID"], at, errs);
            partition(v, at, errs);
        }
        "glusterfs" => needs(v, &["endpoints", "path"], at, errs),
        "flocker" => flocker(v, at, errs),
        "rbd" => {
            if list(v, "monitors").is_empty() {
                errs.required(&at.f("monitors"), "");
            }
            needs(v, &["image"], at, errs);
        }
        "cephfs" if list(v, "monitors").is_empty() => errs.required(&at.f("monitors"), ""),
        "cinder" => cinder(v, persistent, at, errs),
        "quobyte" => quobyte(v, at, errs),
        "fc" => fibre_channel(v, at, errs),
        "flexVolume" => needs(v, &["driver"], at, errs),
        "azureFile" => needs(v, &["secretName", "shareName"], at, errs),
        "azureDisk" => azure_disk(v, at, errs),
        "vsphereVolume" => needs(v, &["volumePath"], at, errs),
        "photonPersistentDisk" => needs(v, &["pdID"], at, errs),
        "portworxVolume" => needs(v, &["volumeID"], at, errs),
        "scaleIO" => needs(v, &["gateway", "system", "volumeName"], at, errs),
        "storageos" => storage_os(v, at, errs),
        "local" => local(v, at, errs),
        "csi" => persistent_csi(v, at, errs),
        _ => {}
    }
}

fn needs(v: &Value, keys: &[&str], at: &At<'_>, errs: &mut Errs) {
    for key in keys {
        if s(v, key).is_empty() {
            errs.required(&at.f(key), "");
        }
    }
}

fn partition(v: &Value, at: &At<'_>, errs: &mut Errs) {
    if let Some(n) = i(v, "partition").filter(|n| !(0..=255).contains(n)) {
        errs.invalid(&at.f("partition"), n, "must be between 1 and 255, inclusive");
    }
}

fn empty_dir(v: &Value, at: &At<'_>, errs: &mut Errs) {
    let negative = get(v, "sizeLimit").and_then(resources::quantity).is_some_and(|q| q.sign() < 0);
    if negative {
        errs.forbidden(&at.f("sizeLimit"), "SizeLimit field must be a valid resource quantity");
    }
}

fn host_path(v: &Value, at: &At<'_>, errs: &mut Errs) {
    match s(v, "path") {
        "" => errs.required(&at.f("path"), ""),
        path => no_backsteps(path, &at.f("path"), errs),
    }
    let kinds =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    errs.one_of(&at.f("type"), s(v, "type"), &kinds);
}

fn git_repo(v: &Value, at: &At<'_>, errs: &mut Errs) {
    needs(v, &["repository"], at, errs);
    super::volume::local_path(s(v, "directory"), &at.f("directory"), errs);
}

fn nfs(v: &Value, at: &At<'_>, errs: &mut Errs) {
    needs(v, &["server", "path"], at, errs);
    let path = s(v, "path");
    if !path.is_empty() && !path.starts_with('/') {
        errs.invalid(&at.f("path"), path, "must be an absolute path");
    }
}

fn iscsi(v: &Value, at: &At<'_>, errs: &mut Errs) {
    needs(v, &["targetPortal", "iqn"], at, errs);
    let iqn = s(v, "iqn");
    if !iqn.is_empty() && !["iqn.", "eui.", "naa."].iter().any(|p| iqn.starts_with(p)) {
        errs.invalid(&at.f("iqn"), iqn, "must be valid format starting with iqn, eui, or naa");
    }
    if let Some(lun) = i(v, "lun").filter(|n| !(0..=255).contains(n)) {
        errs.invalid(&at.f("lun"), lun, "must be between 0 and 255, inclusive");
    }
    let chap = ["chapAuthDiscovery", "chapAuthSession"].iter().any(|k| crate::registry::val::b(v, k));
    if chap && !set(v, "secretRef") {
        errs.required(&at.f("secretRef"), "");
    }
}

fn flocker(v: &Value, at: &At<'_>, errs: &mut Errs) {
    match (s(v, "datasetName"), s(v, "datasetUUID")) {
        ("", "") => errs.required(at, "one of datasetName and datasetUUID is required"),
        (name, uuid) if !name.is_empty() && !uuid.is_empty() => {
            errs.invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously");
        }
        (name, _) if name.contains('/') => errs.invalid(&at.f("datasetName"), name, "must not contain '/'"),
        _ => {}
    }
}

fn cinder(v: &Value, persistent: bool, at: &At<'_>, errs: &mut Errs) {
    needs(v, &["volumeID"], at, errs);
    if let Some(secret) = get(v, "secretRef") {
        let keys: &[&str] = if persistent { &["name", "namespace"] } else { &["name"] };
        needs(secret, keys, &at.f("secretRef"), errs);
    }
}

fn quobyte(v: &Value, at: &At<'_>, errs: &mut Errs) {
    let registry = s(v, "registry");
    if registry.is_empty() {
        errs.required(&at.f("registry"), "must be a host:port pair or multiple pairs separated by commas");
    } else if registry.split(',').any(|pair| !pair.contains(':')) {
        errs.invalid(
            &at.f("registry"),
            registry,
            "must be a host:port pair or multiple pairs separated by commas",
        );
    }
    needs(v, &["volume"], at, errs);
}

fn fibre_channel(v: &Value, at: &At<'_>, errs: &mut Errs) {
    let (wwns, wwids) = (list(v, "targetWWNs"), list(v, "wwids"));
    if wwns.is_empty() && wwids.is_empty() {
        errs.required(&at.f("targetWWNs"), "must specify either targetWWNs or wwids, but not both");
    }
    if !wwns.is_empty() && !wwids.is_empty() {
        errs.invalid(
            &at.f("targetWWNs"),
            Value::Array(wwns.to_vec()),
            "targetWWNs and wwids can not be specified simultaneously",
        );
    }
    match i(v, "lun") {
        None if !wwns.is_empty() => errs.required(&at.f("lun"), "lun is required if targetWWNs is specified"),
        Some(n) if !(0..=255).contains(&n) => {
            errs.invalid(&at.f("lun"), n, "must be between 0 and 255, inclusive")
        }
        _ => {}
    }
}

fn azure_disk(v: &Value, at: &At<'_>, errs: &mut Errs) {
    needs(v, &["diskName", "diskURI"], at, errs);
    if set(v, "cachingMode") {
        errs.one_of(&at.f("cachingMode"), s(v, "cachingMode"), &["None", "ReadOnly", "ReadWrite"]);
    }
    if set(v, "kind") {
        errs.one_of(&at.f("kind"), s(v, "kind"), &["Dedicated", "Managed", "Shared"]);
    }
    let (uri, managed) = (s(v, "diskURI"), s(v, "kind") == "Managed");
    if managed && !uri.starts_with("/subscriptions/") {
        errs.not_supported(&at.f("diskURI"), uri, &["/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"]);
    } else if !managed && !uri.is_empty() && !uri.starts_with("https://") {
        errs.not_supported(
            &at.f("diskURI"),
            uri,
            &["https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"],
        );
    }
}

fn storage_os(v: &Value, at: &At<'_>, errs: &mut Errs) {
    needs(v, &["volumeName"], at, errs);
    for key in ["volumeName", "volumeNamespace"] {
        if !s(v, key).is_empty() {
            errs.invalid_each(&at.f(key), s(v, key), names::is_dns1123_label(s(v, key)));
        }
    }
}

fn local(v: &Value, at: &At<'_>, errs: &mut Errs) {
    match s(v, "path") {
        "" => errs.required(&at.f("path"), ""),
        path => no_backsteps(path, &at.f("path"), errs),
    }
}

/// The name of a CSI driver.
pub fn driver_name(driver: &str, at: &At<'_>, errs: &mut Errs) {
    if driver.is_empty() {
        return errs.required(at, "");
    }
    if driver.len() > 63 {
        errs.too_long(at, 63);
    }
    errs.invalid_each(at, driver, names::is_dns1123_subdomain(&driver.to_lowercase()));
}

fn csi(v: &Value, at: &At<'_>, errs: &mut Errs) {
    driver_name(s(v, "driver"), &at.f("driver"), errs);
    if let Some(secret) = get(v, "nodePublishSecretRef") {
        let at = at.f("nodePublishSecretRef");
        match s(secret, "name") {
            "" => errs.required(&at.f("name"), ""),
            name => errs.invalid_each(&at.f("name"), name, names::is_dns1123_subdomain(name)),
        }
    }
}

fn persistent_csi(v: &Value, at: &At<'_>, errs: &mut Errs) {
    driver_name(s(v, "driver"), &at.f("driver"), errs);
    needs(v, &["volumeHandle"], at, errs);
    for key in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let Some(secret) = get(v, key) else { continue };
        let at = at.f(key);
        needs(secret, &["name", "namespace"], &at, errs);
        let (name, namespace) = (s(secret, "name"), s(secret, "namespace"));
        if !name.is_empty() {
            errs.invalid_each(&at.f("name"), name, names::is_dns1123_subdomain(name));
        }
        if !namespace.is_empty() {
            errs.invalid_each(&at.f("namespace"), namespace, names::is_dns1123_label(namespace));
        }
    }
}

fn mode(v: &Value, key: &str, at: &At<'_>, errs: &mut Errs) {
    if let Some(n) = i(v, key).filter(|n| !(0..=0o777).contains(n)) {
        errs.invalid(&at.f(key), n, FILE_MODE);
    }
}

fn keyed(v: &Value, name: &str, at: &At<'_>, errs: &mut Errs) {
    needs(v, &[name], at, errs);
    mode(v, "defaultMode", at, errs);
    items(v, at, errs);
}

fn items(v: &Value, at: &At<'_>, errs: &mut Errs) {
    let at = at.f("items");
    for (index, item) in list(v, "items").iter().enumerate() {
        let at = at.i(index);
        needs(item, &["key"], &at, errs);
        path_below(item, &at, errs);
        mode(item, "mode", &at, errs);
    }
}

fn path_below(v: &Value, at: &At<'_>, errs: &mut Errs) {
    match s(v, "path") {
        "" => errs.required(&at.f("path"), ""),
        path => local_non_reserved(path, &at.f("path"), errs),
    }
}

fn downward(v: &Value, at: &At<'_>, errs: &mut Errs) {
    mode(v, "defaultMode", at, errs);
    downward_files(v, at, errs);
}

fn downward_files(v: &Value, at: &At<'_>, errs: &mut Errs) {
    for file in list(v, "items") {
        path_below(file, at, errs);
        match (get(file, "fieldRef"), get(file, "resourceFieldRef")) {
            (Some(_), Some(_)) => errs.invalid(
                at,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ),
            (Some(field), None) => env::volume_field_ref(field, &at.f("fieldRef"), errs),
            (None, Some(resource)) => {
                env::resource_field_ref(resource, true, &at.f("resourceFieldRef"), errs)
            }
            (None, None) => errs.required(at, "one of fieldRef and resourceFieldRef is required"),
        }
        mode(file, "mode", at, errs);
    }
}

const PROJECTIONS: [&str; 6] =
    ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];

fn projected(v: &Value, at: &At<'_>, errs: &mut Errs) {
    mode(v, "defaultMode", at, errs);
    let sources = at.f("sources");
    let mut paths: Vec<&str> = Vec::new();
    for (index, source) in list(v, "sources").iter().enumerate() {
        let item = sources.i(index);
        let mut found = 0;
        for kind in PROJECTIONS {
            let Some(projection) = get(source, kind) else { continue };
            found += 1;
            let at = item.f(kind);
            if found > 1 {
                errs.forbidden(&at, "may not specify more than 1 volume type per source");
            } else {
                self::projection(kind, projection, &at, errs);
                paths_of(kind, projection, &mut paths);
            }
        }
    }
    for (index, path) in paths.iter().enumerate() {
        if !path.is_empty() && paths.iter().take(index).any(|p| p == path) {
            errs.invalid(at, *path, "conflicting duplicate paths");
        }
    }
}

fn projection(kind: &str, v: &Value, at: &At<'_>, errs: &mut Errs) {
    match kind {
        "secret" | "configMap" => {
            needs(v, &["name"], at, errs);
            items(v, at, errs);
        }
        "downwardAPI" => downward_files(v, at, errs),
        "serviceAccountToken" => token(v, at, errs),
        "clusterTrustBundle" => trust_bundle(v, at, errs),
        _ => pod_certificate(v, at, errs),
    }
}

fn paths_of<'a>(kind: &str, v: &'a Value, paths: &mut Vec<&'a str>) {
    match kind {
        "serviceAccountToken" | "clusterTrustBundle" => paths.push(s(v, "path")),
        "podCertificate" => {
            paths.extend(["credentialBundlePath", "keyPath", "certificateChainPath"].map(|k| s(v, k)))
        }
        _ => paths.extend(list(v, "items").iter().map(|item| s(item, "path"))),
    }
}

fn token(v: &Value, at: &At<'_>, errs: &mut Errs) {
    let seconds = i(v, "expirationSeconds").unwrap_or(0);
    if seconds < 600 {
        errs.invalid(&at.f("expirationSeconds"), seconds, "may not specify a duration less than 10 minutes");
    } else if seconds > 1 << 32 {
        errs.invalid(
            &at.f("expirationSeconds"),
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    path_below(v, at, errs);
}

fn trust_bundle(v: &Value, at: &At<'_>, errs: &mut Errs) {
    let (by_name, by_signer) = (set(v, "name"), set(v, "signerName"));
    match (by_name, by_signer) {
        (true, true) => errs.invalid(at, v.clone(), "only one of name and signerName may be used"),
        (false, false) => errs.required(at, "either name or signerName must be specified"),
        (true, false) => {
            needs(v, &["name"], at, errs);
            if set(v, "labelSelector") {
                errs.invalid(
                    &at.f("labelSelector"),
                    v.get("labelSelector").cloned().unwrap_or_default(),
                    "labelSelector must be unset if name is specified",
                );
            }
        }
        (false, true) => {
            needs(v, &["signerName"], at, errs);
            labels::selector_in(v, "labelSelector", at, errs);
        }
    }
    path_below(v, at, errs);
}

fn pod_certificate(v: &Value, at: &At<'_>, errs: &mut Errs) {
    needs(v, &["signerName"], at, errs);
    let keys = ["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"];
    errs.one_of(&at.f("keyType"), s(v, "keyType"), &keys);
    let paths = ["credentialBundlePath", "keyPath", "certificateChainPath"];
    if paths.iter().all(|k| s(v, k).is_empty()) {
        errs.required(at, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath");
    }
    for key in paths.iter().filter(|k| !s(v, k).is_empty()) {
        local_non_reserved(s(v, key), &at.f(key), errs);
    }
}

fn ephemeral(v: &Value, at: &At<'_>, errs: &mut Errs) {
    let Some(template) = get(v, "volumeClaimTemplate") else {
        return errs.required(&at.f("volumeClaimTemplate"), "");
    };
    let at = at.f("volumeClaimTemplate");
    if let Some(meta) = get(template, "metadata") {
        let at = at.f("metadata");
        labels::labels(meta, "labels", &at.f("labels"), errs);
        super::meta::annotations(meta, &at.f("annotations"), errs);
        if entries(template, "metadata")
            .any(|(k, v)| !matches!(k, "labels" | "annotations") && !crate::registry::val::is_zero(v))
        {
            errs.forbidden(&at, "only labels and annotations may be set");
        }
    }
    crate::registry::kinds::persistent_volume_claim::claim_spec(
        get(template, "spec").unwrap_or(&Value::Null),
        &at.f("spec"),
        errs,
    );
}

fn image(v: &Value, template: bool, at: &At<'_>, errs: &mut Errs) {
    if !template && s(v, "reference").is_empty() {
        errs.required(&at.f("reference"), "");
    }
    errs.required_one_of(&at.f("pullPolicy"), s(v, "pullPolicy"), &["Always", "IfNotPresent", "Never"]);
}
