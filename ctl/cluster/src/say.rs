//! What the commands print: kubeadm's `[phase] words` lines on standard output, seconds on standard error from -v 1 on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

static VERBOSITY: AtomicU8 = AtomicU8::new(0);
static SECONDS: Mutex<Vec<(String, Duration)>> = Mutex::new(Vec::new());

/// Sets how much is printed (`-v`).
pub fn verbosity(v: u8) {
    VERBOSITY.store(v, Ordering::Relaxed);
}

/// Is `-v` at least `v`?
pub fn at(v: u8) -> bool {
    VERBOSITY.load(Ordering::Relaxed) >= v
}

/// A line of a phase.
pub fn line(phase: &str, words: impl std::fmt::Display) {
    println!("[{phase}] {words}");
}

/// A warning of a phase.
pub fn warn(phase: &str, words: impl std::fmt::Display) {
    eprintln!("[{phase}] WARNING: {words}");
}

/// A detail, from -v 1 on.
pub fn detail(words: impl std::fmt::Display) {
    if at(1) {
        eprintln!("{words}");
    }
}

/// Keeps and, from -v 1 on, prints how long a phase took.
pub fn took(command: &str, phase: &str, time: Duration) {
    detail(format_args!("[{command}] {phase} ({:.2} s)", time.as_secs_f64()));
    if let Ok(mut all) = SECONDS.lock() {
        all.push((phase.to_string(), time));
    }
}

/// The phases so far and how long each took.
pub fn seconds() -> Vec<(String, Duration)> {
    SECONDS.lock().map(|all| all.clone()).unwrap_or_default()
}
