//! `-f`: objects from files, directories, URLs and standard input.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::print::gotext::quote;
use crate::{Error, Result};

/// The flags that name files.
#[derive(Args, Clone, Debug, Default)]
pub struct FileArgs {
    /// Filename, directory, or URL to files that contain the objects
    #[arg(short = 'f', long = "filename", value_name = "FILE", value_delimiter = ',')]
    pub filename: Vec<String>,
    /// Process the kustomization directory
    #[arg(short = 'k', long, value_name = "DIR")]
    pub kustomize: Option<String>,
    /// Process the directory used in -f, --filename recursively
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

impl FileArgs {
    pub fn is_empty(&self) -> bool {
        self.filename.is_empty() && self.kustomize.is_none()
    }
}

/// An object and where it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub object: Value,
    pub source: String,
}

/// All objects of all files, in order; Lists are taken apart. Files are read to the end even when one of them fails.
pub async fn read(args: &FileArgs) -> Result<Vec<Document>> {
    if args.kustomize.is_some() {
        return Err(Error::message(
            "kustomizations are not supported: build one with another program and pipe the result into -f -",
        ));
    }
    let mut documents = Vec::new();
    for name in &args.filename {
        for (source, text) in texts(name, args.recursive).await? {
            documents.extend(parse(&text, &source)?);
        }
    }
    Ok(documents)
}

async fn texts(name: &str, recursive: bool) -> Result<Vec<(String, String)>> {
    if name == "-" {
        let text =
            std::io::read_to_string(std::io::stdin()).map_err(|cause| Error::message(cause.to_string()))?;
        return Ok(vec![("STDIN".into(), text)]);
    }
    if name.starts_with("http://") || name.starts_with("https://") {
        return Ok(vec![(name.into(), fetch(name).await?)]);
    }
    let path = Path::new(name);
    if !path.exists() {
        return Err(Error::message(format!("the path {} does not exist", quote(name))));
    }
    let files = if path.is_dir() { directory(path, recursive)? } else { vec![path.to_path_buf()] };
    if files.is_empty() {
        return Err(Error::message(format!(
            "error reading [{name}]: recognized file extensions are [.json .yaml .yml]"
        )));
    }
    let read = |file: &PathBuf| std::fs::read_to_string(file).map(|text| (file.display().to_string(), text));
    files
        .iter()
        .map(|file| {
            read(file)
                .map_err(|cause| Error::message(format!("open {}: {}", file.display(), os_text(&cause))))
        })
        .collect()
}

/// An I/O error in the operating system's words, as Go prints them.
pub fn os_text(cause: &std::io::Error) -> String {
    match cause.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => cause.to_string().to_lowercase(),
    }
}

/// The files of a directory that look like objects, sorted by name.
fn directory(path: &Path, recursive: bool) -> Result<Vec<PathBuf>> {
    let failed =
        |cause: std::io::Error| Error::message(format!("open {}: {}", path.display(), os_text(&cause)));
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(path).map_err(failed)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        if entry.is_dir() && recursive {
            files.extend(directory(&entry, recursive)?);
        } else if !entry.is_dir()
            && entry.extension().is_some_and(|end| end == "json" || end == "yaml" || end == "yml")
        {
            files.push(entry);
        }
    }
    Ok(files)
}

async fn fetch(url: &str) -> Result<String> {
    daemon::init_crypto();
    let bad = |cause: String| Error::message(format!("unable to read URL {}, {cause}", quote(url)));
    let uri: http::Uri = url.parse().map_err(|_| bad("invalid address".into()))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_string();
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    let root = http::Uri::from_parts(parts).map_err(|cause| bad(cause.to_string()))?;
    let client = kube::Client::try_from(kube::Config::new(root)).map_err(|cause| bad(cause.to_string()))?;
    let request =
        http::Request::get(path).body(kube::client::Body::empty()).map_err(|cause| bad(cause.to_string()))?;
    let response = client.send(request).await.map_err(|cause| bad(cause.to_string()))?;
    if !response.status().is_success() {
        return Err(bad(format!(
            "server reported {}, status code={}",
            response.status(),
            response.status().as_u16()
        )));
    }
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await
        .map_err(|cause| bad(cause.to_string()))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// The objects of a text of YAML or JSON documents.
pub fn parse(text: &str, source: &str) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for value in values(text, source)? {
        if value.is_null() {
            continue;
        }
        check(&value, source)?;
        flatten(value, source, &mut documents);
    }
    Ok(documents)
}

fn values(text: &str, source: &str) -> Result<Vec<Value>> {
    let failed = |cause: String| Error::message(format!("error parsing {source}: {cause}"));
    if text.trim_start().starts_with('{') {
        let json: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
        if let Ok(values) = json {
            return Ok(values);
        }
    }
    let mut out = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let yaml = serde_yaml::Value::deserialize(document)
            .map_err(|cause| failed(format!("error converting YAML to JSON: yaml: {cause}")))?;
        out.push(to_json(yaml).map_err(failed)?);
    }
    Ok(out)
}

/// YAML's values as JSON's: keys of any kind become text, merge keys are taken in.
pub fn to_json(yaml: serde_yaml::Value) -> Result<Value, String> {
    use serde_yaml::Value as Yaml;
    let mut yaml = yaml;
    yaml.apply_merge().map_err(|cause| cause.to_string())?;
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(yes) => Value::Bool(yes),
        Yaml::Number(number) => serde_json::to_value(number).map_err(|cause| cause.to_string())?,
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?),
        Yaml::Mapping(map) => {
            let pair = |(key, value): (Yaml, Yaml)| Ok::<_, String>((key_text(key)?, to_json(value)?));
            Value::Object(map.into_iter().map(pair).collect::<Result<_, _>>()?)
        }
        Yaml::Tagged(tagged) => to_json(tagged.value)?,
    })
}

fn key_text(key: serde_yaml::Value) -> Result<String, String> {
    match key {
        serde_yaml::Value::String(text) => Ok(text),
        serde_yaml::Value::Number(number) => Ok(number.to_string()),
        serde_yaml::Value::Bool(yes) => Ok(yes.to_string()),
        _ => Err("error converting YAML to JSON: unsupported map key".into()),
    }
}

/// Every object must say what it is.
fn check(value: &Value, source: &str) -> Result<()> {
    let missing = |what: &str| {
        let text = crate::print::json::compact(value);
        Error::message(format!("unable to decode {}: Object '{what}' is missing in '{text}'", quote(source)))
    };
    if !value.is_object() {
        let kind = crate::print::gotext::type_name(value);
        return Err(Error::message(format!(
            "unable to decode {}: json: cannot unmarshal {kind} into Go value of type unstructured.detector",
            quote(source)
        )));
    }
    if value["kind"].as_str().is_none_or(str::is_empty) {
        return Err(missing("Kind"));
    }
    Ok(())
}

fn flatten(value: Value, source: &str, documents: &mut Vec<Document>) {
    let list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && value["items"].is_array();
    if !list {
        documents.push(Document { object: value, source: source.into() });
        return;
    }
    if let Some(items) = value["items"].as_array() {
        items.iter().for_each(|item| flatten(item.clone(), source, documents));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_of_a_text() {
        let text = "---\nkind: A\napiVersion: v1\n---\n# nothing\n---\nkind: List\napiVersion: v1\nitems:\n- {kind: B, apiVersion: v1, data: {1: x}}\n- kind: C\n  apiVersion: v1\n";
        let objects: Vec<Value> =
            parse(text, "f").expect("parses").into_iter().map(|document| document.object).collect();
        assert_eq!(
            objects,
            [
                json!({"kind": "A", "apiVersion": "v1"}),
                json!({"kind": "B", "apiVersion": "v1", "data": {"1": "x"}}),
                json!({"kind": "C", "apiVersion": "v1"})
            ]
        );
        let two =
            parse("{\"kind\":\"A\",\"apiVersion\":\"v1\"}\n{\"kind\":\"B\",\"apiVersion\":\"v1\"}", "f")
                .expect("parses");
        assert_eq!(two.len(), 2);
        let error = parse("a: b\n", "f.yaml").expect_err("no kind");
        assert_eq!(
            error.to_string(),
            "unable to decode \"f.yaml\": Object 'Kind' is missing in '{\"a\":\"b\"}'"
        );
    }
}
