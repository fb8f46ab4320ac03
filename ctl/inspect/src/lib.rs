//! Verbs that look into what is running: describe, logs, exec, attach, cp, port-forward, proxy, debug.

pub mod attach;
mod channels;
pub mod copy;
pub mod debug;
pub mod describe;
mod dig;
pub mod exec;
pub mod forward;
pub mod logs;
pub mod proxy;
pub mod session;
mod target;
mod terminal;

use coxctl_kit::{Error, Globals};

/// The verbs.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Command {
    Describe(describe::Describe),
    Logs(logs::Logs),
    Exec(exec::Exec),
    Attach(attach::Attach),
    #[command(name = "cp")]
    Copy(copy::Copy),
    PortForward(forward::PortForward),
    Proxy(proxy::Proxy),
    Debug(debug::Debug),
}

/// Runs a verb; the exit code.
///
/// # Errors
/// Those of the verbs, for `coxctl_kit::report`.
pub async fn run(command: Command, globals: &Globals) -> anyhow::Result<i32> {
    match command {
        Command::Describe(args) => describe::run(args, globals).await?,
        Command::Logs(args) => logs::run(args, globals).await?,
        Command::Exec(args) => exec::run(args, globals).await?,
        Command::Attach(args) => attach::run(args, globals).await?,
        Command::Copy(args) => copy::run(args, globals).await?,
        Command::PortForward(args) => forward::run(args, globals).await?,
        Command::Proxy(args) => proxy::run(args, globals).await?,
        Command::Debug(args) => debug::run(args, globals).await?,
    }
    Ok(0)
}

/// A command line that isn't understood.
pub(crate) fn usage(verb: &str, text: &str) -> Error {
    Error::message(format!("{text}\nSee 'coxctl {verb} -h' for help and examples"))
}
