//! `config print|validate|migrate|images`.

use std::path::PathBuf;

use anyhow::Result;

/// A pull on its way.
pub type Pulling = std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>>;
/// Pulls one image; supplied by who can talk to a container runtime. Arguments: the runtime's socket, the image.
pub type Pull<'a> = &'a (dyn Fn(String, String) -> Pulling + Send + Sync);

/// `coxctl config`.
#[derive(Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration file
    Validate {
        /// Path to the configuration file
        #[arg(long)]
        config: PathBuf,
    },
}

/// Runs a `config` command; returns the exit code.
///
/// # Errors
/// A file that can't be read or is wrong, an image that can't be pulled.
pub async fn run(command: ConfigCommand, pull: Pull<'_>) -> Result<i32> {
    let _ = (command, pull);
    Ok(0)
}
