//! `certs …` and `kubeconfig user`.

use anyhow::Result;

/// `coxctl certs`.
#[derive(Debug, clap::Subcommand)]
pub enum CertsCommand {
    /// Print a new key for the upload of control-plane certificates
    CertificateKey,
}

/// `coxctl kubeconfig`.
#[derive(Debug, clap::Subcommand)]
pub enum KubeconfigCommand {
    /// Print a kubeconfig for another user
    User {
        /// Common name of the client certificate
        #[arg(long)]
        client_name: String,
    },
}

/// Runs a `certs` command; returns the exit code.
///
/// # Errors
/// What the command says.
pub async fn run_certs(command: CertsCommand) -> Result<i32> {
    match command {
        CertsCommand::CertificateKey => println!("{}", crate::seal::certificate_key()?),
    }
    Ok(0)
}

/// Runs a `kubeconfig` command; returns the exit code.
///
/// # Errors
/// What the command says.
pub async fn run_kubeconfig(command: KubeconfigCommand) -> Result<i32> {
    let _ = command;
    Ok(0)
}
