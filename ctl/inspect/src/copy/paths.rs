//! Paths of both ends of a copy, as text.

use coxctl_kit::{Error, Result};

/// `[[namespace/]pod:]file`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    pub namespace: String,
    /// Empty for files of this machine.
    pub pod: String,
    pub file: String,
}

impl Spec {
    /// Reads a word of the command line.
    ///
    /// # Errors
    /// When it has another form.
    pub fn read(word: &str) -> Result<Self> {
        let wrong =
            || Error::message("filespec must match the canonical format: [[namespace/]pod:]file/path");
        let Some((pod, file)) = word.split_once(':') else {
            return Ok(Self { file: word.into(), ..Self::default() });
        };
        match pod.split('/').collect::<Vec<_>>().as_slice() {
            [""] => Err(wrong()),
            [pod] => Ok(Self { namespace: String::new(), pod: (*pod).into(), file: file.into() }),
            [namespace, pod] => {
                Ok(Self { namespace: (*namespace).into(), pod: (*pod).into(), file: file.into() })
            }
            _ => Err(wrong()),
        }
    }
}

/// The path without a slash at its end.
pub fn without_last_slash(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some("") | None => path,
        Some(shorter) => shorter,
    }
}

/// A path in a container.
pub fn remote(path: &str) -> String {
    without_last_slash(path).replace('\\', "/")
}

/// The shortest path of the same meaning: no `.`, no doubled slashes, `..` taken back.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

/// Both paths, one behind the other.
pub fn join(path: &str, more: &str) -> String {
    match (path, more) {
        ("", more) => clean(more),
        (path, "") => clean(path),
        (path, more) => clean(&format!("{path}/{more}")),
    }
}

/// The last part of a path.
pub fn base(path: &str) -> &str {
    match path.rsplit('/').next() {
        Some("") | None => path,
        Some(base) => base,
    }
}

/// All but the last part of a path.
pub fn directory(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((directory, _)) => clean(&format!("{directory}/")),
        None => ".".into(),
    }
}

/// A path that can't lead out of the directory it is put behind.
pub fn without_shortcuts(path: &str) -> String {
    let mut path = path.trim_start_matches("../");
    if path == ".." || path == "." {
        path = "";
    }
    path.trim_start_matches('/').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        let spec = |namespace: &str, pod: &str, file: &str| {
            Some(Spec { namespace: namespace.into(), pod: pod.into(), file: file.into() })
        };
        for (word, wanted) in [
            ("a/b", spec("", "", "a/b")),
            ("p:/x", spec("", "p", "/x")),
            ("n/p:x", spec("n", "p", "x")),
            (":x", None),
            ("a/b/c:x", None),
        ] {
            assert_eq!(Spec::read(word).ok(), wanted, "{word}");
        }
    }

    #[test]
    fn paths_are_shortened() {
        for (path, wanted) in
            [("/a/../b//c/.", "/b/c"), ("a/..", "."), ("../a", "../a"), ("/..", "/"), ("", ".")]
        {
            assert_eq!(clean(path), wanted, "{path}");
        }
        assert_eq!(
            (directory("/a/b"), directory("a"), directory("/a")),
            ("/a".into(), ".".into(), "/".into())
        );
        assert_eq!(
            (join("/a", "b"), join("a", ""), without_shortcuts("../../etc")),
            ("/a/b".into(), "a".into(), "etc".into())
        );
    }
}
