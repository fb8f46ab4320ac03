//! Every file of `tests/scenarios` as one test, run against the lab that `tests/run` started.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let args = Arguments::from_args();
    let trials = files().into_iter().map(|path| {
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        Trial::test(name, move || scenario(&path).map_err(|error| Failed::from(format!("{error:#}"))))
    });
    libtest_mimic::run(&args, trials.collect()).exit();
}

fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "txt"));
    files.sort();
    files
}

fn scenario(path: &Path) -> Result<()> {
    std::env::var("COXSWAIN_LAB").context("no lab: run the scenarios by tests/run")?;
    coxswain_tests::run(&coxswain_tests::parse(&std::fs::read_to_string(path)?)?)
}
