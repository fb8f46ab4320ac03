//! etcd: its members, backups, and the commands about them.

pub mod backup;
pub mod client;
pub mod command;
pub mod member;
pub mod restore;

use anyhow::Result;

use crate::daemons;
use crate::host::Host;

/// Makes etcd's data directory, for it alone to read; whatever comes into it is ours. One that is there keeps its mode:
/// etcd makes what it puts into it unreadable for others.
///
/// # Errors
/// When it can't be made.
pub fn data_dir(host: &Host, dir: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let there = host.path(dir).exists();
    host.contents(dir)?;
    if there {
        return Ok(());
    }
    std::fs::set_permissions(host.path(dir), std::fs::Permissions::from_mode(0o700))?;
    Ok(())
}

/// The version of the etcd that will run here; 3.4 when it can't be asked.
pub fn program_version(host: &Host) -> (u32, u32) {
    let Ok(program) = host.services().program("etcd".as_ref()) else { return (3, 4) };
    let asked = std::process::Command::new(program).arg("--version").output();
    asked.map_or((3, 4), |o| daemons::etcd::version(&String::from_utf8_lossy(&o.stdout)))
}
