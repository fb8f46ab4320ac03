//! Colours for a terminal: the header bold, and words that say how something is.

/// Puts colours on a table that is already laid out.
pub fn table(text: &str, headers: bool) -> String {
    let mut first = headers;
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches('\n');
        if bare.is_empty() {
            // The next block has a header of its own.
            first = headers;
            out.push_str(line);
            continue;
        }
        match std::mem::take(&mut first) {
            true => out.push_str(&format!("\u{1b}[1m{bare}\u{1b}[0m\n")),
            false => out.push_str(&format!("{}\n", row(bare))),
        }
    }
    out
}

fn row(line: &str) -> String {
    line.split_inclusive("   ").map(|cell| painted(cell.trim_end(), cell)).collect()
}

/// A cell with its padding, the word in colour.
fn painted(word: &str, cell: &str) -> String {
    match colour(word) {
        Some(code) => format!("\u{1b}[{code}m{word}\u{1b}[0m{}", &cell[word.len()..]),
        None => cell.to_string(),
    }
}

fn colour(word: &str) -> Option<&'static str> {
    const GOOD: &[&str] =
        &["Running", "Ready", "Active", "Bound", "Available", "Established", "Complete", "Approved,Issued"];
    const WAITING: &[&str] = &[
        "Pending",
        "ContainerCreating",
        "PodInitializing",
        "Terminating",
        "Released",
        "NotReady,SchedulingDisabled",
        "Ready,SchedulingDisabled",
    ];
    const BAD: &[&str] = &[
        "Error",
        "Failed",
        "NotReady",
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "OOMKilled",
        "Evicted",
        "Warning",
        "Unknown",
        "Lost",
        "Denied",
    ];
    if GOOD.contains(&word) {
        return Some("32");
    }
    if WAITING.contains(&word) || word.starts_with("Init:") {
        return Some("33");
    }
    (BAD.contains(&word) || word.ends_with("Error") || word.ends_with("BackOff")).then_some("31")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_get_colours_and_columns_stay() {
        let text = "NAME   STATUS\na      Running\nb      CrashLoopBackOff   x\n";
        let painted = table(text, true);
        assert_eq!(
            painted,
            "\u{1b}[1mNAME   STATUS\u{1b}[0m\na      \u{1b}[32mRunning\u{1b}[0m\nb      \u{1b}[31mCrashLoopBackOff\u{1b}[0m   x\n"
        );
        let plain =
            regex::Regex::new("\u{1b}\\[[0-9;]*m").expect("pattern").replace_all(&painted, "").into_owned();
        assert_eq!(plain, text);
    }
}
