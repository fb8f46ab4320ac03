//! `coxctl`, the command line.

use clap::Parser;
use coxctl::cli::{self, Machine};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    daemon::init_crypto();
    end_with_the_reader();
    let words: Vec<String> = std::env::args_os().map(|w| w.to_string_lossy().into_owned()).collect();
    if let Some(code) = coxctl::everyday::completion(&words) {
        std::process::exit(code);
    }
    let code = match Machine::is_meant(&words) {
        true => cli::run(Machine::parse()).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            1
        }),
        false => coxctl::everyday::run(words),
    };
    std::process::exit(code);
}

/// Ends the program quietly when nobody reads its output any more, as in `coxctl ... | head`. SIGPIPE itself stays ignored:
/// it would also end those that forward ports.
fn end_with_the_reader() {
    const KILLED_BY_SIGPIPE: i32 = 141;
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let words = panic.payload_as_str().unwrap_or_default();
        if words.starts_with("failed printing to std") && words.contains("Broken pipe") {
            std::process::exit(KILLED_BY_SIGPIPE);
        }
        usual(panic);
    }));
}
