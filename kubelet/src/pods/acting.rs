//! What a pod's worker does: it lets it run, ends it, and clears away what is left.

use super::step::Action;
use super::table::PodView;
use super::worker::{FIRST_RETRY, LAST_RETRY, Worker};
use crate::events::WARNING;
use crate::volumes::teardown;
use std::sync::Arc;
use std::time::Duration;

/// How long a pod that is to end waits for what the runtime is making of it.
const FINISHES: Duration = Duration::from_secs(5);

impl Worker {
    /// Does one action; true: look again at once.
    pub(super) async fn act(&mut self, action: Action, view: &Arc<PodView>) -> bool {
        match action {
            Action::Sync(plan) => self.sync_cancellable(plan, view).await,
            Action::Kill { grace } => self.kill_all(grace).await,
            Action::CleanUp => self.clean_up(),
            Action::DeleteFromApi => {
                if let Some((_, writer)) = &self.writer {
                    writer.delete();
                }
                false
            }
            Action::Forget | Action::Rest => false,
        }
    }

    /// Syncing ends early when the pod is to end: its outcome no longer matters. What the runtime is making at that moment
    /// it may finish, within [`FINISHES`]: broken off, it leaves halves that it does not list.
    async fn sync_cancellable(&mut self, plan: super::decide::Plan, view: &Arc<PodView>) -> bool {
        let (mut rx, making) = (self.rx.clone(), self.making.clone());
        let ending = async move {
            while !rx.borrow_and_update().ending() {
                if rx.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            let _ = tokio::time::timeout(FINISHES, making.write()).await;
        };
        let busy = !plan.is_empty();
        let outcome = tokio::select! {
            biased;
            () = ending => None,
            outcome = self.sync(plan, view) => Some(outcome),
        };
        match outcome {
            None => {
                self.cut_short = busy;
                true
            }
            Some(Ok(changed)) => {
                self.retry = FIRST_RETRY;
                self.sync_probes();
                let view = self.host.relist.view(&self.uid);
                self.refresh_status(&view);
                changed
            }
            Some(Err(())) => {
                let view = self.host.relist.view(&self.uid);
                self.refresh_status(&view);
                self.wake_in(self.retry.mul_f64(1.0 + rand::random::<f64>() * 0.2));
                self.retry = (self.retry * 2).min(LAST_RETRY);
                false
            }
        }
    }

    async fn kill_all(&mut self, grace: i64) -> bool {
        if self.cut_short {
            // something may have been half made when syncing was cut short
            let _ = self.host.relist.relist_pod(&self.uid).await;
            self.cut_short = false;
            return true;
        }
        let (mut rx, old) = (self.rx.clone(), grace);
        let shorter = async move {
            loop {
                let new = rx.borrow_and_update().pod.metadata.deletion_grace_period_seconds;
                if new.is_some_and(|g| g.max(1) < old) {
                    return;
                }
                if rx.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let result = tokio::select! {
            biased;
            () = shorter => return true,
            result = super::stop::kill_pod(&self.host, &self.desired.pod, &self.uid, grace) => result,
        };
        match result {
            Ok(()) => true,
            Err(e) => {
                self.event(WARNING, "FailedKillPod", format!("error killing pod: {e}"));
                self.wake_in(Duration::from_secs(1));
                false
            }
        }
    }

    /// Volumes, cgroup and the pod's directory go. True when it is done.
    fn clean_up(&mut self) -> bool {
        let dir = self.host.ctx.config.pod_dir(&self.uid);
        if let Err(e) = teardown::remove_pod_dir(&dir) {
            tracing::warn!(pod = %self.name(), error = %e, "volumes not yet taken down");
            self.wake_in(Duration::from_millis(200));
            return false;
        }
        if let Err(e) = self.host.cgroups.remove(&self.cgroup()) {
            tracing::debug!(pod = %self.name(), error = %e, "cgroup not yet removed");
            // Nothing of the pod is known to run any more: what is still in there is nobody's.
            self.host.cgroups.kill(&self.cgroup());
            self.wake_in(Duration::from_millis(50));
            return false;
        }
        self.host.objects.unregister(&self.uid);
        self.host.tokens.forget(&self.uid);
        self.clean = true;
        true
    }

    /// The cgroup of the pod below each hierarchy.
    pub(super) fn cgroup(&self) -> String {
        self.host.layout.path(super::resources::qos(&self.desired.pod), &self.uid)
    }

    /// The pod is out of its source and stopped: records, logs and sandboxes go too.
    pub(super) async fn forget(&mut self) {
        self.stop_probes(|_| true);
        let view = self.host.relist.view(&self.uid);
        super::stop::remove_records(&self.host, &view).await;
        let m = &self.desired.pod.metadata;
        let logs = super::table::pod_log_dir(
            std::path::Path::new(&self.host.ctx.config.file.pod_logs_dir),
            m.namespace.as_deref().unwrap_or_default(),
            m.name.as_deref().unwrap_or_default(),
            &self.uid,
        );
        let _ = std::fs::remove_dir_all(logs);
        crate::gc::logs::remove_links(&self.desired.pod, &view);
        let _ = self.host.cgroups.remove(&self.cgroup());
        self.host.relist.unregister(&self.uid);
    }
}
