//! A real etcd for tests, ended when it is dropped.

// Each test program takes what it needs of this.
#![allow(dead_code)]

use std::process::{Child, Command, Stdio};

/// One member alone, its data in a directory of its own.
pub struct Etcd {
    process: Child,
    /// Where clients reach it.
    pub url: String,
    _data: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
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
        Self { process: spawn(&args), url: client, _data: data }
    }
}

/// Starts a member with these arguments, silent.
pub fn spawn(args: &[String]) -> Child {
    let mut command = Command::new("etcd");
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("etcd must be installed")
}

/// Ports nobody has: all are held until all are known.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held: Vec<_> = (0..N).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("bind")).collect();
    std::array::from_fn(|i| held[i].local_addr().expect("address").port())
}
