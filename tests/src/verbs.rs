//! The same command lines through kubectl and through coxctl must print the same and end with the same code.
//!
//! A file of `tests/verbs` is a list of command lines without the program's name, run by bash. `$NS` is a namespace of its own;
//! `# setup: FILE` applies `tests/verbs/files/FILE` to it first; `# each` (the default) runs every line with one program and
//! right after with the other; `# whole` runs all lines with one program, then all with the other in the same namespace made
//! anew, for lines that change things. What differs from run to run (ages, ids, times) is made equal before comparing.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;

/// How long one command line may take, in seconds.
const LINE_LIMIT: &str = "60";
/// Lines that take longer are named in the test's output, in seconds.
const SLOW: f64 = 3.0;
/// How long pods may take to be up before lines are run without them: some are never ready.
const SETTLES: Duration = Duration::from_secs(60);
/// A line read while the cluster moves is looked at again so often.
const TRIES: usize = 5;

/// What a program printed, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// Standard output, made comparable.
    pub out: String,
    /// Standard error, made comparable.
    pub err: String,
    /// The exit code.
    pub code: Option<i32>,
}

/// One file of command lines.
#[derive(Debug, Default)]
pub struct Script {
    /// Files to apply first.
    pub setup: Vec<String>,
    /// Run the whole with one program, then with the other.
    pub whole: bool,
    /// The lines, without the program's name.
    pub lines: Vec<String>,
}

/// Reads a file of command lines.
pub fn parse(text: &str) -> Script {
    let mut script = Script::default();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        match line.strip_prefix('#').map(str::trim) {
            Some("whole") => script.whole = true,
            Some(note) => script.setup.extend(note.strip_prefix("setup:").map(|f| f.trim().to_string())),
            None => script.lines.push(line.to_string()),
        }
    }
    script
}

/// Runs a script with both programs.
///
/// # Errors
/// Names the lines whose outputs differ, with both outputs.
pub fn compare(script: &Script, files: &Path, namespace: &str, programs: [&str; 2]) -> Result<()> {
    let differing = match script.whole {
        true => compare_whole(script, files, namespace, programs)?,
        false => compare_each(script, files, namespace, programs)?,
    };
    remove(namespace)?;
    ensure!(
        differing.is_empty(),
        "{} of {} lines differ:\n{}",
        differing.len(),
        script.lines.len(),
        differing.join("\n")
    );
    Ok(())
}

fn compare_each(script: &Script, files: &Path, namespace: &str, programs: [&str; 2]) -> Result<Vec<String>> {
    prepare(script, files, namespace)?;
    let mut differing = Vec::new();
    for line in &script.lines {
        let mut seen = None;
        for _ in 0..TRIES {
            let [a, b] = programs.map(|p| run(p, line, files, namespace));
            let (a, b) = (a?, b?);
            seen = (a != b).then(|| difference(line, &a, &b));
            if seen.is_none() {
                break;
            }
        }
        differing.extend(seen);
    }
    Ok(differing)
}

fn compare_whole(script: &Script, files: &Path, namespace: &str, programs: [&str; 2]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for program in programs {
        prepare(script, files, namespace)?;
        let said = script.lines.iter().map(|line| run(program, line, files, namespace));
        all.push(said.collect::<Result<Vec<Said>>>()?);
    }
    let pairs = script.lines.iter().zip(all[0].iter().zip(&all[1]));
    Ok(pairs.filter(|(_, (a, b))| a != b).map(|(line, (a, b))| difference(line, a, b)).collect())
}

fn difference(line: &str, a: &Said, b: &Said) -> String {
    format!(
        "$ {line}\n--- kubectl, code {:?}\n{}{}--- coxctl, code {:?}\n{}{}",
        a.code, a.out, a.err, b.code, b.out, b.err
    )
}

fn prepare(script: &Script, files: &Path, namespace: &str) -> Result<()> {
    remove(namespace)?;
    shell(&format!("kubectl create namespace {namespace}"))?;
    let account = format!("kubectl -n {namespace} get serviceaccount default");
    let end = Instant::now() + Duration::from_secs(20);
    while shell(&account).is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
    }
    for file in &script.setup {
        shell(&format!("kubectl -n {namespace} apply -f {}", files.join(file).display()))?;
        settle(namespace);
    }
    Ok(())
}

/// Waits until no pod of the namespace is on its way: each is wholly ready, over, or has stood still long enough.
fn settle(namespace: &str) {
    let moving = format!(
        "kubectl -n {namespace} wait deployment --all --for=condition=Available --timeout=60s; \
         ! kubectl -n {namespace} get pods --no-headers | grep -v -e ' Completed ' -e ' Error ' | \
         awk '{{split($2, n, \"/\")}} n[1] != n[2]' | grep -q ."
    );
    let end = Instant::now() + SETTLES;
    while shell(&moving).is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn remove(namespace: &str) -> Result<()> {
    shell(&format!("kubectl delete namespace {namespace} --ignore-not-found --wait --timeout=60s"))
}

fn shell(command: &str) -> Result<()> {
    let out = Command::new("bash").args(["-c", command]).output().context("running bash")?;
    if !out.status.success() {
        bail!("{command}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

fn run(program: &str, line: &str, files: &Path, namespace: &str) -> Result<Said> {
    let begin = Instant::now();
    let out = Command::new("timeout")
        .args([LINE_LIMIT, "bash", "-c", &format!("set -o pipefail; {program} {line}")])
        .env("NS", namespace)
        .env("PROGRAM", program)
        .current_dir(files)
        .output()
        .context("running bash")?;
    let name = Path::new(program).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let took = begin.elapsed().as_secs_f64();
    if took > SLOW {
        println!("{took:6.2} s  $ {program} {line}");
    }
    let even = |bytes: &[u8]| even(&String::from_utf8_lossy(bytes).replace(&name, "kubectl"));
    Ok(Said { out: even(&out.stdout), err: even(&out.stderr), code: out.status.code() })
}

/// Makes equal what differs from run to run: ids, revisions, times, ages, random name endings.
pub fn even(text: &str) -> String {
    const RULES: [(&str, &str); 14] = [
        // What kubectl says differently before and after 1.34, or when it is built in another way.
        (r#"(?m)^ *"?creationTimestamp"?: null,?\n"#, ""),
        (r"\b(deleted) from \S+ namespace", "$1"),
        (r#"(?m)^E\d{4} \S+ +\d+ run\.go:\d+\] "command failed" err="(.*)"$"#, "error: $1"),
        (r#"\\""#, "\""),
        (r"\b(LIVE|MERGED|kubectl-edit)-[A-Za-z0-9]+", "$1"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4}", "TIME"),
        (r"\bwas \d{3,}\b", "was RV"),
        (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UID"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
        (r#"(resourceVersion"?: )"\d+""#, "${1}RV"),
        (r"-[a-z0-9]{8,10}-[a-z0-9]{5}\b", "-HASH-RANDOM"),
        (r"\b(\d+[dhms])?\d+[dhms]\b( +)?", "AGE "),
        (r"(10\.96\.\d+\.\d+|10\.244\.\d+\.\d+) +", "IP "),
    ];
    let mut text = text.to_string();
    for (pattern, with) in RULES {
        if let Ok(rule) = Regex::new(pattern) {
            text = rule.replace_all(&text, with).into_owned();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_read() {
        let script = parse("# setup: a.yaml\n# whole\n# a remark\n\nget pods -n $NS\n");
        assert_eq!(
            (script.setup, script.whole, script.lines),
            (vec!["a.yaml".into()], true, vec!["get pods -n $NS".into()])
        );
    }

    #[test]
    fn only_what_changes_from_run_to_run_is_made_equal() {
        let a = even("pod/web-7d4b9c8f5-abcde   1/1   5m3s   10.244.1.7   x");
        assert_eq!(a, even("pod/web-56f9cd7b8-zzzzz   1/1   12s   10.244.1.19   x"));
        assert_ne!(even("web   1/1"), even("web   0/1"));
        assert_ne!(even("replicas: 3"), even("replicas: 4"));
    }
}
