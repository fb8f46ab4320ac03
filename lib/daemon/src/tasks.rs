//! A tree of named tasks with an owner.

use std::future::Future;
use std::time::Duration;

use parking_lot::Mutex;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Tasks under one cancellation token. A task that ends before it was asked to is a fault: it is logged with its
/// name and takes the daemon down in good order rather than leaving it half alive.
#[derive(Clone)]
pub struct Tasks {
    token: CancellationToken,
    handles: Arc<Mutex<Vec<(String, JoinHandle<()>)>>>,
}

impl Tasks {
    /// A tree that ends when `token` is cancelled.
    pub fn new(token: CancellationToken) -> Self {
        Self { token, handles: Arc::default() }
    }

    /// The token all tasks watch.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// A tree of its own whose token ends with this one, or before (a leader's tasks, say).
    pub fn child(&self) -> Tasks {
        Tasks::new(self.token.child_token())
    }

    /// Runs a task meant to live as long as the tree. It is dropped when the token is cancelled.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, name: impl Into<String>, task: F) {
        let name = name.into();
        let (token, label) = (self.token.clone(), name.clone());
        let inner = tokio::spawn(async move { token.run_until_cancelled(task).await.is_none() });
        let token = self.token.clone();
        let handle = tokio::spawn(async move { watch(label, inner, token).await });
        self.keep(name, handle);
    }

    /// Runs a task that handles the token itself and may end at any time; only a panic or an error is a fault.
    pub fn spawn_result<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let name = name.into();
        let (token, label) = (self.token.clone(), name.clone());
        let handle = tokio::spawn(async move {
            let fault = match tokio::spawn(task).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("{error:#}"),
                Err(panic) => panic.to_string(),
            };
            tracing::error!(task = label, fault, "task failed");
            token.cancel();
        });
        self.keep(name, handle);
    }

    fn keep(&self, name: String, handle: JoinHandle<()>) {
        let mut handles = self.handles.lock();
        handles.retain(|(_, h)| !h.is_finished());
        handles.push((name, handle));
    }

    /// Cancels and waits at most `timeout` for every task; those still running are named and aborted.
    pub async fn drain(&self, timeout: Duration) {
        self.token.cancel();
        let deadline = tokio::time::Instant::now() + timeout;
        let handles = std::mem::take(&mut *self.handles.lock());
        for (name, mut handle) in handles {
            if tokio::time::timeout_at(deadline, &mut handle).await.is_err() {
                tracing::warn!(task = name, "task did not end in time");
                handle.abort();
            }
        }
    }
}

async fn watch(name: String, inner: JoinHandle<bool>, token: CancellationToken) {
    let fault = match inner.await {
        Ok(true) => return,
        Ok(false) if token.is_cancelled() => return,
        Ok(false) => "ended unexpectedly".to_string(),
        Err(error) if error.is_cancelled() => return,
        Err(error) => error.to_string(),
    };
    tracing::error!(task = name, fault, "task failed");
    token.cancel();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_early_end_cancels_the_tree() {
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("steady", std::future::pending());
        tasks.spawn("short", async {});
        tokio::time::timeout(Duration::from_secs(1), tasks.token().cancelled()).await.unwrap();
        tasks.drain(Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_end_of_a_result_task_does_not() {
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn_result("fine", async { Ok(()) });
        let waited = tokio::time::timeout(Duration::from_secs(1), tasks.token().cancelled()).await;
        assert!(waited.is_err());
        tasks.spawn_result("bad", async { Err(anyhow::anyhow!("no")) });
        tokio::time::timeout(Duration::from_secs(1), tasks.token().cancelled()).await.unwrap();
    }
}
