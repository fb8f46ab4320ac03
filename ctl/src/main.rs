//! `coxctl`, the command line.

use clap::Parser;
use coxctl::cli::{self, Machine};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    daemon::init_crypto();
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
