//! What one service takes and gives back.

use super::addresses::{self, Book, Objects, Owner};
use super::ports::{self, Ports};
use crate::internal;
use crate::registry::errs::{At, Errs};
use crate::registry::kinds::service::{is_headless, needs_cluster_ip, needs_health_port, needs_node_ports};
use crate::registry::val::{get, i, items_mut, list, members, s, strs, sub};
use crate::request::Ctx;
use crate::strategy::Guard;
use ipnet::IpNet;
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

const NULL: Value = Value::Null;

fn spec_of(service: &Value) -> &Value {
    get(service, "spec").unwrap_or(&NULL)
}

fn owner(service: &Value) -> Owner {
    Owner { namespace: meta::namespace(service).to_owned(), name: meta::name(service).to_owned() }
}

/// Addresses a service holds.
pub fn held(service: &Value) -> Vec<IpAddr> {
    if !needs_cluster_ip(service) || is_headless(spec_of(service)) {
        return Vec::new();
    }
    strs(spec_of(service), "clusterIPs").filter_map(crate::registry::validate::net::parse_ip).collect()
}

/// Node ports a service holds, the one for its health included.
pub fn held_ports(service: &Value) -> Vec<u16> {
    let spec = spec_of(service);
    let numbers =
        list(spec, "ports").iter().map(|p| i(p, "nodePort")).chain([i(spec, "healthCheckNodePort")]);
    let mut ports: Vec<u16> =
        numbers.flatten().filter_map(|n| u16::try_from(n).ok()).filter(|n| *n != 0).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Takes the addresses a service lacks.
pub async fn addresses(
    ctx: &Ctx,
    service: &mut Value,
    old: Option<&Value>,
    ranges: &[IpNet],
    guard: &mut Guard,
) -> Result<(), Status> {
    let book: Arc<dyn Book> = Arc::new(Objects(ctx.app.clone()));
    let before = old.map(held).unwrap_or_default();
    if needs_cluster_ip(service) && !is_headless(spec_of(service)) {
        fill(ctx, &book, service, &before, ranges, guard).await?;
    }
    let now = held(service);
    for ip in before.into_iter().filter(|ip| !now.contains(ip)) {
        let book = book.clone();
        guard.on_success(move || async move { book.release(&ip).await });
    }
    Ok(())
}

async fn fill(
    ctx: &Ctx,
    book: &Arc<dyn Book>,
    service: &mut Value,
    before: &[IpAddr],
    ranges: &[IpNet],
    guard: &mut Guard,
) -> Result<(), Status> {
    let owner = owner(service);
    let mut ips: Vec<String> = strs(spec_of(service), "clusterIPs").map(str::to_owned).collect();
    let families: Vec<String> = strs(spec_of(service), "ipFamilies").map(str::to_owned).collect();
    for (index, wanted) in families.iter().enumerate() {
        let ip = match ips.get(index).map(|text| text.parse::<IpAddr>()) {
            Some(Ok(ip)) if before.contains(&ip) => continue,
            Some(Ok(ip)) => {
                let done = addresses::reserve(book.as_ref(), ranges, ip, &owner, ctx.dry_run).await;
                done.map_err(|why| refused(service, &ips, &format!("failed to allocate IP {ip}: {why}")))?;
                ip
            }
            // Not an address: validation says so.
            Some(Err(_)) => continue,
            None => {
                let found = addresses::allocate(book.as_ref(), ranges, wanted, &owner, ctx.dry_run).await;
                let ip = found
                    .map_err(|why| Status::internal(format!("failed to allocate a serviceIP: {why}")))?;
                ips.push(ip.to_string());
                ip
            }
        };
        if !ctx.dry_run {
            let book = book.clone();
            guard.on_failure(move || async move { book.release(&ip).await });
        }
    }
    if let Some(first) = ips.first().cloned() {
        let spec = sub(members(service), "spec");
        spec.insert("clusterIP".into(), json!(first));
        spec.insert("clusterIPs".into(), json!(ips));
    }
    Ok(())
}

fn refused(service: &Value, ips: &[String], why: &str) -> Status {
    let mut errs = Errs::default();
    errs.invalid(&At::ROOT.f("spec.clusterIPs"), json!(ips), why);
    Status::invalid("", "Service", meta::name(service), errs.0)
}

/// One node port to have: for the ports at these places, or (no place) for asking after health.
struct Want {
    places: Vec<usize>,
    port: u16,
}

/// Takes the node ports a service lacks.
pub async fn ports(
    ctx: &Ctx,
    service: &mut Value,
    old: Option<&Value>,
    guard: &mut Guard,
) -> Result<(), Status> {
    let record = ctx.app.node_ports.clone();
    let before = old.map(held_ports).unwrap_or_default();
    let wants: Vec<Want> =
        wants(service).into_iter().filter(|w| w.port == 0 || !before.contains(&w.port)).collect();
    if !wants.is_empty() {
        let numbers: Vec<u16> = wants.iter().map(|w| w.port).collect();
        let taken = record.take(&numbers, ctx.dry_run).await.map_err(|why| no_port(service, &wants, why))?;
        write(service, &wants, &taken);
        if !ctx.dry_run {
            let record = record.clone();
            guard.on_failure(move || async move { give_back(&record, taken).await });
        }
    }
    let now = held_ports(service);
    let dropped: Vec<u16> = before.into_iter().filter(|p| !now.contains(p)).collect();
    if !dropped.is_empty() {
        guard.on_success(move || async move { give_back(&record, dropped).await });
    }
    Ok(())
}

async fn give_back(record: &Ports, ports: Vec<u16>) {
    if let Err(why) = record.release(&ports).await {
        // The repair pass finds them.
        tracing::warn!(?ports, error = %why, "could not release node ports");
    }
}

/// The node ports a service should have. One number serves the same port in two protocols.
fn wants(service: &Value) -> Vec<Want> {
    let spec = spec_of(service);
    let mut wants: Vec<Want> = Vec::new();
    let number = |p: &Value, key: &str| i(p, key).and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
    let ports = list(spec, "ports");
    for (index, port) in ports.iter().enumerate() {
        let asked = number(port, "nodePort");
        if asked == 0 && !needs_node_ports(service) {
            continue;
        }
        let other_protocol = |place: &usize| {
            ports.get(*place).is_some_and(|p| {
                number(p, "port") == number(port, "port") && s(p, "protocol") != s(port, "protocol")
            })
        };
        let shared = wants.iter_mut().find(|w| {
            if asked == 0 { w.port == 0 && w.places.iter().all(other_protocol) } else { w.port == asked }
        });
        match shared {
            Some(want) => want.places.push(index),
            None => wants.push(Want { places: vec![index], port: asked }),
        }
    }
    let health = number(spec, "healthCheckNodePort");
    if needs_health_port(service) || health != 0 {
        wants.push(Want { places: Vec::new(), port: health });
    }
    wants
}

fn write(service: &mut Value, wants: &[Want], taken: &[u16]) {
    let Some(spec) = service.get_mut("spec") else { return };
    for (want, port) in wants.iter().zip(taken) {
        if want.places.is_empty() {
            members(spec).insert("healthCheckNodePort".into(), json!(port));
        }
        let ports = items_mut(spec, "ports");
        for place in &want.places {
            if let Some(entry) = ports.get_mut(*place) {
                members(entry).insert("nodePort".into(), json!(port));
            }
        }
    }
}

fn no_port(service: &Value, wants: &[Want], why: ports::Refused) -> Status {
    let (ports::Refused::Taken(port) | ports::Refused::OutOfRange(port, _)) = &why else {
        return Status::internal(format!("failed to allocate a nodePort: {why}"));
    };
    let place = wants.iter().find(|w| w.port == *port).and_then(|w| w.places.first().copied());
    let mut errs = Errs::default();
    let base = At::ROOT.f("spec.ports");
    match place {
        Some(index) => errs.invalid(&base.i(index).f("nodePort"), *port, why.to_string()),
        None => errs.invalid(&At::ROOT.f("spec.healthCheckNodePort"), *port, why.to_string()),
    }
    Status::invalid("", "Service", meta::name(service), errs.0)
}

/// Gives back everything a service held.
pub async fn release_all(ctx: &Ctx, service: &Value) {
    if ctx.dry_run {
        return;
    }
    let book = Objects(ctx.app.clone());
    for ip in held(service) {
        book.release(&ip).await;
    }
    let record = ctx.app.node_ports.clone();
    give_back(&record, held_ports(service)).await;
    let (namespace, name) = (meta::namespace(service), meta::name(service));
    if ctx.app.reader.get("endpoints", namespace, name).is_some()
        && let Err(status) = internal::delete(&ctx.app, "v1", "endpoints", namespace, name).await
    {
        tracing::debug!(namespace, name, error = %status.message, "endpoints of a deleted service");
    }
}
