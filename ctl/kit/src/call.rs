//! Requests and answers, and what a list or a write may ask for.

use http::{HeaderMap, Method, StatusCode};
use hyper::body::Bytes;
use serde_json::Value;

use crate::cluster::PAGE;
use crate::kind::escape_query;
use crate::{Error, Result};

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Call {
    pub method: Method,
    /// The path, already escaped; it may hold a query of its own.
    pub path: String,
    pub query: Vec<(String, String)>,
    pub accept: Option<String>,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

impl Call {
    pub fn new(method: Method, path: impl Into<String>) -> Call {
        Call { method, path: path.into(), ..Call::default() }
    }

    pub fn get(path: impl Into<String>) -> Call {
        Call::new(Method::GET, path)
    }

    pub fn query(mut self, key: &str, value: impl Into<String>) -> Call {
        self.query.push((key.into(), value.into()));
        self
    }

    /// Adds the parameter when there is a value.
    pub fn query_some(self, key: &str, value: Option<impl Into<String>>) -> Call {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    pub fn accept(mut self, accept: impl Into<String>) -> Call {
        self.accept = Some(accept.into());
        self
    }

    /// A body with its content type.
    pub fn body(mut self, content_type: impl Into<String>, body: Vec<u8>) -> Call {
        self.content_type = Some(content_type.into());
        self.body = body;
        self
    }

    /// A JSON body.
    pub fn json(self, value: &Value) -> Call {
        self.body("application/json", value.to_string().into_bytes())
    }

    /// Path and query as they are sent.
    pub fn uri(&self) -> String {
        let mut uri = self.path.clone();
        for (key, value) in &self.query {
            uri.push(if uri.contains('?') { '&' } else { '?' });
            uri.push_str(&format!("{}={}", escape_query(key), escape_query(value)));
        }
        uri
    }
}

/// A successful answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .map_err(|cause| Error::message(format!("the server's answer isn't JSON: {cause}")))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What a list is narrowed by, and how it is asked for.
#[derive(Clone, Debug)]
pub struct ListOptions {
    pub labels: Option<String>,
    pub fields: Option<String>,
    /// Page size; 0 asks for all at once.
    pub limit: u32,
    pub accept: Option<String>,
    /// More parameters, such as `includeObject=Object`.
    pub extra: Vec<(String, String)>,
}

impl Default for ListOptions {
    fn default() -> ListOptions {
        ListOptions { labels: None, fields: None, limit: PAGE, accept: None, extra: Vec::new() }
    }
}

/// Parameters of a writing request.
#[derive(Clone, Debug, Default)]
pub struct Write {
    pub field_manager: Option<String>,
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `Strict`, `Warn` or `Ignore`.
    pub field_validation: Option<String>,
    /// `force` of an apply patch.
    pub force: Option<bool>,
}

impl Write {
    pub(crate) fn onto(&self, call: Call) -> Call {
        call.query_some("dryRun", self.dry_run.then_some("All"))
            .query_some("fieldManager", self.field_manager.clone())
            .query_some("fieldValidation", self.field_validation.clone())
            .query_some("force", self.force.map(|force| force.to_string()))
    }
}

/// The kinds of patch, by content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchType {
    pub fn content_type(self) -> &'static str {
        match self {
            PatchType::Json => "application/json-patch+json",
            PatchType::Merge => "application/merge-patch+json",
            PatchType::Strategic => "application/strategic-merge-patch+json",
            PatchType::Apply => "application/apply-patch+yaml",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped_and_appended() {
        let call =
            Call::get("/api/v1/pods").query("labelSelector", "a=b,c in (d)").query_some("x", None::<String>);
        assert_eq!(call.uri(), "/api/v1/pods?labelSelector=a%3Db%2Cc+in+%28d%29");
        assert_eq!(Call::get("/a?b=c").query("d", "e").uri(), "/a?b=c&d=e");
    }
}
