//! The flags every verb has, named as kubectl names them.

use clap::Args;

/// Flags that say which cluster is meant, as whom, and how long to wait. Usable before and after the verb.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Path to the kubeconfig file to use for CLI requests
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<String>,
    /// The name of the kubeconfig context to use
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The name of the kubeconfig cluster to use
    #[arg(long, global = true)]
    pub cluster: Option<String>,
    /// The name of the kubeconfig user to use
    #[arg(long, global = true)]
    pub user: Option<String>,
    /// If present, the namespace scope for this CLI request
    #[arg(short = 'n', long, global = true)]
    pub namespace: Option<String>,
    /// The address and port of the Kubernetes API server
    #[arg(short = 's', long, global = true)]
    pub server: Option<String>,
    /// Username to impersonate for the operation
    #[arg(long = "as", global = true, value_name = "USER")]
    pub as_user: Option<String>,
    /// Group to impersonate for the operation, can be repeated
    #[arg(long = "as-group", global = true, value_name = "GROUP")]
    pub as_group: Vec<String>,
    /// UID to impersonate for the operation
    #[arg(long = "as-uid", global = true, value_name = "UID")]
    pub as_uid: Option<String>,
    /// User extras to impersonate for the operation, KEY=VALUE, can be repeated
    #[arg(long = "as-user-extra", global = true, value_name = "KEY=VALUE")]
    pub as_user_extra: Vec<String>,
    /// Bearer token for authentication to the API server
    #[arg(long, global = true)]
    pub token: Option<String>,
    /// Username for basic authentication to the API server
    #[arg(long, global = true, hide = true)]
    pub username: Option<String>,
    /// Password for basic authentication to the API server
    #[arg(long, global = true, hide = true)]
    pub password: Option<String>,
    /// Path to a cert file for the certificate authority
    #[arg(long = "certificate-authority", global = true, value_name = "FILE")]
    pub certificate_authority: Option<String>,
    /// Path to a client certificate file for TLS
    #[arg(long = "client-certificate", global = true, value_name = "FILE")]
    pub client_certificate: Option<String>,
    /// Path to a client key file for TLS
    #[arg(long = "client-key", global = true, value_name = "FILE")]
    pub client_key: Option<String>,
    /// If true, the server's certificate will not be checked for validity
    #[arg(long = "insecure-skip-tls-verify", global = true)]
    pub insecure_skip_tls_verify: bool,
    /// Server name to use for server certificate validation
    #[arg(long = "tls-server-name", global = true, value_name = "NAME")]
    pub tls_server_name: Option<String>,
    /// If true, opt-out of response compression for all requests to the server
    #[arg(long = "disable-compression", global = true, hide = true)]
    pub disable_compression: bool,
    /// How long to wait before giving up on a single server request, such as 1s, 2m, 3h; 0 waits for ever
    #[arg(long = "request-timeout", global = true, default_value = "0", value_name = "DURATION")]
    pub request_timeout: String,
    /// Cache directory
    #[arg(long = "cache-dir", global = true, value_name = "DIR")]
    pub cache_dir: Option<String>,
    /// Number for the log level verbosity
    #[arg(short = 'v', long = "v", global = true, default_value_t = 0, value_name = "LEVEL")]
    pub v: i32,
    /// Treat warnings received from the server as errors and exit with a non-zero exit code
    #[arg(long = "warnings-as-errors", global = true)]
    pub warnings_as_errors: bool,
    /// Require server version to match client version
    #[arg(long = "match-server-version", global = true, hide = true)]
    pub match_server_version: bool,
    /// Colours: auto (on a terminal), always or never
    #[arg(long, global = true, default_value = "auto", value_parser = ["auto", "always", "never"], value_name = "WHEN")]
    pub color: String,
}

impl Globals {
    /// Whether to colour what goes to standard output: wanted, or wanted automatically and a terminal is there.
    pub fn colours(&self) -> bool {
        use std::io::IsTerminal;
        match self.color.as_str() {
            "always" => true,
            "never" => false,
            _ => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }
}
