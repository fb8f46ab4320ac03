//! What `init` and `join` both take, and how flags and configuration files go together.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use coxctl_config::{ApiEndpoint, GoDuration, NodeRegistration, Patches};

use crate::say;

/// Flags about the machine that becomes part of a cluster.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct MachineArgs {
    /// Configuration file (kubeadm.k8s.io/v1beta4)
    #[arg(long, global = true)]
    pub config: Option<PathBuf>,
    /// Address this machine's API server tells others [default: that of the default route]
    #[arg(long, global = true)]
    pub apiserver_advertise_address: Option<String>,
    /// Port of this machine's API server [default: 6443]
    #[arg(long, global = true)]
    pub apiserver_bind_port: Option<i32>,
    /// Key the uploaded certificates are encrypted with (64 hexadecimal digits)
    #[arg(long, global = true)]
    pub certificate_key: Option<String>,
    /// Socket of the container runtime
    #[arg(long, global = true)]
    pub cri_socket: Option<String>,
    /// Show what would be done, change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Checks whose errors are warnings (`all`: every one)
    #[arg(long, global = true, value_delimiter = ',')]
    pub ignore_preflight_errors: Vec<String>,
    /// The node's name [default: the host name]
    #[arg(long, global = true)]
    pub node_name: Option<String>,
    /// Directory of patches
    #[arg(long, global = true)]
    pub patches: Option<String>,
    /// Phases to leave out
    #[arg(long, global = true, value_delimiter = ',')]
    pub skip_phases: Vec<String>,
    /// Programs and images from this bundle
    #[arg(long, global = true)]
    pub bundle: Option<PathBuf>,
    /// Programs from this directory
    #[arg(long, global = true, hide = true)]
    pub bin_dir: Option<PathBuf>,
    /// How much is printed
    #[arg(short, long, global = true, default_value_t = 0)]
    pub v: u8,
}

impl MachineArgs {
    /// The configuration file, if one was given, else nothing but defaults. `further` are the command's own flags that say
    /// the same as a file.
    ///
    /// # Errors
    /// When such flags were given beside a file, or the file is wrong.
    pub fn read<T: Default, W: std::fmt::Display, E: std::error::Error + Send + Sync + 'static>(
        &self,
        further: &[(&str, bool)],
        read: fn(&str) -> Result<(T, Vec<W>), E>,
    ) -> Result<T> {
        let Some(file) = &self.config else { return Ok(T::default()) };
        let mut given = self.of_control_planes().to_vec();
        given.extend([("cri-socket", self.cri_socket.is_some()), ("patches", self.patches.is_some())]);
        given.extend_from_slice(further);
        refuse(&given)?;
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let (configuration, warnings) = read(&text).with_context(|| file.display().to_string())?;
        warnings.iter().for_each(|w| say::warn("config", w));
        Ok(configuration)
    }

    /// The flags that only a control plane has, and whether they were given.
    pub fn of_control_planes(&self) -> [(&'static str, bool); 3] {
        [
            ("certificate-key", self.certificate_key.is_some()),
            ("apiserver-advertise-address", self.apiserver_advertise_address.is_some()),
            ("apiserver-bind-port", self.apiserver_bind_port.is_some()),
        ]
    }

    /// Sets what the flags say of the node.
    pub fn register(&self, node: &mut NodeRegistration) {
        set(&mut node.name, &self.node_name);
        set(&mut node.cri_socket, &self.cri_socket);
        node.ignore_preflight_errors.extend(self.ignore_preflight_errors.iter().cloned());
    }

    /// Sets what the flags say of the control plane.
    pub fn control_plane(&self, endpoint: &mut ApiEndpoint, certificate_key: &mut String) {
        set(certificate_key, &self.certificate_key);
        set(&mut endpoint.advertise_address, &self.apiserver_advertise_address);
        if let Some(port) = self.apiserver_bind_port {
            endpoint.bind_port = port;
        }
    }

    /// The directory of patches.
    pub fn patches(&self) -> Option<Patches> {
        self.patches.clone().map(|directory| Patches { directory })
    }
}

/// Refuses those flags that were given beside a configuration file.
///
/// # Errors
/// When there is one.
pub fn refuse(given: &[(&str, bool)]) -> Result<()> {
    let mut mixed: Vec<&str> = given.iter().filter(|g| g.1).map(|g| g.0).collect();
    mixed.sort_unstable();
    match mixed.is_empty() {
        true => Ok(()),
        false => bail!("can not mix '--config' with arguments {mixed:?}"),
    }
}

/// Overwrites with a flag that was given.
pub fn set(field: &mut String, flag: &Option<String>) {
    if let Some(value) = flag {
        field.clone_from(value);
    }
}

/// A duration as Go writes it.
///
/// # Errors
/// When it is none.
pub fn duration(flag: &str, text: &str) -> Result<GoDuration> {
    if text == "0" {
        return Ok(GoDuration(0));
    }
    text.parse::<GoDuration>().map_err(|e| anyhow::anyhow!("{flag} {text:?}: {e}"))
}

/// All that is wrong with a configuration, as one error.
///
/// # Errors
/// When there is anything.
pub fn check(wrong: Vec<coxctl_config::FieldError>) -> Result<()> {
    if wrong.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    bail!("{}", if all.len() == 1 { all.concat() } else { format!("[{}]", all.join(", ")) })
}
