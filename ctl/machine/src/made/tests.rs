use super::*;
use crate::{Daemon, Services, State};
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

#[derive(Default)]
struct Fake(Mutex<Vec<String>>);

impl Services for Fake {
    fn kind(&self) -> &'static str {
        "fake"
    }
    fn install(&self, _: &Daemon) -> Result<Changed> {
        Ok(Changed::Yes)
    }
    fn start(&self, _: &str) -> Result<()> {
        Ok(())
    }
    fn restart(&self, _: &str) -> Result<()> {
        Ok(())
    }
    fn stop(&self, _: &str) -> Result<()> {
        Ok(())
    }
    fn remove(&self, name: &str) -> Result<()> {
        if name == "stuck" {
            bail!("it does not end");
        }
        self.0.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.push(name.to_string());
        Ok(())
    }
    fn state(&self, _: &str) -> Result<State> {
        Ok(State::Absent)
    }
    fn last_words(&self, _: &str, _: usize) -> String {
        String::new()
    }
    fn program(&self, program: &Path) -> Result<PathBuf> {
        Ok(program.into())
    }
}

struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Result<Self> {
        let root = tempfile::tempdir()?;
        fs::create_dir_all(root.path().join("etc"))?;
        fs::create_dir_all(root.path().join("sys/net/ipv4"))?;
        fs::write(root.path().join("sys/net/ipv4/ip_forward"), "0\n")?;
        Ok(Self { root })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn made(&self) -> Result<Made> {
        let mut made = Made::open_in(&self.at("state"))?;
        made.proc_sys = self.at("sys");
        Ok(made)
    }

    /// Every path and the text of files, but for the disk's own.
    fn picture(&self) -> Result<String> {
        let mut lines = Vec::new();
        picture(self.root.path(), self.root.path(), &mut lines)?;
        lines.sort();
        Ok(lines.join("\n"))
    }
}

fn picture(root: &Path, dir: &Path, lines: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.strip_prefix(root)?.display().to_string();
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            lines.push(format!("{name}/"));
            picture(root, &path, lines)?;
        } else if meta.is_symlink() {
            lines.push(format!("{name} -> {}", fs::read_link(&path)?.display()));
        } else {
            lines.push(format!(
                "{name} {:o} {}",
                meta.permissions().mode() & 0o777,
                fs::read_to_string(&path)?.trim()
            ));
        }
    }
    Ok(())
}

fn build(machine: &Machine, made: &mut Made) -> Result<()> {
    made.begin("init", "abc")?;
    made.write_file(&machine.at("etc/kubernetes/pki/ca.crt"), b"ca", 0o644)?;
    made.write_file(&machine.at("etc/theirs"), b"ours", 0o600)?;
    made.contents(&machine.at("var/lib/etcd"))?;
    fs::create_dir_all(machine.at("var/lib/etcd/member/wal"))?;
    fs::write(machine.at("var/lib/etcd/member/wal/0"), "log")?;
    made.contents(&machine.at("shared"))?;
    fs::write(machine.at("shared/new"), "x")?;
    made.link(&machine.at("usr/current"), Path::new("versions/1"))?;
    made.link(&machine.at("usr/current"), Path::new("versions/2"))?;
    made.unit("kubelet")?;
    made.unit("kubelet")?;
    made.sysctl("net.ipv4.ip_forward", "1")?;
    made.finish()
}

#[test]
fn undoing_leaves_the_machine_as_it_was() -> Result<()> {
    let machine = Machine::new()?;
    fs::write(machine.at("etc/theirs"), "theirs")?;
    fs::set_permissions(machine.at("etc/theirs"), fs::Permissions::from_mode(0o640))?;
    fs::create_dir(machine.at("shared"))?;
    fs::write(machine.at("shared/old"), "old")?;
    let before = machine.picture()?;
    let mut made = machine.made()?;
    build(&machine, &mut made)?;
    assert_eq!(fs::read_link(machine.at("usr/current"))?, Path::new("versions/2"));
    assert_eq!(fs::read_to_string(machine.at("sys/net/ipv4/ip_forward"))?, "1");
    let entries = made.entries().to_vec();
    build(&machine, &mut made)?;
    assert_eq!(made.entries(), entries, "making again records nothing new");
    assert!(made.contains(&machine.at("var/lib/etcd/member")));
    assert!(made.contains(&machine.at("shared/new")) && !made.contains(&machine.at("shared/old")));
    assert!(!made.contains(&machine.at("shared")));
    let fake = Fake::default();
    let report = made.undo(&fake)?;
    assert_eq!(report.left, [], "{report:?}");
    assert_eq!(machine.picture()?, before);
    assert_eq!(fake.0.into_inner()?, ["kubelet"]);
    assert!(made.is_empty());
    Ok(())
}

#[test]
fn undo_goes_on_after_being_killed_anywhere() -> Result<()> {
    for survive in 0..14 {
        let machine = Machine::new()?;
        fs::write(machine.at("etc/theirs"), "theirs")?;
        let before = machine.picture()?;
        let mut made = machine.made()?;
        fs::create_dir(machine.at("shared"))?;
        build(&machine, &mut made)?;
        let last = made.document.entries.len().saturating_sub(survive).max(1);
        let keep: Vec<Entry> = made.document.entries.iter().take(last).cloned().collect();
        // The first half of the work is done twice over: once as if killed before it was struck out.
        made.undo_some(&Fake::default(), |e| !keep.contains(e))?;
        drop(made);
        let report = machine.made()?.undo(&Fake::default())?;
        assert_eq!(report.left, []);
        fs::remove_dir(machine.at("shared"))?;
        assert_eq!(machine.picture()?, before, "after {survive}");
    }
    Ok(())
}

#[test]
fn work_done_but_not_struck_out_is_fine() -> Result<()> {
    let machine = Machine::new()?;
    fs::write(machine.at("etc/theirs"), "theirs")?;
    let before = machine.picture()?;
    let mut made = machine.made()?;
    fs::create_dir(machine.at("shared"))?;
    build(&machine, &mut made)?;
    let entries = made.entries().to_vec();
    for entry in entries.iter().rev().filter(|e| e.path() != Some(&machine.at("state"))) {
        made.take_back(entry, &Fake::default())?;
    }
    let report = made.undo(&Fake::default())?;
    assert_eq!(report.left, []);
    fs::remove_dir(machine.at("shared"))?;
    assert_eq!(machine.picture()?, before);
    Ok(())
}

#[test]
fn what_others_did_since_is_left_and_told() -> Result<()> {
    let machine = Machine::new()?;
    let mut made = machine.made()?;
    made.write_file(&machine.at("etc/kubernetes/a"), b"a", 0o600)?;
    made.sysctl("net/ipv4/ip_forward", "1")?;
    made.link(&machine.at("etc/link"), Path::new("a"))?;
    fs::write(machine.at("etc/kubernetes/notes"), "mine")?;
    fs::write(machine.at("sys/net/ipv4/ip_forward"), "2\n")?;
    fs::remove_file(machine.at("etc/link"))?;
    fs::write(machine.at("etc/link"), "a file")?;
    let report = made.undo(&Fake::default())?;
    let left: Vec<String> = report
        .left
        .iter()
        .map(|(what, why)| format!("{}: {why}", what.rsplit('/').next().unwrap_or_default()))
        .collect();
    assert_eq!(
        left,
        [
            "link: somebody put something else in place of our link",
            "setting net.ipv4.ip_forward: somebody set it to 2 since",
            "kubernetes: holds what others made: notes"
        ]
    );
    assert!(!machine.at("state").exists());
    Ok(())
}

#[test]
fn what_cannot_be_removed_stays_recorded() -> Result<()> {
    let machine = Machine::new()?;
    let mut made = machine.made()?;
    made.unit("stuck")?;
    made.write_file(&machine.at("etc/a"), b"a", 0o600)?;
    let report = made.undo(&Fake::default())?;
    assert_eq!(report.left, [("service stuck".to_string(), "it does not end".to_string())]);
    drop(made);
    assert!(machine.made()?.has_unit("stuck"));
    Ok(())
}

#[test]
fn survives_reopening_and_refuses_two_at_once() -> Result<()> {
    let machine = Machine::new()?;
    let mut made = machine.made()?;
    made.begin("join", "10.0.0.1:6443")?;
    made.file(&machine.at("etc/x"))?;
    let error = Made::open_in(&machine.at("state")).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("another coxctl is at work"), "{error}");
    drop(made);
    let mut made = machine.made()?;
    assert_eq!(made.run().map(|r| (r.command.as_str(), r.finished)), Some(("join", false)));
    assert!(made.contains(&machine.at("etc/x")));
    made.forget(&machine.at("etc/x"))?;
    assert!(!made.contains(&machine.at("etc/x")));
    Ok(())
}

#[test]
fn settings_that_daemons_change_come_back() -> Result<()> {
    let machine = Machine::new()?;
    let before = machine.picture()?;
    let mut made = machine.made()?;
    made.setting("net.ipv4.ip_forward")?;
    made.setting("net.ipv4.ip_forward")?;
    made.setting("net.no.such")?;
    assert_eq!(made.entries().len(), 2, "the manifest's own directory, and the setting");
    fs::write(machine.at("sys/net/ipv4/ip_forward"), "1\n")?;
    let report = made.undo(&Fake::default())?;
    assert!(report.removed.contains(&"setting net.ipv4.ip_forward (back to 0)".to_string()), "{report:?}");
    fs::write(machine.at("sys/net/ipv4/ip_forward"), "0\n")?;
    assert_eq!(machine.picture()?, before);
    Ok(())
}

#[test]
fn a_damaged_manifest_is_named() -> Result<()> {
    let machine = Machine::new()?;
    fs::create_dir(machine.at("state"))?;
    fs::write(machine.at("state/made.json"), "{")?;
    let error = machine.made().map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("made.json is damaged"), "{error}");
    Ok(())
}

#[test]
fn debris_of_a_crash_goes_too() -> Result<()> {
    let machine = Machine::new()?;
    let before = machine.picture()?;
    let mut made = machine.made()?;
    made.file(&machine.at("etc/k/ca.key"))?;
    fs::write(machine.at("etc/k/.ca.key.4711"), "half")?;
    fs::write(machine.at("etc/k/.ca.key.partial"), "half")?;
    made.undo(&Fake::default())?;
    assert_eq!(machine.picture()?, before);
    Ok(())
}

#[test]
fn directories_may_be_recorded_as_paths() -> Result<()> {
    let machine = Machine::new()?;
    let before = machine.picture()?;
    let mut made = machine.made()?;
    made.file(&machine.at("etc"))?;
    made.file(&machine.at("etc/pki"))?;
    fs::create_dir(machine.at("etc/pki"))?;
    made.file(&machine.at("etc/pki/ca.crt"))?;
    fs::write(machine.at("etc/pki/ca.crt"), "ca")?;
    assert_eq!(made.undo(&Fake::default())?.left, []);
    assert_eq!(machine.picture()?, before);
    Ok(())
}

#[test]
fn dry_manifests_touch_nothing() -> Result<()> {
    let machine = Machine::new()?;
    let before = machine.picture()?;
    let mut made = Made::dry();
    made.proc_sys = machine.at("sys");
    made.begin("init", "abc")?;
    made.contents(&machine.at("etc/d/e"))?;
    made.link(&machine.at("etc/f/link"), Path::new("g"))?;
    made.write_file(&machine.at("etc/b/c"), b"c", 0o600)?;
    made.sysctl("net.ipv4.ip_forward", "1")?;
    assert_eq!(machine.picture()?, before);
    Ok(())
}
