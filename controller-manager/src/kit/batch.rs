//! Many calls of one kind, carefully at first.

use std::future::Future;

use futures::future::join_all;

/// At most so many objects are made or deleted in one look.
pub const BURST: usize = 500;

/// Runs `call` for 0, 1, ... `count` in batches of 1, 2, 4, ... side by side. A batch with a failure is the last:
/// what fails for one mostly fails for all. Answers how many were tried, and the first failure.
pub async fn slow_start<F, Fut, E>(count: usize, call: F) -> (usize, Option<E>)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let (mut done, mut batch) = (0, 1);
    while done < count {
        let size = batch.min(count - done);
        let results = join_all((done..done + size).map(&call)).await;
        done += size;
        if let Some(failure) = results.into_iter().find_map(Result::err) {
            return (done, Some(failure));
        }
        batch *= 2;
    }
    (done, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_failure_ends_it_after_its_batch() {
        let calls = AtomicUsize::new(0);
        let run = async |count: usize, bad: usize| {
            calls.store(0, Ordering::Relaxed);
            let outcome = slow_start(count, |at| {
                calls.fetch_add(1, Ordering::Relaxed);
                async move { if at == bad { Err(at) } else { Ok(()) } }
            })
            .await;
            (outcome, calls.load(Ordering::Relaxed))
        };
        assert_eq!(run(10, 99).await, ((10, None), 10));
        assert_eq!(run(10, 0).await, ((1, Some(0)), 1));
        assert_eq!(run(10, 2).await, ((3, Some(2)), 3));
        assert_eq!(run(10, 4).await, ((7, Some(4)), 7));
        assert_eq!(run(0, 0).await, ((0, None), 0));
    }
}
