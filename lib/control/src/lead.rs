//! Work that is done only while leading.

use crate::lease::{LeaderElector, Leadership};
use anyhow::{Result, anyhow};
use daemon::health::Health;
use daemon::tasks::Tasks;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Name of the health check, as upstream's.
const CHECK: &str = "leaderElection";

/// Stands for election with `elector`, and leading, has `start` begin the work in a tree of tasks of its own. The tree has
/// ended, or `drain` has passed, before the lease is given back: two must never act at once. Returns when `tasks` is cancelled.
///
/// # Errors
/// When leadership is lost, `start` fails, or a task of the work does: the supervisor starts a new process then.
pub async fn lead<S, F>(
    elector: LeaderElector,
    tasks: &Tasks,
    health: &Health,
    drain: Duration,
    start: S,
) -> Result<()>
where
    S: FnOnce(Tasks) -> F,
    F: Future<Output = Result<()>>,
{
    health.set(CHECK, Ok(()));
    let (state, patience) = (elector.leadership(), elector.patience());
    let release = CancellationToken::new();
    let election = tokio::spawn(elector.run(release.clone()));
    let work = tasks.child();
    let outcome = tokio::select! {
        biased;
        () = tasks.token().cancelled() => Ok(()),
        () = reached(state.clone(), Leadership::Lost) => Err(anyhow!("leaderelection lost")),
        outcome = act(state, &work, start) => outcome,
    };
    if outcome.is_err() {
        health.set(CHECK, Err("lost".into()));
    }
    work.drain(drain).await;
    release.cancel();
    let _ = tokio::time::timeout(patience, election).await;
    outcome
}

/// Returns as soon as the state is `wanted`. What a wait for it yields locks the state against the elector: here it is
/// gone when the wait is over.
async fn reached(mut state: watch::Receiver<Leadership>, wanted: Leadership) {
    if state.wait_for(|s| *s == wanted).await.is_err() {
        // The elector has ended; the others of the select say why.
        std::future::pending::<()>().await;
    }
}

/// Begins the work once this candidate leads, and returns with the first of it that fails.
async fn act<S, F>(state: watch::Receiver<Leadership>, work: &Tasks, start: S) -> Result<()>
where
    S: FnOnce(Tasks) -> F,
    F: Future<Output = Result<()>>,
{
    reached(state, Leadership::Leading).await;
    start(work.clone()).await?;
    work.token().cancelled().await;
    // A leader half alive would be worse than none.
    Err(anyhow!("a task failed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Config;
    use crate::lease::memory::Memory;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// What a run leaves to look at.
    struct Run {
        store: Memory,
        tasks: Tasks,
        health: Arc<Health>,
        ended: Arc<AtomicBool>,
        outcome: tokio::task::JoinHandle<Result<()>>,
    }

    /// Leads with work that takes two seconds to end, and fails of itself after `fails_after`.
    fn run(fails_after: Option<u64>) -> Run {
        let store = Memory::default();
        let elector =
            LeaderElector::with_store(Box::new(store.clone()), Config::new("kube-system", "test", "a"));
        let (tasks, health, ended) =
            (Tasks::new(CancellationToken::new()), Health::new(), Arc::new(AtomicBool::new(false)));
        let (tree, checks, done) = (tasks.clone(), health.clone(), ended.clone());
        let outcome = tokio::spawn(async move {
            let start = async |work: Tasks| {
                let token = work.token().clone();
                work.spawn_result("slow to end", async move {
                    token.cancelled().await;
                    secs(2).await;
                    done.store(true, Ordering::Relaxed);
                    Ok(())
                });
                if let Some(after) = fails_after {
                    work.spawn("failing", secs(after));
                }
                Ok(())
            };
            lead(elector, &tree, &checks, Duration::from_secs(5), start).await
        });
        Run { store, tasks, health, ended, outcome }
    }

    async fn secs(n: u64) {
        tokio::time::sleep(Duration::from_secs(n)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn lost_leadership_ends_the_work_and_is_an_error() {
        let run = run(None);
        secs(60).await;
        assert!(!run.outcome.is_finished());
        run.store.cut(true);
        secs(15).await;
        let told = run.outcome.await.unwrap().unwrap_err().to_string();
        assert_eq!((told.as_str(), run.ended.load(Ordering::Relaxed)), ("leaderelection lost", true));
        assert!(!run.health.report("healthz").0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_is_held_until_the_work_has_ended() {
        let run = run(None);
        secs(10).await;
        run.tasks.token().cancel();
        secs(1).await;
        assert_eq!(run.store.holder().as_deref(), Some("a"));
        run.outcome.await.unwrap().unwrap();
        assert_eq!((run.store.holder(), run.ended.load(Ordering::Relaxed)), (None, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_told_to_end_while_the_server_is_away_ends() {
        let run = run(None);
        secs(10).await;
        run.store.cut(true);
        run.tasks.token().cancel();
        let ended = tokio::time::timeout(Duration::from_secs(20), run.outcome).await;
        ended.expect("in time").unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_ends_all_and_gives_the_lease_back() {
        let run = run(Some(7));
        secs(20).await;
        assert_eq!(run.outcome.await.unwrap().unwrap_err().to_string(), "a task failed");
        assert_eq!(run.store.holder(), None);
    }
}
