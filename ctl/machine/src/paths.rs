//! Where things lie on a machine.

/// What each daemon is run with: NAME.env for systemd, NAME.json for the supervisor.
pub const DAEMONS: &str = "/etc/kubernetes/daemons";
/// Programs, one directory per version.
pub const VERSIONS: &str = "/usr/local/lib/coxswain/versions";
/// Link to the version in use.
pub const CURRENT: &str = "/usr/local/lib/coxswain/current";
/// Link to the command line of the version in use.
pub const COXCTL: &str = "/usr/local/bin/coxctl";
/// Our own state: what was made, and what was there before.
pub const STATE: &str = "/var/lib/coxswain";
/// Output of daemons that the supervisor runs.
pub const LOGS: &str = "/var/log/coxswain";
/// Run-time files of the supervisor.
pub const RUN: &str = "/run/coxswain";
/// Units made by the machine's administrator, and by us.
pub const UNITS: &str = "/etc/systemd/system";
