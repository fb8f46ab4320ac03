//! The store over three real etcd members that hang, die and change their leader, and over one whose certificates change.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Process, free_ports};
use kube_apiserver::storage::etcd::{Etcd, Options};
use kube_apiserver::storage::{Batch, Error, Event, Outcome, Storage};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};

/// A dead member may hold a call up no longer.
const STALL: Duration = Duration::from_secs(2);

struct Member {
    process: Process,
    args: Vec<String>,
    url: String,
}

impl Member {
    fn start(args: Vec<String>, url: String) -> Self {
        Self { process: Process::start(&args), args, url }
    }

    fn restart(&mut self) {
        self.process.kill();
        self.process = Process::start(&self.args);
    }
}

fn three(dir: &Path) -> Vec<Member> {
    let ports: [u16; 6] = free_ports();
    let peer = |i: usize| format!("http://127.0.0.1:{}", ports[3 + i]);
    let cluster = (0..3).map(|i| format!("m{i}={}", peer(i))).collect::<Vec<_>>().join(",");
    let member = |i: usize| {
        let url = format!("http://127.0.0.1:{}", ports[i]);
        let data = dir.join(format!("m{i}"));
        let line = format!(
            "--data-dir {} --name m{i} --unsafe-no-fsync --log-level error --heartbeat-interval 50 --election-timeout 500 \
             --listen-client-urls {url} --advertise-client-urls {url} --listen-peer-urls {p} --initial-advertise-peer-urls {p} \
             --initial-cluster {cluster}",
            data.display(),
            p = peer(i)
        );
        Member::start(line.split_whitespace().map(String::from).collect(), url)
    };
    (0..3).map(member).collect()
}

/// Counts a key up; every number acknowledged must be followed by the next.
struct Counter {
    store: Arc<Etcd>,
    value: u64,
    revision: u64,
}

impl Counter {
    async fn up(&mut self) -> Result<(), Error> {
        let next = Bytes::from((self.value + 1).to_string());
        let outcome = match self.revision {
            0 => self.store.create("/registry/counter", next, None).await?,
            at => self.store.update("/registry/counter", next, at, None).await?,
        };
        let Outcome::Done(revision) = outcome else {
            panic!("somebody else wrote after {}: {outcome:?}", self.value)
        };
        (self.value, self.revision) = (self.value + 1, revision);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_may_hang_die_and_lead_in_turn() {
    daemon::init_crypto();
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut members = three(dir.path());
    // All are up before the first choice, so that it falls on the first.
    for member in &members {
        member.process.ready().await;
    }
    let endpoints = members.iter().map(|m| m.url.clone()).collect();
    let store =
        Etcd::connect(&Options { endpoints, ..Options::default() }, "/registry").await.expect("client");
    let mut counter = Counter { store: Arc::new(store), value: 0, revision: 0 };
    counter.up().await.expect("first write");
    let mut watch = counter.store.watch("/registry/", counter.revision).await.expect("watch");

    // The member in use hangs, as one behind a cut cable does.
    members[0].process.signal("-STOP");
    let began = Instant::now();
    counter.up().await.expect("a write while a member hangs");
    assert!(began.elapsed() < STALL, "stalled for {:?}", began.elapsed());
    let ended = watch.batches.recv().await.expect("batch");
    assert!(matches!(ended, Err(Error::Unavailable(_))), "a watch of a member given up ends: {ended:?}");
    let began = Instant::now();
    assert_eq!(counter.store.get("/registry/counter").await.expect("read").kv.expect("there").value, "2");
    assert!(began.elapsed() < STALL);
    members[0].process.signal("-CONT");

    // Each dies in turn, the leader among them, while the others must keep what was acknowledged.
    for member in &mut members {
        member.process.kill();
        let end = Instant::now() + Duration::from_millis(700);
        while Instant::now() < end {
            counter.up().await.expect("two of three are there");
        }
        member.restart();
        member.process.ready().await;
    }
    let read = counter.store.get("/registry/counter").await.expect("read").kv.expect("there");
    assert_eq!((read.value, read.mod_revision), (Bytes::from(counter.value.to_string()), counter.revision));

    // All that was written is seen by who watches from where the first watch broke off.
    let mut watch = counter.store.watch("/registry/counter", 0).await.expect("watch");
    let mut seen = 0;
    while seen < counter.value {
        match watch.batches.recv().await.expect("batch").expect("events") {
            Batch::Events(events) => {
                for event in events {
                    let Event::Put(kv) = event else { panic!("deleted") };
                    seen += 1;
                    assert_eq!(kv.value, Bytes::from(seen.to_string()));
                }
            }
            Batch::Progress(_) => {}
        }
    }
}

struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// A CA and, by it, a pair for etcd and one for its client; in place of those before.
    fn renew(&self, name: &str) {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec![]).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let ca = params.self_signed(&key).expect("ca").pem();
        let issuer = Issuer::new(params, key);
        self.put("ca.crt", &ca);
        for leaf in ["server", "client"] {
            let key = KeyPair::generate().expect("key");
            let mut params = CertificateParams::new(vec!["localhost".into()]).expect("params");
            params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
            params.distinguished_name.push(DnType::CommonName, leaf);
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let cert = params.signed_by(&key, &issuer).expect("certificate");
            self.put(&format!("{leaf}.key"), &key.serialize_pem());
            self.put(&format!("{leaf}.crt"), &cert.pem());
        }
    }

    fn put(&self, name: &str, text: &str) {
        let temp = self.dir.join("new");
        std::fs::write(&temp, text).expect("write");
        std::fs::rename(temp, self.path(name)).expect("rename");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_taken_up_without_a_restart() {
    daemon::init_crypto();
    let dir = tempfile::tempdir().expect("temporary directory");
    let pki = Pki { dir: dir.path().to_owned() };
    pki.renew("first");
    let ports: [u16; 2] = free_ports();
    let (url, peer) = (format!("https://127.0.0.1:{}", ports[0]), format!("http://127.0.0.1:{}", ports[1]));
    let d = dir.path().display();
    let line = format!(
        "--data-dir {d}/data --name t --unsafe-no-fsync --log-level error --listen-client-urls {url} \
         --advertise-client-urls {url} --listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster t={peer} \
         --client-cert-auth --trusted-ca-file {d}/ca.crt --cert-file {d}/server.crt --key-file {d}/server.key"
    );
    let mut etcd = Member::start(line.split_whitespace().map(String::from).collect(), url.clone());
    let options = Options {
        endpoints: vec![url],
        ca: Some(pki.path("ca.crt")),
        cert: Some(pki.path("client.crt")),
        key: Some(pki.path("client.key")),
    };
    let store = Etcd::connect(&options, "/registry").await.expect("client");
    etcd.process.ready().await;
    let made = store.create("/registry/a", Bytes::from_static(b"1"), None).await.expect("write");
    assert!(matches!(made, Outcome::Done(_)));
    // Another authority altogether: nothing of the old is trusted any more.
    pki.renew("second");
    etcd.restart();
    etcd.process.ready().await;
    assert_eq!(store.get("/registry/a").await.expect("read").kv.expect("there").value, "1");
}
