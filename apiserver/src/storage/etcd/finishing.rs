//! A call that goes on to its end when nobody waits for it any more.
//!
//! A client that gives up takes its request's task with it. Were the call to etcd dropped too, etcd's answer would come for a
//! stream that is gone; after a thousand of those the connection is given up as abused, and with it all other calls and the
//! watch, just when the server is busiest.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// What nobody waits for is not waited for longer.
const LONGEST: Duration = Duration::from_secs(30);

/// A future that is finished elsewhere if it is dropped before its end.
pub struct Finishing<T>(Option<Pin<Box<dyn Future<Output = T> + Send>>>)
where
    T: Send + 'static;

impl<T: Send + 'static> Finishing<T> {
    /// Of this call.
    pub fn new(call: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(call)))
    }
}

impl<T: Send + 'static> Future for Finishing<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(call) = &mut self.0 else { return Poll::Pending };
        let outcome = call.as_mut().poll(cx);
        if outcome.is_ready() {
            self.0 = None;
        }
        outcome
    }
}

impl<T: Send + 'static> Drop for Finishing<T> {
    fn drop(&mut self) {
        if let Some(call) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(LONGEST, call));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_begun_is_finished() {
        let (send, receive) = tokio::sync::oneshot::channel();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let call = Finishing::new(async move {
            let _ = wait.await;
            let _ = send.send(7);
        });
        drop(call);
        go.send(()).expect("it still waits");
        assert_eq!(receive.await, Ok(7));
        assert_eq!(Finishing::new(async { 1 }).await, 1);
    }
}
