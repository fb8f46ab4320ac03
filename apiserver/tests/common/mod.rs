//! A real etcd for tests, ended when it is dropped.

// Each test program takes what it needs of this.
#![allow(dead_code)]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::UnixDatagram;

/// How long etcd may take to answer on a busy machine.
const COMES_UP: Duration = Duration::from_secs(30);

/// A member's process, ended when it is dropped.
pub struct Process {
    process: Child,
    told: UnixDatagram,
    _place: tempfile::TempDir,
}

impl Process {
    /// Starts a member with these arguments, silent.
    pub fn start(args: &[String]) -> Self {
        let place = tempfile::tempdir().expect("temporary directory");
        let socket = place.path().join("notify");
        let told = UnixDatagram::bind(&socket).expect("socket");
        let mut command = Command::new("etcd");
        command.args(args).env("NOTIFY_SOCKET", socket).stdout(Stdio::null()).stderr(Stdio::null());
        Self { process: command.spawn().expect("etcd must be installed"), told, _place: place }
    }

    /// Waits until the member serves, which etcd tells whoever started it.
    pub async fn ready(&self) {
        let mut text = [0; 64];
        let told = tokio::time::timeout(COMES_UP, self.told.recv(&mut text)).await;
        let length = told.expect("etcd does not come up").expect("received");
        assert_eq!(&text[..length], b"READY=1");
    }

    /// Sends a signal such as `-STOP`.
    pub fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One member alone, its data in a directory of its own.
pub struct Etcd {
    process: Process,
    /// Where clients reach it.
    pub url: String,
    _data: tempfile::TempDir,
}

impl Etcd {
    /// Starts it; it answers a little later.
    pub fn start() -> Self {
        let data = tempfile::tempdir().expect("temporary directory");
        let [client, peer] = free_ports().map(|p: u16| format!("http://127.0.0.1:{p}"));
        let line = format!(
            "--data-dir {} --name t --unsafe-no-fsync --log-level error --listen-client-urls {client} \
             --advertise-client-urls {client} --listen-peer-urls {peer} --initial-advertise-peer-urls {peer} \
             --initial-cluster t={peer}",
            data.path().display()
        );
        let args: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        Self { process: Process::start(&args), url: client, _data: data }
    }

    /// Waits until it serves.
    pub async fn ready(&self) {
        self.process.ready().await;
    }
}

/// Ports nobody has: all are held until all are known.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held: Vec<_> = (0..N).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("bind")).collect();
    std::array::from_fn(|i| held[i].local_addr().expect("address").port())
}
