//! /stats/summary: usage of the node, its pods and containers, from the runtime and the kernel.
//!
//! [`sample`] reads, [`rates`] remembers what rates are made from, [`summary`] shapes the answer. The same sample feeds
//! /metrics/resource and /metrics/cadvisor.

pub mod host;
pub mod rates;
pub mod sample;
pub mod summary;

use crate::context::Context;
use crate::runtime::RuntimeError;
use rates::Rates;
use sample::Sample;
use std::sync::Arc;

/// Makes samples and keeps the last ones.
#[derive(Default)]
pub struct Collector {
    rates: Rates,
}

impl Collector {
    /// Reads everything once.
    pub async fn sample(&self, ctx: &Arc<Context>) -> Result<Sample, RuntimeError> {
        let mut sample = sample::take(ctx).await?;
        self.rates.apply(&mut sample);
        Ok(sample)
    }

    /// The Summary (stats/v1alpha1) as JSON; `light` leaves out all but CPU and memory.
    pub async fn summary(&self, ctx: &Arc<Context>, light: bool) -> Result<serde_json::Value, RuntimeError> {
        let sample = self.sample(ctx).await?;
        Ok(summary::render(ctx, &sample, light))
    }
}
