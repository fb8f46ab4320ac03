//! The user's editor, and the comments at the top of what it shows.

use crate::flags::error;
use crate::target::Target;
use anyhow::{Context, Result};
use coxctl_kit::Error;
use coxctl_kit::print::{json, yaml};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const HEADER: &str = "# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
";

/// Why an edit was refused; shown at the top of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    pub head: String,
    pub items: Vec<String>,
}

impl Reason {
    /// What the server said about an object.
    pub fn of(target: &Target, cause: &Error) -> Self {
        let name = format!("{} {:?}", target.kind.group_resource(), target.name);
        let causes = cause.status().map(|s| s.details["causes"].clone()).unwrap_or_default();
        let items: Vec<String> = causes
            .as_array()
            .into_iter()
            .flatten()
            .map(|c| {
                format!(
                    "{}: {}",
                    c["field"].as_str().unwrap_or_default(),
                    c["message"].as_str().unwrap_or_default()
                )
            })
            .collect();
        match cause.is("Invalid") && !items.is_empty() {
            true => Self { head: format!("{name} was not valid:"), items },
            false => Self { head: format!("{name} could not be patched: {cause}"), items: vec![] },
        }
    }
}

/// What became of a file in the editor.
#[derive(Debug)]
pub enum Outcome {
    Edited(String),
    Unchanged { path: PathBuf },
    Empty,
}

/// An object as it is shown.
pub fn text_of(object: &Value, as_json: bool) -> String {
    if as_json { json::pretty(object) + "\n" } else { yaml::document(object) }
}

/// The text with the header and the reasons for which it is shown again.
pub fn with_header(text: &str, reasons: &[Reason]) -> String {
    let mut out = HEADER.to_string();
    for reason in reasons {
        let lines = std::iter::once(reason.head.clone()).chain(reason.items.iter().map(|i| format!("* {i}")));
        let commented = lines.flat_map(|line| line.lines().map(|l| format!("# {l}\n")).collect::<Vec<_>>());
        out.extend(commented);
        out.push_str("#\n");
    }
    out + &without_comments(text)
}

/// The text without its comment lines.
pub fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// Shows text in the editor and looks at what came of it.
pub fn open(text: &str, reasons: &[Reason]) -> Result<Outcome> {
    let shown = with_header(text, reasons);
    let path = scratch(if text.starts_with('{') { "json" } else { "yaml" }, &shown)?;
    launch(&path)?;
    let edited = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let bare = without_comments(&edited);
    if bare == without_comments(text) {
        let _ = std::fs::remove_file(&path);
        return Ok(Outcome::Unchanged { path });
    }
    let _ = std::fs::remove_file(&path);
    if bare.trim().is_empty() {
        return Ok(Outcome::Empty);
    }
    Ok(Outcome::Edited(bare))
}

/// Leaves a copy of refused work behind.
pub fn keep(path: &Path, text: &str) -> Result<PathBuf> {
    write_private(path, text)?;
    Ok(path.to_path_buf())
}

fn scratch(end: &str, text: &str) -> Result<PathBuf> {
    let name = format!("coxctl-edit-{}.{end}", machinery::names::random_suffix(10));
    let path = std::env::temp_dir().join(name);
    write_private(&path, text)?;
    Ok(path)
}

/// Objects may be secrets: nobody else may read the file.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

/// `KUBE_EDITOR`, else `EDITOR`, else vi; through the shell when it is more than a word.
fn launch(path: &Path) -> Result<()> {
    let chosen =
        ["KUBE_EDITOR", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let editor = chosen.unwrap_or_else(|| "vi".into());
    let mut command = if editor.contains([' ', '"', '\'', '\\', '$']) {
        let mut shell = Command::new(std::env::var("SHELL").unwrap_or_else(|_| "/bin/bash".into()));
        shell.arg("-c").arg(format!("{editor} {:?}", path.display().to_string()));
        shell
    } else {
        let mut direct = Command::new(&editor);
        direct.arg(path);
        direct
    };
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(error(format!("there was a problem with the editor {editor:?}"))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !editor.contains('/') => {
            Err(error(format!("unable to launch the editor {editor:?}")))
        }
        Err(_) => Err(error(format!("there was a problem with the editor {editor:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let reason = Reason { head: "x was not valid:".into(), items: vec!["a: b".into()] };
        let text = with_header("# old\nkind: A\n", &[reason]);
        assert!(text.ends_with(
            "# reopened with the relevant failures.\n#\n# x was not valid:\n# * a: b\n#\nkind: A\n"
        ));
        assert_eq!(without_comments(&text), "kind: A\n");
    }
}
