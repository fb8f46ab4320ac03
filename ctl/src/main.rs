//! `coxctl`, the command line.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    daemon::init_crypto();
    let code = match coxctl::cli::run(coxctl::cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("coxctl: {error:#}");
            1
        }
    };
    std::process::exit(code);
}
