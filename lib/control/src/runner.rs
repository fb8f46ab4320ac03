//! Workers over a queue: observe, plan, apply, and again when it failed.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use daemon::tasks::Tasks;

use crate::queue::Queue;

/// What a sync came to: done (look again after a while, if given), or an error to be retried with backoff.
pub type Outcome = anyhow::Result<Option<Duration>>;

/// How a room is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The controller's name, for logs and task names.
    pub name: &'static str,
    /// How many keys are worked on at a time.
    pub workers: usize,
    /// After this many failures in a row a key is dropped until something wakes it again.
    pub max_retries: Option<u32>,
}

impl Options {
    /// `workers` workers that retry for ever.
    pub fn new(name: &'static str, workers: usize) -> Self {
        Self { name, workers, max_retries: None }
    }

    /// Gives a key up after `n` failures.
    pub fn max_retries(mut self, n: u32) -> Self {
        self.max_retries = Some(n);
        self
    }
}

/// Starts the workers as tasks of `tasks`; the queue is closed when they are cancelled.
pub fn start<K, F, Fut>(options: Options, queue: Queue<K>, tasks: &Tasks, sync: F)
where
    K: Clone + Eq + Hash + Send + Sync + std::fmt::Debug + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send,
{
    let sync = Arc::new(sync);
    for n in 0..options.workers.max(1) {
        let (queue, sync, options) = (queue.clone(), sync.clone(), options.clone());
        tasks.spawn(format!("{}/{n}", options.name), async move {
            while let Some(key) = queue.get().await {
                let outcome = sync(key.clone()).await;
                settle(&options, &queue, key, outcome);
            }
            std::future::pending::<()>().await;
        });
    }
}

fn settle<K: Clone + Eq + Hash + std::fmt::Debug>(
    options: &Options,
    queue: &Queue<K>,
    key: K,
    outcome: Outcome,
) {
    match outcome {
        Ok(again) => {
            queue.forget(&key);
            if let Some(wait) = again {
                queue.add_after(key.clone(), wait);
            }
        }
        Err(error) if options.max_retries.is_some_and(|max| queue.failures(&key) >= max) => {
            tracing::warn!(
                controller = options.name,
                ?key,
                error = format!("{error:#}"),
                "giving up for now"
            );
            queue.forget(&key);
        }
        Err(error) => {
            let error = format!("{error:#}");
            // One failure is most often a conflict that the next look at the cache resolves.
            match queue.failures(&key) {
                0..=2 => tracing::debug!(controller = options.name, ?key, error, "sync failed, will retry"),
                _ => tracing::warn!(controller = options.name, ?key, error, "sync failed, will retry"),
            }
            queue.add_rate_limited(key.clone());
        }
    }
    queue.done(&key);
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use tokio_util::sync::CancellationToken;

    #[tokio::test(start_paused = true)]
    async fn failures_are_retried_and_given_up() {
        let tasks = Tasks::new(CancellationToken::new());
        let queue: Queue<&'static str> = Queue::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        start(Options::new("t", 2).max_retries(3), queue.clone(), &tasks, move |key| {
            log.lock().push(key);
            async move { if key == "bad" { Err(anyhow::anyhow!("no")) } else { Ok(None) } }
        });
        queue.add("good");
        queue.add("bad");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let bad = seen.lock().iter().filter(|k| **k == "bad").count();
        assert_eq!((bad, seen.lock().len()), (4, 5));
    }
}
