//! Workers from end to end on the in-memory runtime.

use super::host::Host;
use super::manager::{self, Inputs, Message};
use super::static_pods::Mirrors;
use crate::cgroups::{Cgroups, Layout};
use crate::config::Config;
use crate::context::Context;
use crate::images::Images;
use crate::runtime::memory::MemoryRuntime;
use crate::runtime::relist::Relist;
use crate::volumes::{objects::Objects, tokens::Tokens};
use daemon::tasks::Tasks;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

struct Lab {
    dir: tempfile::TempDir,
    runtime: Arc<MemoryRuntime>,
    host: Arc<Host>,
    tx: mpsc::UnboundedSender<Message>,
    cancel: CancellationToken,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn lab_on(runtime: Arc<MemoryRuntime>, dir: tempfile::TempDir) -> Lab {
    runtime.add_image("img:1");
    let mut config = Config { root_dir: dir.path().join("kubelet"), ..Config::default() };
    config.file.pod_logs_dir = dir.path().join("logs").display().to_string();
    let cancel = CancellationToken::new();
    let ctx = Context::new(Arc::new(config), None, runtime.clone(), cancel.clone());
    let (orphan_tx, orphans) = mpsc::unbounded_channel();
    let relist = Relist::new(runtime.clone(), orphan_tx);
    ctx.spawn("relist", relist.clone().run(ctx.clone()));
    let host = Arc::new(Host {
        ctx: ctx.clone(),
        relist,
        images: Images::new(runtime.clone(), &ctx.config),
        objects: Objects::new(None, Tasks::new(cancel.clone())),
        tokens: Tokens::default(),
        services: None,
        cgroups: Cgroups::default(),
        layout: Layout { systemd: false, root: String::new(), per_qos: true },
        gate: super::gate::Gate::default(),
        started_at: super::host::now_ns(),
    });
    let (tx, messages) = mpsc::unbounded_channel();
    let inputs = Inputs { messages, manifests: None, orphans, cache: None };
    ctx.spawn("pod manager", manager::run(host.clone(), Arc::new(Mirrors::default()), inputs));
    Lab { dir, runtime, host, tx, cancel }
}

fn lab() -> Lab {
    lab_on(Arc::new(MemoryRuntime::new()), tempfile::tempdir().unwrap())
}

fn pod(spec: &str) -> Pod {
    serde_yaml::from_str(&format!("metadata: {{name: p, namespace: n, uid: u1}}\nspec: {spec}")).unwrap()
}

impl Lab {
    fn send(&self, pod: Pod) {
        self.tx.send(Message::Api(Arc::new(pod))).unwrap();
    }

    fn status(&self) -> Arc<PodStatus> {
        self.host.ctx.pods.by_uid("u1").map(|e| e.status).unwrap_or_default()
    }

    async fn until(&self, what: &str, test: impl Fn(&PodStatus) -> bool) -> Arc<PodStatus> {
        let mut changes = self.host.ctx.pods.subscribe();
        let wait = async {
            while !test(&self.status()) {
                changes.changed().await.unwrap();
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(20), wait).await;
        let status = self.status();
        assert!(done.is_ok(), "{what} did not come about: {status:?}\n{:?}", self.runtime.calls());
        status
    }

    async fn until_forgotten(&self) {
        let mut changes = self.host.ctx.pods.subscribe();
        let wait = async {
            while self.host.ctx.pods.by_uid("u1").is_some() {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the pod is still there");
    }

    fn count(&self, call: &str) -> usize {
        self.runtime.calls().iter().filter(|c| *c == call).count()
    }
}

fn ready(s: &PodStatus) -> bool {
    s.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn deleted(mut pod: Pod) -> Pod {
    let now = jiff::Timestamp::now();
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    pod.metadata.deletion_grace_period_seconds = Some(1);
    pod
}

#[tokio::test(start_paused = true)]
async fn a_pod_comes_up_and_goes() {
    let lab = lab();
    let spec = "{initContainers: [{name: i, image: 'img:1'}], containers: [{name: a, image: 'img:1'}, {name: b, image: 'img:1'}]}";
    lab.runtime.exit_at_start("i", Some(0));
    lab.send(pod(spec));
    let s = lab.until("ready", ready).await;
    assert_eq!(s.phase.as_deref(), Some("Running"));
    assert!(s.pod_ip.is_some() && s.init_container_statuses.as_ref().unwrap()[0].ready);
    lab.send(deleted(pod(spec)));
    lab.until("an end", |s| {
        s.container_statuses
            .iter()
            .flatten()
            .all(|c| c.state.as_ref().is_some_and(|s| s.terminated.is_some()))
    })
    .await;
    lab.tx.send(Message::Gone(Arc::new(pod(spec)))).unwrap();
    lab.until_forgotten().await;
    assert_eq!(
        (lab.count("run_sandbox p"), lab.count("stop_sandbox p"), lab.count("remove_sandbox p")),
        (1, 1, 1)
    );
    assert!(!lab.dir.path().join("kubelet/pods/u1").exists());
    let events = lab.host.ctx.events.recorded();
    for want in [
        "Normal Created Container created",
        "Normal Started Container started",
        "Normal Killing Stopping container a",
    ] {
        assert!(events.iter().any(|e| e == want), "{want} not in {events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_restarted_and_then_backed_off() {
    let lab = lab();
    lab.send(pod("{containers: [{name: a, image: 'img:1'}]}"));
    lab.until("ready", ready).await;
    lab.runtime.exit("p", "a", 3);
    let s = lab
        .until("a restart", |s| {
            s.container_statuses.iter().flatten().any(|c| c.restart_count == 1 && c.ready)
        })
        .await;
    let last = s.container_statuses.as_ref().unwrap()[0].last_state.clone().unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    lab.runtime.exit("p", "a", 3);
    lab.until("back-off", |s| {
        let reason = s
            .container_statuses
            .iter()
            .flatten()
            .next()
            .and_then(|c| c.state.as_ref()?.waiting.as_ref()?.reason.clone());
        reason.as_deref() == Some("CrashLoopBackOff")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_job_succeeds_or_fails_for_good() {
    for (code, phase) in [(0, "Succeeded"), (2, "Failed")] {
        let lab = lab();
        lab.runtime.exit_at_start("a", Some(code));
        lab.send(pod("{restartPolicy: Never, containers: [{name: a, image: 'img:1'}]}"));
        lab.until(phase, |s| s.phase.as_deref() == Some(phase)).await;
        assert_eq!(lab.count("start_container a"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_and_a_missing_map_are_named_and_mended() {
    let lab = lab();
    lab.runtime.fail_pull("gone:1", Some("no such image"));
    lab.send(pod("{volumes: [{name: v, configMap: {name: m}}], containers: [{name: a, image: 'gone:1'}]}"));
    let recorded = |text: &str| lab.host.ctx.events.recorded().iter().any(|e| e.contains(text));
    lab.until("a status", |s| s.phase.is_some()).await;
    let mut tries = 0;
    while !recorded("FailedMount MountVolume.SetUp failed for volume \"v\" : configmap \"m\" not found") {
        tries += 1;
        assert!(tries < 100, "no FailedMount");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    lab.host.objects.put_config_map("n", "m", ConfigMap::default());
    lab.until("ErrImagePull", |s| {
        let w = s.container_statuses.iter().flatten().next().and_then(|c| c.state.as_ref()?.waiting.clone());
        w.is_some_and(|w| {
            matches!(w.reason.as_deref(), Some("ErrImagePull" | "ImagePullBackOff"))
                && w.message.unwrap_or_default().contains("no such image")
        })
    })
    .await;
    assert!(recorded("Failed Failed to pull image \"gone:1\""));
}

#[tokio::test(start_paused = true)]
async fn a_new_kubelet_adopts_what_runs() {
    let first = lab();
    let spec = "{containers: [{name: a, image: 'img:1', readinessProbe: {exec: {command: [ok]}}}]}";
    first.send(pod(spec));
    let status = first.until("ready", ready).await;
    first.cancel.cancel();
    let runtime = first.runtime.clone();
    let second = lab_on(runtime, tempfile::tempdir().unwrap());
    let mut seen = pod(spec);
    seen.status = Some((*status).clone());
    second.send(seen);
    let mut turns = 0;
    while second.host.ctx.pods.by_uid("u1").is_none_or(|e| e.view.sandboxes.is_empty()) {
        turns += 1;
        assert!(turns < 100, "the running pod was not adopted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(ready(&second.status()), "{:?}", second.status());
    assert_eq!((second.count("run_sandbox p"), second.count("start_container a")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_is_removed() {
    let first = lab();
    first.send(pod("{containers: [{name: a, image: 'img:1'}]}"));
    first.until("ready", ready).await;
    first.cancel.cancel();
    let second = lab_on(first.runtime.clone(), tempfile::tempdir().unwrap());
    let wait = async {
        while second.count("remove_sandbox p") == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the orphan is still there");
}
