//! A worker that takes a step when it is told to.

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use control::Queue;
use control::runner::Outcome;

/// Always the same, so that a seed always makes the same history.
const RETRY: Duration = Duration::from_millis(100);

/// Works on the next key that is due, as the runner does. False if there is none.
pub async fn work<K, Fut>(queue: &Queue<K>, sync: impl FnOnce(K) -> Fut) -> bool
where
    K: Clone + Eq + Hash + Debug,
    Fut: Future<Output = Outcome>,
{
    let Ok(Some(key)) = tokio::time::timeout(Duration::ZERO, queue.get()).await else { return false };
    match sync(key.clone()).await {
        Ok(again) => {
            queue.forget(&key);
            again.into_iter().for_each(|wait| queue.add_after(key.clone(), wait));
        }
        Err(_) => queue.add_after(key.clone(), RETRY),
    }
    queue.done(&key);
    true
}
