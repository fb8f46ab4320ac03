//! Addresses and ports of services, given out so that no two services, and no two API servers, ever get the same.
//!
//! An address is taken by creating the `IPAddress` object of its name: the store lets only one writer create it. Node
//! ports are bits of one record that is only ever replaced if it is still the one that was read. Both are taken before
//! a service is written and given back when it is not written after all; what a crash leaves behind is found by
//! [`repair`].

pub mod addresses;
pub mod ports;
pub mod range;
pub mod repair;
mod service;
#[cfg(test)]
mod tests;

use crate::registry::errs::Errs;
use crate::registry::kinds::service_family;
use crate::request::Ctx;
use crate::strategy::Guard;
use machinery::status::Status;
use serde_json::Value;

/// Takes what a new service needs and writes it into the object.
pub async fn begin_create(ctx: &Ctx, service: &mut Value) -> Result<Guard, Status> {
    begin(ctx, service, None).await
}

/// Takes what a changed service needs more than before; what it needs no longer is given back once it is written.
pub async fn begin_update(ctx: &Ctx, new: &mut Value, old: &Value) -> Result<Guard, Status> {
    begin(ctx, new, Some(old)).await
}

async fn begin(ctx: &Ctx, service: &mut Value, old: Option<&Value>) -> Result<Guard, Status> {
    let mut errs = Errs::default();
    let ranges = addresses::ranges(&ctx.app);
    service_family::fill(service, old, &range::families(&ranges), &mut errs);
    if !errs.is_empty() {
        return Err(Status::invalid("", "Service", machinery::meta::name(service), errs.0));
    }
    let mut guard = Guard::none();
    let taken = match service::addresses(ctx, service, old, &ranges, &mut guard).await {
        Ok(()) => service::ports(ctx, service, old, &mut guard).await,
        Err(status) => Err(status),
    };
    match taken {
        Ok(()) => Ok(guard),
        Err(status) => {
            guard.rollback().await;
            Err(status)
        }
    }
}

/// Gives back what a deleted service held, and removes the endpoints of its name.
pub async fn after_delete(ctx: &Ctx, service: &Value) {
    service::release_all(ctx, service).await;
}
