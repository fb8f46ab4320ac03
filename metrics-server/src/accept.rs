//! Which form of an answer a client wants, by its `Accept` header.

use http::HeaderMap;
use http::header::ACCEPT;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The object itself.
    Object,
    /// `meta.k8s.io` Table of this version.
    Table(&'static str),
    /// Its metadata alone; there is one form for an object and one for a list.
    Partial,
    /// Aggregated discovery.
    Discovery,
}

/// An acceptable form.
pub type Form = (Encoding, Shape);

/// The first form in the header that there is; none when there is no such form.
pub fn chosen(headers: &HeaderMap, shapes: &[Shape]) -> Option<Form> {
    let texts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut wanted =
        texts.flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty()).peekable();
    if wanted.peek().is_none() {
        return Some((Encoding::Json, Shape::Object));
    }
    wanted.find_map(|text| form(text, shapes))
}

fn form(text: &str, shapes: &[Shape]) -> Option<Form> {
    let mut parts = text.split(';').map(str::trim);
    let encoding = match parts.next()? {
        "application/json" | "*/*" | "application/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key {
            "as" => kind = value,
            "g" => group = value,
            "v" => version = value,
            "stream" => return None,
            _ => {}
        }
    }
    let shape = match (kind, group, version) {
        ("", ..) => Shape::Object,
        ("Table", "meta.k8s.io", "v1") => Shape::Table("v1"),
        ("Table", "meta.k8s.io", "v1beta1") => Shape::Table("v1beta1"),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => Shape::Partial,
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Shape::Discovery,
        _ => return None,
    };
    // Tables and discovery have no protobuf form here, metadata neither
    let possible = shape == Shape::Object || encoding != Encoding::Protobuf;
    (possible && shapes.contains(&shape)).then_some((encoding, shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let all = [Shape::Object, Shape::Table("v1"), Shape::Table("v1beta1"), Shape::Partial];
        for (text, want) in [
            ("", Some((Encoding::Json, Shape::Object))),
            ("*/*", Some((Encoding::Json, Shape::Object))),
            ("application/json, */*", Some((Encoding::Json, Shape::Object))),
            (
                "application/vnd.kubernetes.protobuf, application/json",
                Some((Encoding::Protobuf, Shape::Object)),
            ),
            ("application/yaml", Some((Encoding::Yaml, Shape::Object))),
            (&format!("{TABLE},application/json"), Some((Encoding::Json, Shape::Table("v1")))),
            (
                "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json",
                Some((Encoding::Json, Shape::Object)),
            ),
            ("application/json;as=Nothing;v=v1;g=x", None),
            ("text/html", None),
            ("application/json;stream=watch", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, text.parse().unwrap());
            assert_eq!(chosen(&headers, &all), want, "{text}");
        }
    }
}
