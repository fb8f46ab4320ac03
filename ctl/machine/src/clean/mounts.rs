//! Mounts below a directory.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::made::Report;

/// Unmounts everything below `dir`, the last mounted first. A mount that is in use goes when its last user does.
pub fn unmount_below(dir: &Path, flags: &[String]) -> Report {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut report = Report::default();
    let mut gone = 0;
    for place in below(&table, dir) {
        match umount2(&place, mount_flags(flags)) {
            Ok(()) => gone += 1,
            // Not a mount any more: it went with another one.
            Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => {
                report.left.push((place.display().to_string(), format!("can't be unmounted: {error}")))
            }
        }
    }
    if gone > 0 {
        report.removed.push(format!("{gone} mounts below {}", dir.display()));
    }
    report
}

/// The kernel refuses expiry together with any other way of unmounting.
fn mount_flags(names: &[String]) -> MntFlags {
    let has = |name: &str| names.iter().any(|n| n == name);
    if has("MNT_EXPIRE") {
        return MntFlags::MNT_EXPIRE | MntFlags::UMOUNT_NOFOLLOW;
    }
    let force = if has("MNT_FORCE") { MntFlags::MNT_FORCE } else { MntFlags::empty() };
    MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW | force
}

/// Mount points strictly below `dir`, last first.
fn below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let place = |line: &str| line.split(' ').nth(4).map(unescape);
    let mut places: Vec<PathBuf> = mountinfo.lines().filter_map(place).collect();
    places.retain(|p| p.starts_with(dir) && p != dir);
    places.reverse();
    places
}

/// Blanks and the like are written as `\040`.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 4).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 8).ok()).filter(|_| *byte == b'\\') {
            Some(value) => {
                out.push(value);
                at += 4;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn innermost_first_and_nothing_else() {
        let table = "1 0 8:1 / / rw - ext4 /dev/sda rw\n\
            2 1 8:1 /k /var/lib/kubelet rw - ext4 /dev/sda rw\n\
            3 2 0:5 / /var/lib/kubelet/pods/a/volumes/x rw shared:1 - tmpfs tmpfs rw\n\
            4 3 0:6 / /var/lib/kubelet/pods/a/volumes/x/sub\\040dir rw - tmpfs tmpfs rw\n\
            5 1 0:7 / /var/lib/kubelet-other rw - tmpfs tmpfs rw\n";
        let places = below(table, Path::new("/var/lib/kubelet"));
        let want = ["/var/lib/kubelet/pods/a/volumes/x/sub dir", "/var/lib/kubelet/pods/a/volumes/x"];
        assert_eq!(places, want.map(PathBuf::from));
    }

    #[test]
    fn flags() {
        let flags = |names: &[&str]| mount_flags(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(flags(&[]).contains(MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW));
        assert!(flags(&["MNT_FORCE"]).contains(MntFlags::MNT_FORCE));
        assert!(!flags(&["MNT_EXPIRE", "MNT_FORCE"]).contains(MntFlags::MNT_DETACH));
    }
}
