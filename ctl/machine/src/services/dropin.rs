//! What a machine's unit says beyond the common unit file: another program, directories it must write, daemons before it.

use std::path::Path;

use super::UNITS;
use crate::Daemon;

/// Flags whose value is a directory the daemon writes.
const WRITES_DIR: [&str; 5] = ["data-dir", "wal-dir", "cert-dir", "root-dir", "cni-conf-dir"];
/// Flags whose value is a file the daemon writes.
const WRITES_FILE: [&str; 2] = ["audit-log-path", "log-file"];

/// The drop-in, if one is needed. `foreign`: others have drop-ins for the unit, so ours says again what the unit says.
pub fn render(daemon: &Daemon, program: &Path, unit: &str, foreign: bool) -> Option<String> {
    let mut service = Vec::new();
    let exec = directive(unit, "ExecStart=").unwrap_or_default();
    let (usual, rest) = exec.split_once(' ').unwrap_or((exec, ""));
    if foreign || Path::new(usual) != program {
        service.push("ExecStart=".to_string());
        service.push(format!("ExecStart={} {rest}", escaped(&program.display().to_string())));
        service.extend(room_for(program));
    }
    if directive(unit, "ProtectSystem=").is_some() {
        let listed =
            |p: &String| unit.lines().any(|l| l.strip_prefix("ReadWritePaths=-") == Some(p.as_str()));
        let paths: Vec<String> = writes(&daemon.args).into_iter().filter(|p| !listed(p)).collect();
        service.extend(paths.iter().map(|p| format!("ReadWritePaths={}", escaped(&format!("-{p}")))));
    }
    // The order among our own units is that of the unit files: a wait for one that hangs would be without end.
    let others = daemon.after.iter().filter(|a| !UNITS.iter().any(|u| u.0 == a.as_str()));
    let after: Vec<String> =
        others.map(|a| format!("{a}.service")).filter(|a| !unit.contains(a.as_str())).collect();
    let unit_section = if after.is_empty() { vec![] } else { vec![format!("After={}", after.join(" "))] };
    if service.is_empty() && unit_section.is_empty() {
        return None;
    }
    let mut text = String::from("# Written by coxctl; do not edit.\n");
    for (name, lines) in [("Unit", unit_section), ("Service", service)] {
        if !lines.is_empty() {
            text.push_str(&format!("[{name}]\n{}\n", lines.join("\n")));
        }
    }
    Some(text)
}

fn directive<'a>(unit: &'a str, name: &str) -> Option<&'a str> {
    unit.lines().find_map(|l| l.strip_prefix(name))
}

/// The sandbox hides some directories; a program that lies there must stay visible.
fn room_for(program: &Path) -> Vec<String> {
    let hidden =
        [("/tmp", "PrivateTmp=no"), ("/var/tmp", "PrivateTmp=no"), ("/home", "ProtectHome=read-only")];
    let more = [("/root", "ProtectHome=read-only"), ("/run/user", "ProtectHome=read-only")];
    let lies = |place: &&(&str, &str)| program.starts_with(place.0);
    hidden.iter().chain(&more).filter(lies).map(|p| p.1.to_string()).collect()
}

fn writes(args: &[String]) -> Vec<String> {
    let mut paths: Vec<String> =
        args.iter().filter_map(|a| written(a)).filter(|p| p.starts_with('/')).collect();
    paths.sort();
    paths.dedup();
    paths
}

fn written(arg: &str) -> Option<String> {
    let (name, value) = arg.trim_start_matches('-').split_once('=')?;
    if WRITES_DIR.contains(&name) {
        return Some(value.to_string());
    }
    let parent = Path::new(value).parent()?.display().to_string();
    WRITES_FILE.contains(&name).then_some(parent)
}

/// Blanks, quotes and `%` mean something in a unit file.
fn escaped(text: &str) -> String {
    let text = text.replace('%', "%%").replace('\\', "\\\\").replace('"', "\\\"");
    if text.contains(' ') { format!("\"{text}\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const UNIT: &str = "[Unit]\nAfter=network-online.target a.service\n[Service]\nProtectSystem=strict\n\
        ReadWritePaths=-/var/lib/x\n\
        ExecStart=/usr/local/lib/coxswain/current/x $ARGS\n";

    fn daemon(args: &[&str], after: &[&str]) -> Daemon {
        let list = |l: &[&str]| l.iter().map(ToString::to_string).collect();
        Daemon { name: "x".into(), args: list(args), after: list(after), ..Daemon::default() }
    }

    #[test]
    fn none_in_the_common_case() {
        let usual = Path::new("/usr/local/lib/coxswain/current/x");
        assert_eq!(render(&daemon(&["--v=2", "--data-dir=/var/lib/x"], &["a"]), usual, UNIT, false), None);
    }

    #[test]
    fn all_that_can_differ() {
        let args = ["--data-dir=/mnt/big disk/etcd", "--audit-log-path=/var/log/audit/a.log", "--log-file=-"];
        let text =
            render(&daemon(&args, &["a", "b", "kube-apiserver"]), Path::new("/tmp/bin/x"), UNIT, false);
        expect![[r##"
            # Written by coxctl; do not edit.
            [Unit]
            After=b.service
            [Service]
            ExecStart=
            ExecStart=/tmp/bin/x $ARGS
            PrivateTmp=no
            ReadWritePaths="-/mnt/big disk/etcd"
            ReadWritePaths=-/var/log/audit
        "##]]
        .assert_eq(&text.unwrap_or_default());
    }

    #[test]
    fn others_have_not_the_last_word() {
        let usual = Path::new("/usr/local/lib/coxswain/current/x");
        let text = render(&daemon(&[], &[]), usual, UNIT, true).unwrap_or_default();
        assert!(text.contains("ExecStart=\nExecStart=/usr/local/lib/coxswain/current/x $ARGS\n"), "{text}");
    }
}
