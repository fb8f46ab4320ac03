//! Giving memory back that only start-up needed.
//!
//! Most of a daemon's code runs once: flags, certificates, decoding configuration. Its pages stay mapped although nobody
//! needs them again. They are clean pages of the executable file; unmapping them costs a minor fault for those that
//! are used after all.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Start-up is over by then.
const FIRST: Duration = Duration::from_secs(15);
/// Between two rounds; rare enough that refaults cost nothing that can be measured.
const PERIOD: Duration = Duration::from_secs(300);

/// Unmaps code that has not been needed, from time to time, until cancelled.
pub async fn trim_code(cancel: CancellationToken) {
    let mut wait = FIRST;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = PERIOD;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let exe = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        for (start, end) in code(&maps, &exe.to_string_lossy()) {
            unmap(start, end);
        }
    }
}

/// The executable's own read-only mappings of its code, and of the constants before it: what is never written to.
fn code(maps: &str, exe: &str) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    for line in maps.lines().filter(|l| !exe.is_empty() && l.ends_with(exe)) {
        let mut words = line.split_whitespace();
        let (Some(range), Some(mode), Some(offset)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        // relocated constants are mapped r--p too, at an offset; they differ from the file and must stay
        let constants = mode == "r--p" && offset.bytes().all(|b| b == b'0');
        let bound = |text: &str| usize::from_str_radix(text, 16).ok();
        let Some((Some(start), Some(end))) = range.split_once('-').map(|(a, b)| (bound(a), bound(b))) else {
            continue;
        };
        if mode == "r-xp" || constants {
            out.push((start, end));
        }
    }
    out
}

/// Drops the pages of a mapping from this process; the kernel brings them back from the file when they are touched.
#[allow(unsafe_code)]
fn unmap(start: usize, end: usize) {
    let Some(length) = end.checked_sub(start) else { return };
    // SAFETY: the range is a private mapping of a file that is never written to, so its contents come back unchanged.
    unsafe {
        nix::libc::madvise(start as *mut nix::libc::c_void, length, nix::libc::MADV_DONTNEED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_never_written() {
        let maps = "1000-2000 r--p 00000000 fe:00 7 /bin/d
2000-9000 r-xp 00001000 fe:00 7 /bin/d
9000-a000 r--p 00008000 fe:00 7 /bin/d
a000-b000 rw-p 00009000 fe:00 7 /bin/d
b000-c000 r-xp 00000000 fe:00 8 /lib/libc.so
c000-d000 rw-p 00000000 00:00 0 [heap]";
        assert_eq!(code(maps, "/bin/d"), [(0x1000, 0x2000), (0x2000, 0x9000)]);
        assert!(code(maps, "").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn code_still_works_after_a_round() {
        let cancel = CancellationToken::new();
        let task = tokio::spawn(trim_code(cancel.clone()));
        tokio::time::sleep(FIRST + Duration::from_secs(1)).await;
        cancel.cancel();
        assert!(task.await.is_ok());
    }
}
