//! A lease without a server, for tests.

use super::{Store, holder};
use anyhow::Result;
use async_trait::async_trait;
use k8s_openapi::api::coordination::v1::Lease;
use parking_lot::Mutex;
use std::sync::Arc;

/// A lease in memory with optimistic locking, and a switch that makes every call fail.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<(Option<Lease>, u64, bool)>>);

impl Memory {
    /// Makes every call fail from now on, or answers again.
    pub(crate) fn cut(&self, cut: bool) {
        self.0.lock().2 = cut;
    }

    /// Writes the lease.
    pub(crate) fn put(&self, mut lease: Lease, create: bool) -> Result<Lease> {
        let mut state = self.0.lock();
        anyhow::ensure!(!state.2, "unreachable");
        let current = state.0.as_ref().and_then(|l| l.metadata.resource_version.clone());
        anyhow::ensure!(
            if create { current.is_none() } else { current == lease.metadata.resource_version },
            "conflict"
        );
        state.1 += 1;
        lease.metadata.resource_version = Some(state.1.to_string());
        state.0 = Some(lease.clone());
        Ok(lease)
    }

    /// Who holds it.
    pub(crate) fn holder(&self) -> Option<String> {
        self.0.lock().0.as_ref().and_then(holder).map(str::to_string)
    }
}

#[async_trait]
impl Store for Memory {
    async fn get(&self) -> Result<Option<Lease>> {
        let state = self.0.lock();
        anyhow::ensure!(!state.2, "unreachable");
        Ok(state.0.clone())
    }
    async fn create(&self, lease: Lease) -> Result<Lease> {
        self.put(lease, true)
    }
    async fn update(&self, lease: Lease) -> Result<Lease> {
        self.put(lease, false)
    }
}
