//! Every file of `tests/verbs` as one test: kubectl and coxctl must print the same on the lab that `tests/run` started.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use coxswain_tests::verbs;
use libtest_mimic::{Arguments, Failed, Trial};

/// An older kubectl prints other things than the level this project is at.
const OLDEST_MINOR: u32 = 31;

fn main() {
    let args = Arguments::from_args();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("verbs");
    let mut files: Vec<_> =
        std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "txt"));
    files.sort();
    let trials = files.into_iter().map(|path| {
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let test = move || both(&path).map_err(|e| Failed::from(format!("{e:#}")));
        Trial::test(format!("verbs_{name}"), test)
    });
    libtest_mimic::run(&args, trials.collect()).exit();
}

fn both(path: &Path) -> Result<()> {
    std::env::var("COXSWAIN_LAB").context("no lab: run this by tests/run")?;
    let bin = std::env::var("COXSWAIN_BIN").context("no programs: run this by tests/run")?;
    if let Some(minor) = kubectl_minor().filter(|m| *m < OLDEST_MINOR) {
        println!(
            "not compared: kubectl here is 1.{minor}, older than 1.{OLDEST_MINOR}, and prints other things"
        );
        return Ok(());
    }
    let script = verbs::parse(&std::fs::read_to_string(path)?);
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("verbs/files");
    let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    verbs::compare(&script, &files, &format!("verbs-{name}"), ["kubectl", &format!("{bin}/coxctl")])
}

fn kubectl_minor() -> Option<u32> {
    let out = Command::new("kubectl").args(["version", "--client", "-o", "json"]).output().ok()?;
    let version: serde_json::Value = serde_json::from_slice(&out.stdout).ok()?;
    version["clientVersion"]["minor"].as_str()?.trim_end_matches('+').parse().ok()
}
