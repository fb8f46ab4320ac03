//! Every command of the guide is run by a test: it stands in a scenario, in a list of command lines, or in a script that is run.

use std::fs;
use std::path::{Path, PathBuf};

/// Those that set up or take down the whole machine can't be run from a test on it.
const WHOLE_MACHINE: [&str; 3] = ["deploy/up", "deploy/down", "tests/run"];

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir).unwrap().flatten().map(|e| e.path()).collect();
    found.retain(|p| p.is_file() && p.to_string_lossy().ends_with(ending));
    found
}

/// The indented lines of a page: what a reader types. Fenced blocks are pictures and files.
fn commands(page: &str) -> Vec<String> {
    let typed = page
        .split("```")
        .step_by(2)
        .flat_map(str::lines)
        .filter_map(|l| l.strip_prefix("    "))
        .map(str::trim);
    typed.filter(|l| !l.is_empty()).map(str::to_string).collect()
}

#[test]
fn every_command_of_the_guide_is_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut run: Vec<PathBuf> = files(&root.join("tests/scenarios"), ".txt");
    run.extend(files(&root.join("tests/verbs"), ".txt"));
    run.extend(["tests/compose", "tests/run", ".ci/run", "deploy/up"].map(|f| root.join(f)));
    let run: String = run.iter().map(|p| fs::read_to_string(p).unwrap()).collect();
    let mut missing = Vec::new();
    for page in files(&root.join("docs"), ".md").into_iter().chain([root.join("README.md")]) {
        let text = fs::read_to_string(&page).unwrap();
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        // Lists of command lines leave out the program's name.
        let known = |c: &String| {
            WHOLE_MACHINE.contains(&c.as_str())
                || run.contains(c.as_str())
                || c.strip_prefix("coxctl ").is_some_and(|c| run.contains(&format!("\n{c}")))
        };
        missing.extend(commands(&text).into_iter().filter(|c| !known(c)).map(|c| format!("{name}: {c}")));
    }
    assert!(missing.is_empty(), "commands no test runs:\n{}", missing.join("\n"));
}
