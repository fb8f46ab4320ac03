use super::*;
use std::os::unix::fs::PermissionsExt;

/// systemctl as a script that writes down how it was called.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >> ROOT/calls
case "$*" in
*show*) cat ROOT/show;;
esac
"#;

struct Fake {
    root: tempfile::TempDir,
    systemd: Systemd,
}

impl Fake {
    fn new() -> Result<Self> {
        let root = tempfile::tempdir()?;
        let at = |name: &str| root.path().join(name);
        let script = |name: &str, text: &str| -> Result<PathBuf> {
            fs::write(at(name), text.replace("ROOT", &root.path().display().to_string()))?;
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o755))?;
            Ok(at(name))
        };
        let systemctl = script("systemctl", SYSTEMCTL)?;
        let journalctl = script("journalctl", "#!/bin/sh\necho \"$1 $5\"\n")?;
        fs::create_dir(at("bin"))?;
        script("bin/kubelet", "#!/bin/sh\n")?;
        fs::write(at("show"), "LoadState=loaded\nActiveState=inactive\nJob=0\n")?;
        let systemd = Systemd {
            units: at("units"),
            environment: at("daemons"),
            systemctl,
            journalctl,
            bin_dir: Some(at("bin")),
            packaged: vec![at("lib")],
        };
        Ok(Self { root, systemd })
    }

    fn calls(&self) -> String {
        let path = self.root.path().join("calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.replace("--no-ask-password ", "")
    }
}

fn kubelet() -> Daemon {
    Daemon {
        name: "kubelet".into(),
        program: "kubelet".into(),
        args: vec!["--config=/var/lib/kubelet/config.yaml".into()],
        ..Daemon::default()
    }
}

#[test]
fn installs_once_and_removes_all() -> Result<()> {
    let fake = Fake::new()?;
    assert_eq!(fake.systemd.install(&kubelet())?, Changed::Yes);
    assert_eq!(fake.calls(), "daemon-reload\n");
    let link = fs::read_link(fake.systemd.wants("kubelet"))?;
    assert_eq!(link, fake.systemd.unit_file("kubelet"));
    assert_eq!(fake.systemd.install(&kubelet())?, Changed::No);
    assert_eq!(fake.calls(), "");
    let environment = fake.root.path().join("daemons/kubelet.env");
    assert_eq!(fs::read_to_string(&environment)?, "ARGS=\"--config=/var/lib/kubelet/config.yaml\"\n");
    assert_eq!(fs::metadata(&environment)?.permissions().mode() & 0o777, 0o600);
    let drop_in = fs::read_to_string(fake.systemd.drop_in("kubelet"))?;
    assert!(drop_in.contains("bin/kubelet $ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n"), "{drop_in}");
    let mut other = kubelet();
    other.args.push("--v=4".into());
    assert_eq!(fake.systemd.install(&other)?, Changed::Yes);
    assert_eq!(fake.calls(), "", "new arguments need no reload");
    fake.systemd.remove("kubelet")?;
    assert_eq!(files::names(&fake.systemd.units)?, ["multi-user.target.wants"]);
    assert_eq!(files::names(&fake.systemd.units.join("multi-user.target.wants"))?, Vec::<String>::new());
    assert_eq!(files::names(&fake.systemd.environment)?, Vec::<String>::new());
    let calls = fake.calls();
    assert!(calls.contains("stop kubelet.service\ndaemon-reload\nreset-failed kubelet.service\n"), "{calls}");
    fake.systemd.install(&kubelet())?;
    fake.calls();
    assert!(fake.systemd.remove_all(&["kubelet", "kube-proxy"]).iter().all(Result::is_ok));
    let calls = fake.calls();
    assert!(calls.contains("\nstop kubelet.service kube-proxy.service\ndaemon-reload\n"), "{calls}");
    fake.systemd.remove("kubelet")
}

#[test]
fn what_was_installed_reads_back() -> Result<()> {
    let fake = Fake::new()?;
    assert_eq!(fake.systemd.installed("kubelet")?, None);
    let mut daemon = kubelet();
    daemon.args.push("--words=a \"b\" $c".into());
    daemon.env.insert("SHAPE".into(), "a b".into());
    fake.systemd.install(&daemon)?;
    let read = fake.systemd.installed("kubelet")?.unwrap_or_default();
    assert_eq!((&read.args, &read.env), (&daemon.args, &daemon.env));
    assert_eq!(read.program, fake.systemd.program(&daemon.program)?);
    Ok(())
}

#[test]
fn drop_ins_of_packages_are_overruled() -> Result<()> {
    let fake = Fake::new()?;
    assert!(!fake.systemd.foreign_drop_ins("kubelet"));
    let dir = fake.root.path().join("lib/kubelet.service.d");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("10-kubeadm.conf"), "[Service]\nExecStart=\n")?;
    assert!(fake.systemd.foreign_drop_ins("kubelet"));
    Ok(())
}

#[test]
fn unknown_daemons_and_missing_programs_are_named() -> Result<()> {
    let fake = Fake::new()?;
    let daemon = Daemon { name: "nobody".into(), ..kubelet() };
    let error = fake.systemd.install(&daemon).unwrap_err().to_string();
    assert_eq!(error, "there is no unit for nobody");
    let daemon = Daemon { program: "/no/such/kubelet".into(), ..kubelet() };
    let error = fake.systemd.install(&daemon).unwrap_err().to_string();
    assert_eq!(error, "there is no program /no/such/kubelet");
    Ok(())
}

#[test]
fn last_words_are_the_units_own() -> Result<()> {
    let fake = Fake::new()?;
    assert_eq!(fake.systemd.last_words("kubelet", 8), "_SYSTEMD_UNIT=kubelet.service --lines=8");
    Ok(())
}

#[test]
fn states() {
    let state = |text: &str| state_of(&properties(&text.replace(' ', "\n")), 10_000_000);
    let failed = |how: &str, restarts| State::Failed { how: how.into(), restarts };
    let cases = [
        ("LoadState=not-found ActiveState=inactive", State::Absent),
        ("LoadState=loaded ActiveState=inactive SubState=dead Job=0", State::Stopped),
        ("LoadState=loaded ActiveState=inactive SubState=dead Job=17", State::Starting),
        ("LoadState=loaded ActiveState=activating SubState=start MainPID=7", State::Starting),
        (
            "LoadState=loaded ActiveState=activating SubState=auto-restart Result=exit-code ExecMainCode=1 ExecMainStatus=1 NRestarts=3",
            failed("exited with code 1", 3),
        ),
        (
            "LoadState=loaded ActiveState=failed Result=signal ExecMainCode=2 ExecMainStatus=9 NRestarts=1",
            failed("killed by SIGKILL", 1),
        ),
        (
            "LoadState=loaded ActiveState=failed Result=watchdog ExecMainCode=3 ExecMainStatus=6",
            failed("killed because it stopped answering its watchdog", 0),
        ),
        (
            "LoadState=loaded ActiveState=failed Result=exit-code ExecMainCode=1 ExecMainStatus=203",
            failed("exited with code 203 (the program can't be run)", 0),
        ),
    ];
    for (text, want) in cases {
        assert_eq!(state(text), want, "{text}");
    }
    let running = "LoadState=loaded ActiveState=active SubState=running MainPID=42 ExecMainStartTimestampMonotonic=4000000";
    let State::Running { pid, since } = state(running) else { panic!("not running") };
    let ago = Timestamp::now().duration_since(since).as_secs();
    assert!(pid == 42 && (5..=7).contains(&ago), "{pid} {ago}");
}

#[test]
fn units_are_complete() {
    for (name, text) in UNITS {
        let has = |line: &str| assert!(text.lines().any(|l| l.starts_with(line)), "{name}: {line}");
        let all = [
            "Restart=always",
            "RestartSec=",
            "StartLimitIntervalSec=0",
            "LimitNOFILE=",
            "TasksMax=",
            "WantedBy=",
        ];
        all.into_iter().for_each(has);
        has("ExecStart=/usr/local/lib/coxswain/current/");
        has(&format!("EnvironmentFile=-/etc/kubernetes/daemons/{name}.env"));
        if name != "kubelet" {
            ["CapabilityBoundingSet=", "NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes"]
                .into_iter()
                .for_each(has);
            assert!(!text.contains("CAP_SYS_ADMIN"), "{name}");
        }
        if !["coxswain-etcd", "coxswain-certs"].contains(&name) {
            has("WatchdogSec=30s");
        }
    }
}
