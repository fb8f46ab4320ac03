//! Watches: one JSON document a line, for as long as the server keeps talking.

use futures::stream::BoxStream;
use futures::{AsyncBufReadExt, StreamExt};
use serde_json::Value;

use crate::{Call, Cluster, Error, Kind, Result, Status};

/// One event of a watch.
#[derive(Clone, Debug)]
pub struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`.
    pub what: String,
    pub object: Value,
}

impl Cluster {
    /// Follows any watch request; `watch=true` is added. An ERROR event ends the stream as an error.
    pub async fn watch(&self, call: Call) -> Result<BoxStream<'static, Result<Event>>> {
        let lines = self.stream(call.query("watch", "true")).await?.lines();
        Ok(lines.filter_map(async |line| event(line)).boxed())
    }

    /// Follows one object: what it is now comes first as ADDED (nothing if it isn't there), then what happens to it.
    /// Works on servers with and without streaming lists.
    pub async fn follow(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<BoxStream<'static, Result<Event>>> {
        let path = kind.path(namespace, None, None);
        let field = format!("metadata.name={name}");
        let listed = self.send(Call::get(&path).query("fieldSelector", &field)).await?.json()?;
        let version = listed["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_string();
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        let first: Vec<Result<Event>> =
            items.into_iter().map(|object| Ok(Event { what: "ADDED".into(), object })).collect();
        let call = Call::get(path)
            .query("allowWatchBookmarks", "true")
            .query("fieldSelector", field)
            .query("resourceVersion", version);
        let rest = self.watch(call).await?;
        Ok(futures::stream::iter(first).chain(rest).boxed())
    }
}

fn event(line: std::io::Result<String>) -> Option<Result<Event>> {
    let line = match line {
        Ok(line) if line.trim().is_empty() => return None,
        Ok(line) => line,
        Err(cause) => return Some(Err(Error::message(cause.to_string()))),
    };
    let mut document: Value = match serde_json::from_str(&line) {
        Ok(document) => document,
        // The line was cut off with the connection.
        Err(cause) if cause.is_eof() => return None,
        Err(cause) => {
            return Some(Err(Error::message(format!(
                "unable to decode an event from the watch stream: {cause}"
            ))));
        }
    };
    let object = document["object"].take();
    match document["type"].as_str().unwrap_or_default() {
        "ERROR" => Some(Err(Error::Api(Box::new(Status::read(&object).unwrap_or_default())))),
        what => Some(Ok(Event { what: what.into(), object })),
    }
}
