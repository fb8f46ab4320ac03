//! Which requests the proxy lets through.

use super::Proxy;
use coxctl_kit::{Error, Result};
use regex::Regex;

/// What the proxy lets through.
pub struct Filter {
    hosts: Vec<Regex>,
    paths: Vec<Regex>,
    no_paths: Vec<Regex>,
    no_methods: Vec<Regex>,
}

fn patterns(text: &str) -> Result<Vec<Regex>> {
    text.split(',').map(|one| Regex::new(one).map_err(|error| no_pattern(&error))).collect()
}

fn no_pattern(error: &regex::Error) -> Error {
    let why = error.to_string();
    let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
    Error::Code(format!("error: Error compiling re: error parsing regexp: {why}"), 255)
}

impl Filter {
    /// From the flags.
    ///
    /// # Errors
    /// Patterns that are none.
    pub fn new(args: &Proxy) -> Result<Self> {
        Ok(Self {
            hosts: patterns(&args.accept_hosts)?,
            paths: patterns(&args.accept_paths)?,
            no_paths: patterns(&args.reject_paths)?,
            no_methods: patterns(&args.reject_methods)?,
        })
    }

    /// Whether a request may pass.
    pub fn accepts(&self, method: &str, host: &str, path: &str) -> bool {
        let any = |list: &[Regex], text: &str| list.iter().any(|one| one.is_match(text));
        !any(&self.no_paths, path)
            && !any(&self.no_methods, method)
            && any(&self.paths, path)
            && any(&self.hosts, host)
    }
}

/// A Host header without the port.
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if !name.contains(':') || name.ends_with(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_ports() {
        for (host, wanted) in [
            ("localhost:8001", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]:8001", "[::1]"),
            ("::1", "::1"),
        ] {
            assert_eq!(without_port(host), wanted);
        }
    }

    #[test]
    fn the_default_filter_lets_local_requests_through() -> Result<()> {
        let filter = Filter {
            hosts: patterns(r"^localhost$,^127\.0\.0\.1$,^\[::1\]$")?,
            paths: patterns("^.*")?,
            no_paths: patterns("^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach")?,
            no_methods: patterns("^$")?,
        };
        assert!(filter.accepts("GET", "localhost", "/version"));
        assert!(filter.accepts("GET", "[::1]", "/version"));
        assert!(!filter.accepts("GET", "evil.example", "/version"));
        assert!(!filter.accepts("GET", "localhost", "/api/v1/namespaces/a/pods/b/exec"));
        Ok(())
    }
}
