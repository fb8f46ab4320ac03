//! Generators of ConfigMaps and Secrets.

use crate::gojson;
use anyhow::{Context, Result, anyhow, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use coxctl_kit::print::json::compact;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Where keys and values come from.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Sources {
    /// A file, KEY=FILE, or a directory whose files become keys.
    #[arg(long, value_delimiter = ',')]
    pub from_file: Vec<String>,
    /// Specify a key and literal value to insert (i.e. mykey=somevalue).
    #[arg(long)]
    pub from_literal: Vec<String>,
    /// A file to read lines of key=val pairs from.
    #[arg(long, value_delimiter = ',')]
    pub from_env_file: Vec<String>,
    /// Append a hash of the object to its name.
    #[arg(long)]
    pub append_hash: bool,
}

/// Keys in the order they were given.
type Pairs = Vec<(String, Vec<u8>)>;

impl Sources {
    fn read(&self) -> Result<Pairs> {
        let others = self.from_file.len() + self.from_literal.len();
        if others > 0 && !self.from_env_file.is_empty() {
            bail!("from-env-file cannot be combined with from-file or from-literal");
        }
        let mut pairs = Pairs::new();
        for source in &self.from_literal {
            pairs.push(literal(source)?);
        }
        for source in &self.from_file {
            read_source(source, &mut pairs)?;
        }
        for file in &self.from_env_file {
            let bytes = std::fs::read(file).map_err(|e| anyhow!("error reading {file}: {}", go_error(&e)))?;
            env_lines(&String::from_utf8_lossy(&bytes), &mut pairs)?;
        }
        Ok(pairs)
    }
}

/// `create configmap NAME`.
pub fn config_map(name: &str, namespace: Option<&str>, sources: &Sources) -> Result<Value> {
    let (mut data, mut binary) = (Map::new(), Map::new());
    for (key, bytes) in sources.read()? {
        check_key(&key).map_err(|why| anyhow!("{key:?} is not a valid key name for a ConfigMap: {why}"))?;
        if data.contains_key(&key) || binary.contains_key(&key) {
            bail!(
                "cannot add key {key:?}, another key by that name already exists in Data for ConfigMap {name:?}"
            );
        }
        match String::from_utf8(bytes) {
            Ok(text) => data.insert(key, json!(text)),
            Err(e) => binary.insert(key, json!(STANDARD.encode(e.as_bytes()))),
        };
    }
    let mut hashed = json!({"kind": "ConfigMap", "name": name, "data": data});
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name, namespace)});
    if !data.is_empty() {
        object["data"] = Value::Object(data);
    }
    if !binary.is_empty() {
        hashed["binaryData"] = Value::Object(binary.clone());
        object["binaryData"] = Value::Object(binary);
    }
    append_hash(&mut object, &hashed, sources.append_hash);
    Ok(object)
}

/// `create secret generic NAME`.
pub fn secret(name: &str, namespace: Option<&str>, kind: &str, sources: &Sources) -> Result<Value> {
    let mut data = BTreeMap::new();
    for (key, bytes) in sources.read()? {
        check_key(&key).map_err(|why| anyhow!("{key:?} is not valid key name for a Secret {why}"))?;
        if data.contains_key(&key) {
            bail!("cannot add key {key}, another key by that name already exists");
        }
        data.insert(key, bytes);
    }
    Ok(secret_of(name, namespace, kind, &data, sources.append_hash))
}

/// `create secret tls NAME`.
pub fn tls_secret(name: &str, namespace: Option<&str>, cert: &str, key: &str, hash: bool) -> Result<Value> {
    if cert.is_empty() || key.is_empty() {
        bail!("key and cert must be specified");
    }
    let read = |path: &str| {
        std::fs::read(path).map_err(|e| anyhow!("Cannot read file {path}, open {path}: {}", go_error(&e)))
    };
    let (cert, key) = (read(cert)?, read(key)?);
    check_pair(&cert, &key)?;
    let data = BTreeMap::from([("tls.crt".to_string(), cert), ("tls.key".to_string(), key)]);
    Ok(secret_of(name, namespace, "kubernetes.io/tls", &data, hash))
}

/// A certificate and key that don't belong together are refused before anything is sent.
fn check_pair(cert: &[u8], key: &[u8]) -> Result<()> {
    let certs: Vec<_> = CertificateDer::pem_slice_iter(cert).collect::<Result<_, _>>().unwrap_or_default();
    if certs.is_empty() {
        bail!("tls: failed to find any PEM data in certificate input");
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| anyhow!("tls: failed to find any PEM data in key input"))?;
    daemon::init_crypto();
    let signing = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|_| anyhow!("tls: failed to parse private key"))?;
    match rustls::sign::CertifiedKey::new(certs, signing).keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            bail!("tls: private key does not match public key")
        }
        _ => Ok(()),
    }
}

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Flags of `create secret docker-registry NAME`.
#[derive(clap::Args, Clone, Debug)]
pub struct Registry {
    /// Email for Docker registry.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub docker_email: String,
    /// Password for Docker registry authentication.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub docker_password: String,
    /// Server location for Docker registry.
    #[arg(long, default_value = "https://index.docker.io/v1/")]
    pub docker_server: String,
    /// Username for Docker registry authentication.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub docker_username: String,
    /// A file, or KEY=FILE; the key is .dockerconfigjson unless it is named.
    #[arg(long, value_delimiter = ',')]
    pub from_file: Vec<String>,
    /// Append a hash of the secret to its name.
    #[arg(long)]
    pub append_hash: bool,
}

const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// `create secret docker-registry NAME`.
pub fn registry_secret(name: &str, namespace: Option<&str>, flags: &Registry) -> Result<Value> {
    let given = [&flags.docker_username, &flags.docker_password, &flags.docker_server];
    if flags.from_file.is_empty() && given.iter().any(|text| text.is_empty()) {
        bail!(
            "either --from-file or the combination of --docker-username, --docker-password and --docker-server is required"
        );
    }
    let mut data = BTreeMap::new();
    for source in &flags.from_file {
        let named = if source.contains('=') { source.clone() } else { format!("{DOCKER_CONFIG}={source}") };
        let mut pairs = Pairs::new();
        read_source(&named, &mut pairs)?;
        data.extend(pairs);
    }
    if flags.from_file.is_empty() {
        data.insert(DOCKER_CONFIG.into(), docker_config(flags).into_bytes());
    }
    Ok(secret_of(name, namespace, "kubernetes.io/dockerconfigjson", &data, flags.append_hash))
}

/// The members stand in the order Docker's users know, not in that of their names.
fn docker_config(flags: &Registry) -> String {
    let auth = STANDARD.encode(format!("{}:{}", flags.docker_username, flags.docker_password));
    let entries = [
        ("username", flags.docker_username.as_str()),
        ("password", &flags.docker_password),
        ("email", &flags.docker_email),
        ("auth", &auth),
    ];
    let filled = entries.iter().filter(|(_, text)| !text.is_empty());
    let members: Vec<String> = filled.map(|(k, v)| format!("\"{k}\":{}", compact(&json!(v)))).collect();
    format!("{{\"auths\":{{{}:{{{}}}}}}}", compact(&json!(flags.docker_server)), members.join(","))
}

fn secret_of(
    name: &str,
    namespace: Option<&str>,
    kind: &str,
    data: &BTreeMap<String, Vec<u8>>,
    hash: bool,
) -> Value {
    let data: Map<String, Value> = data.iter().map(|(k, v)| (k.clone(), json!(STANDARD.encode(v)))).collect();
    let hashed = json!({"kind": "Secret", "type": kind, "name": name, "data": data});
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata(name, namespace)});
    if !data.is_empty() {
        object["data"] = Value::Object(data);
    }
    if !kind.is_empty() {
        object["type"] = json!(kind);
    }
    append_hash(&mut object, &hashed, hash);
    object
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    match namespace {
        Some(namespace) => json!({"name": name, "namespace": namespace}),
        None => json!({"name": name}),
    }
}

fn append_hash(object: &mut Value, hashed: &Value, wanted: bool) {
    if let (true, Some(name)) = (wanted, hashed["name"].as_str()) {
        object["metadata"]["name"] = json!(format!("{name}-{}", gojson::name_hash(hashed)));
    }
}

fn literal(source: &str) -> Result<(String, Vec<u8>)> {
    match source.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => bail!("invalid literal source {source}, expected key=value"),
    }
}

fn read_source(source: &str, pairs: &mut Pairs) -> Result<()> {
    let (key, path) = key_and_path(source)?;
    let found = std::fs::metadata(path).map_err(|e| anyhow!("error reading {path}: {}", go_error(&e)))?;
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("error reading {}", path.display()));
    if !found.is_dir() {
        let key = key.unwrap_or_else(|| path.rsplit('/').next().unwrap_or(path));
        pairs.push((key.into(), read(Path::new(path))?));
        return Ok(());
    }
    if source.contains('=') {
        bail!("cannot give a key name for a directory path");
    }
    let mut entries: Vec<_> = std::fs::read_dir(path)?.collect::<std::io::Result<_>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries.iter().filter(|e| e.file_type().is_ok_and(|t| t.is_file())) {
        pairs.push((entry.file_name().to_string_lossy().into_owned(), read(&entry.path())?));
    }
    Ok(())
}

fn key_and_path(source: &str) -> Result<(Option<&str>, &str)> {
    match (source.matches('=').count(), source.split_once('=')) {
        (0, _) | (_, None) => Ok((None, source)),
        (1, Some(("", path))) => bail!("key name for file path {path} missing"),
        (1, Some((key, ""))) => bail!("file path for key name {key} missing"),
        (1, Some((key, path))) => Ok((Some(key), path)),
        _ => bail!("key names or file paths cannot contain '='"),
    }
}

/// Lines of `KEY=VALUE`; a key alone takes its value from the environment. Comments and empty lines are skipped.
fn env_lines(text: &str, pairs: &mut Pairs) -> Result<()> {
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').map_or((line, None), |(k, v)| (k, Some(v.to_string())));
        let errors = machinery::names::is_env_var_name(key);
        if !errors.is_empty() {
            bail!("{key:?} is not a valid key name: {}", errors.join(";"));
        }
        let value = value.unwrap_or_else(|| std::env::var(key).unwrap_or_default());
        pairs.push((key.into(), value.into_bytes()));
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), String> {
    let errors = machinery::names::is_config_key(key);
    if errors.is_empty() { Ok(()) } else { Err(errors.join(",")) }
}

/// An I/O error without the number the system gave it.
pub(crate) fn go_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literals(pairs: &[&str]) -> Sources {
        Sources { from_literal: pairs.iter().map(|p| (*p).to_string()).collect(), ..Sources::default() }
    }

    #[test]
    fn config_maps() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("b.txt"), "text").expect("writes");
        std::fs::write(dir.path().join("a.bin"), [0xff, 0xfe]).expect("writes");
        let path = dir.path().to_string_lossy().into_owned();
        let sources =
            Sources { from_file: vec![path.clone(), format!("k={path}/b.txt")], ..literals(&["x=1=2"]) };
        let made = config_map("c", Some("n"), &sources).expect("builds");
        assert_eq!(made["data"], json!({"b.txt": "text", "k": "text", "x": "1=2"}));
        assert_eq!(made["binaryData"], json!({"a.bin": "//4="}));
        assert_eq!(made["metadata"], json!({"name": "c", "namespace": "n"}));
    }

    #[test]
    fn bad_sources() {
        for bad in ["a", "=a"] {
            assert!(config_map("c", None, &literals(&[bad])).is_err(), "{bad}");
        }
        let twice = config_map("c", None, &literals(&["a=1", "a=2"])).expect_err("twice");
        assert_eq!(
            twice.to_string(),
            "cannot add key \"a\", another key by that name already exists in Data for ConfigMap \"c\""
        );
        for bad in ["=a", "a=", "a=b=c"] {
            assert!(key_and_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn env_files() {
        let mut pairs = Pairs::new();
        env_lines("# comment\n\n  A=1\nB=x=y\nC=\n", &mut pairs).expect("reads");
        let want = [("A", "1"), ("B", "x=y"), ("C", "")];
        let got: Vec<(&str, &[u8])> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
        assert_eq!(got, want.map(|(k, v)| (k, v.as_bytes())));
        assert!(env_lines("=3", &mut pairs).is_err());
    }

    #[test]
    fn secrets() {
        let made = secret("s", None, "", &literals(&["a=b"])).expect("builds");
        assert_eq!(
            made,
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "Yg=="}})
        );
        let flags = Registry {
            docker_email: String::new(),
            docker_password: "p".into(),
            docker_server: "s".into(),
            docker_username: "u".into(),
            from_file: vec![],
            append_hash: false,
        };
        assert_eq!(docker_config(&flags), r#"{"auths":{"s":{"username":"u","password":"p","auth":"dTpw"}}}"#);
        assert!(tls_secret("t", None, "/etc/passwd", "/etc/passwd", false).is_err());
    }
}
