//! `version`: this program's and the server's.

use clap::Args;
use coxctl_kit::connect::go_arch;
use coxctl_kit::print::yaml;
use coxctl_kit::{Call, Error, Globals, Result, out};
use serde_json::{Value, json};

/// The Kubernetes this program's verbs are those of.
pub const KUBERNETES: (&str, &str, &str) = ("1", "36", "v1.36.2+coxswain");

/// The flags of `version`.
#[derive(Args, Clone, Debug)]
pub struct VersionArgs {
    /// If true, shows client version only (no server required)
    #[arg(long)]
    pub client: bool,
    /// One of 'yaml' or 'json'
    #[arg(short = 'o', long, default_value = "")]
    pub output: String,
}

/// The order of a version's fields.
const FIELDS: &[&str] = &[
    "major",
    "minor",
    "emulationMajor",
    "emulationMinor",
    "minCompatibilityMajor",
    "minCompatibilityMinor",
    "gitVersion",
    "gitCommit",
    "gitTreeState",
    "buildDate",
    "goVersion",
    "compiler",
    "platform",
];

/// Prints the versions.
pub async fn run(args: &VersionArgs, globals: &Globals) -> Result<i32> {
    if !matches!(args.output.as_str(), "" | "yaml" | "json") {
        return Err(Error::message("--output must be 'yaml' or 'json'"));
    }
    let client = client();
    let server = if args.client { Ok(None) } else { ask(globals).await.map(Some) };
    let answered = server.as_ref().ok().and_then(Option::as_ref);
    match args.output.as_str() {
        "json" => out::line(&ordered(&client, answered)),
        "yaml" => out::line(&yaml::document(&both(&client, answered))),
        _ => out::put(&plain(&client, answered)),
    }
    let server = server?;
    if let Some(text) = server.as_ref().and_then(skew) {
        out::note(&text);
    }
    Ok(0)
}

async fn ask(globals: &Globals) -> Result<Value> {
    globals.connect().await?.send(Call::get("/version")).await?.json()
}

fn client() -> Value {
    json!({
        "major": KUBERNETES.0, "minor": KUBERNETES.1, "gitVersion": KUBERNETES.2, "gitCommit": "unknown",
        "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
    })
}

fn plain(client: &Value, server: Option<&Value>) -> String {
    let line = |who: &str, version: &Value| {
        format!("{who} Version: {}\n", version["gitVersion"].as_str().unwrap_or_default())
    };
    line("Client", client) + &server.map(|server| line("Server", server)).unwrap_or_default()
}

fn both(client: &Value, server: Option<&Value>) -> Value {
    let mut both = json!({"clientVersion": client});
    if let Some(server) = server {
        both["serverVersion"] = server.clone();
    }
    both
}

/// JSON with the fields in the order Kubernetes declares them, two spaces deep.
fn ordered(client: &Value, server: Option<&Value>) -> String {
    let version = |value: &Value| {
        let known = FIELDS.iter().filter(|field| value.get(**field).is_some());
        let lines: Vec<String> = known.map(|field| format!("    \"{field}\": {}", value[*field])).collect();
        format!("{{\n{}\n  }}", lines.join(",\n"))
    };
    let server =
        server.map(|server| format!(",\n  \"serverVersion\": {}", version(server))).unwrap_or_default();
    format!("{{\n  \"clientVersion\": {}{server}\n}}", version(client))
}

/// A warning when client and server are more than one minor version apart.
fn skew(server: &Value) -> Option<String> {
    let number = |text: &str| text.trim_end_matches('+').parse::<i64>().ok();
    let (major, minor) = (server["major"].as_str()?, server["minor"].as_str()?.trim_end_matches('+'));
    let apart = number(minor)? - number(KUBERNETES.1)?;
    if major == KUBERNETES.0 && apart.abs() <= 1 {
        return None;
    }
    Some(format!(
        "WARNING: version difference between client ({}.{}) and server ({major}.{minor}) exceeds the supported minor version skew of +/-1",
        KUBERNETES.0, KUBERNETES.1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_between_versions() {
        let warned = |minor: &str| skew(&json!({"major": "1", "minor": minor})).is_some();
        assert_eq!(["33", "35", "36+", "37", "38"].map(warned), [true, false, false, false, true]);
    }
}
