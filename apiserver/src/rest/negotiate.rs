//! Which form a request's body has and which forms its answer may take.

use http::{HeaderMap, header};
use machinery::status::Status;

use super::params::Query;

/// Encoding on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// application/json.
    Json,
    /// application/yaml.
    Yaml,
    /// application/vnd.kubernetes.protobuf.
    Protobuf,
}

impl Encoding {
    /// Media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// Media type of a watch.
    pub fn stream_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml;stream=watch",
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }
}

/// What is shown of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// All of it.
    Whole,
    /// A Table.
    Table,
    /// Its metadata.
    Partial,
}

/// The answer's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// Encoding.
    pub encoding: Encoding,
    /// View.
    pub view: View,
    /// meta.k8s.io version of a Table or PartialObjectMetadata: v1 or v1beta1.
    pub meta_version: &'static str,
    /// Indented JSON.
    pub pretty: bool,
}

impl Default for Format {
    fn default() -> Self {
        Self { encoding: Encoding::Json, view: View::Whole, meta_version: "v1", pretty: false }
    }
}

const ACCEPTED: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

impl Format {
    /// The first acceptable entry of `Accept`. `convertible` says whether tables and metadata can be had here.
    pub fn from_headers(headers: &HeaderMap, query: &Query, convertible: bool) -> Result<Self, Status> {
        let accept = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .collect::<Vec<_>>()
            .join(",");
        let mut format = match accept.trim() {
            "" => Self::default(),
            "application/json" => Self::default(),
            accept => accept
                .split(',')
                .find_map(|entry| Self::from_entry(entry, convertible))
                .ok_or_else(|| Status::not_acceptable(&ACCEPTED))?,
        };
        format.pretty |= wants_pretty(headers, query);
        Ok(format)
    }

    fn from_entry(entry: &str, convertible: bool) -> Option<Self> {
        let mut parts = entry.split(';').map(str::trim);
        let mut format = Self { encoding: encoding(parts.next()?)?, ..Self::default() };
        let (mut group, mut kind, mut version) = ("", "", "");
        for (key, value) in parts.filter_map(|p| p.split_once('=')) {
            match key {
                "as" => kind = value,
                "g" => group = value,
                "v" => version = value,
                "pretty" => format.pretty = value == "1" || value == "true",
                _ => {}
            }
        }
        if kind.is_empty() {
            return Some(format);
        }
        format.meta_version = match version {
            "v1" => "v1",
            "v1beta1" => "v1beta1",
            _ => return None,
        };
        format.view = match kind {
            "Table" => View::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList" => View::Partial,
            _ => return None,
        };
        (convertible && group == "meta.k8s.io").then_some(format)
    }

    /// Whether bytes as they are cached (JSON, whole, compact) can be sent.
    pub fn is_plain(&self) -> bool {
        self.encoding == Encoding::Json && self.view == View::Whole && !self.pretty
    }

    /// Compact JSON of the metadata alone.
    pub fn is_plain_partial(&self) -> bool {
        self.encoding == Encoding::Json && self.view == View::Partial && !self.pretty
    }
}

fn encoding(media_type: &str) -> Option<Encoding> {
    match media_type {
        "*/*" | "application/*" | "application/json" => Some(Encoding::Json),
        "application/yaml" => Some(Encoding::Yaml),
        "application/vnd.kubernetes.protobuf" => Some(Encoding::Protobuf),
        _ => None,
    }
}

fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if query.has("pretty") {
        return query.flag("pretty");
    }
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|known| agent.starts_with(known))
}

/// The encoding of a request's body.
pub fn body_encoding(headers: &HeaderMap) -> Result<Encoding, Status> {
    let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    match text.split(';').next().unwrap_or("").trim() {
        "" | "application/json" => Ok(Encoding::Json),
        "application/yaml" => Ok(Encoding::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Encoding::Protobuf),
        _ => Err(Status::unsupported_media_type(&ACCEPTED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> Result<(Encoding, View, &'static str), u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().expect("header"));
        Format::from_headers(&headers, &Query::default(), true)
            .map(|f| (f.encoding, f.view, f.meta_version))
            .map_err(|s| s.code)
    }

    #[test]
    fn accepts() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(kubectl), Ok((Encoding::Json, View::Table, "v1")));
        assert_eq!(
            accept("application/vnd.kubernetes.protobuf,application/json"),
            Ok((Encoding::Protobuf, View::Whole, "v1"))
        );
        assert_eq!(
            accept("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Ok((Encoding::Json, View::Partial, "v1"))
        );
        assert_eq!(accept("text/html, */*;q=0.8"), Ok((Encoding::Json, View::Whole, "v1")));
        assert_eq!(accept("text/html"), Err(406));
    }
}
