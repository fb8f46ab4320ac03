//! What a reader of logs asked for.

use jiff::Timestamp;
use std::time::Duration;

/// Which outputs are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streams {
    /// both, as they come
    #[default]
    All,
    /// standard output alone
    Stdout,
    /// standard error alone
    Stderr,
}

/// PodLogOptions after checking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// go on as the file grows
    pub follow: bool,
    /// the instance before the current one
    pub previous: bool,
    /// put the time before each line
    pub timestamps: bool,
    /// leave out what is older
    pub since: Option<Timestamp>,
    /// only this many last lines
    pub tail_lines: Option<u64>,
    /// stop after this many bytes
    pub limit_bytes: Option<u64>,
    /// which outputs
    pub streams: Streams,
}

impl LogOptions {
    /// Reads the query of a log request; errors are for the caller, status 400 or 422.
    pub fn from_query(query: &[(String, String)], now: Timestamp) -> Result<Self, String> {
        let mut options = Self::default();
        for (name, value) in query {
            options.set(name, value, now)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str, now: Timestamp) -> Result<(), String> {
        match name {
            "follow" => self.follow = truth(value),
            "previous" => self.previous = truth(value),
            "timestamps" => self.timestamps = truth(value),
            "sinceSeconds" => {
                let seconds = positive(name, value, 1)?;
                self.since = now.checked_sub(Duration::from_secs(seconds)).ok().or(self.since);
            }
            "sinceTime" => {
                let time =
                    value.parse().map_err(|_| format!("sinceTime: {value:?} is not an RFC 3339 time"))?;
                self.since = Some(time);
            }
            // A negative number has always meant: all of it.
            "tailLines" | "tail" if value.starts_with('-') || value == "all" => {}
            "tailLines" | "tail" => self.tail_lines = Some(positive(name, value, 0)?),
            "limitBytes" => self.limit_bytes = Some(positive(name, value, 1)?),
            "stream" => self.streams = streams(value)?,
            _ => {}
        }
        Ok(())
    }
}

/// The API's reading of a boolean query value: present and not one of the known words for no.
fn truth(value: &str) -> bool {
    !matches!(value, "0" | "false" | "False" | "FALSE" | "f" | "F")
}

/// A boolean of a query.
pub fn flag(query: &[(String, String)], name: &str) -> bool {
    query.iter().any(|(n, v)| n == name && truth(v))
}

fn positive(name: &str, value: &str, least: u64) -> Result<u64, String> {
    match value.parse::<u64>() {
        Ok(n) if n >= least => Ok(n),
        _ => Err(format!("{name}: Invalid value: {value:?}: must be greater than or equal to {least}")),
    }
}

fn streams(value: &str) -> Result<Streams, String> {
    match value {
        "" | "All" => Ok(Streams::All),
        "Stdout" => Ok(Streams::Stdout),
        "Stderr" => Ok(Streams::Stderr),
        _ => Err(format!(
            "stream: Unsupported value: {value:?}: supported values: \"All\", \"Stderr\", \"Stdout\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<LogOptions, String> {
        let pairs: Vec<(String, String)> = text
            .split('&')
            .filter_map(|p| p.split_once('='))
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect();
        LogOptions::from_query(&pairs, "2026-01-01T00:01:00Z".parse().unwrap())
    }

    #[test]
    fn queries() {
        let all =
            parse("follow=true&previous=1&timestamps=true&tailLines=5&limitBytes=10&stream=Stderr").unwrap();
        assert!(all.follow && all.previous && all.timestamps);
        assert_eq!((all.tail_lines, all.limit_bytes, all.streams), (Some(5), Some(10), Streams::Stderr));
        assert_eq!(parse("").unwrap(), LogOptions::default());
        assert_eq!(parse("follow=false&tailLines=-1").unwrap(), LogOptions::default());
        let since = parse("sinceSeconds=60").unwrap().since;
        assert_eq!(since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        for bad in ["tailLines=x", "limitBytes=0", "sinceSeconds=0", "sinceTime=soon", "stream=both"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
