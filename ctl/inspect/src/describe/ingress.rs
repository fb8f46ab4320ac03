//! Ingresses and their classes.

use super::page::Page;
use super::service;
use super::subject::Subject;
use crate::dig;
use crate::put;
use serde_json::Value;

/// Writes an ingress.
pub fn page(subject: &Subject, page: &mut Page) {
    let ingress = &subject.object;
    page.name(ingress);
    page.labels("", "Labels", &dig::strings(ingress, "metadata.labels"));
    page.namespace(ingress);
    page.field(0, "Address", addresses(dig::items(ingress, "status.loadBalancer.ingress")));
    let class = dig::at(ingress, "spec.ingressClassName").as_str().unwrap_or("<none>");
    page.field(0, "Ingress Class", class);
    let default = match dig::at(ingress, "spec.defaultBackend") {
        Value::Null => "<default>".into(),
        backend => self::backend(subject, backend),
    };
    page.field(0, "Default backend", &default);
    certificates(dig::items(ingress, "spec.tls"), page);
    rules(subject, &default, page);
    page.annotations("Annotations", &dig::strings(ingress, "metadata.annotations"));
    subject.events(page);
}

fn addresses(points: &[Value]) -> String {
    let one = |point| match dig::text(point, "ip") {
        "" => dig::text(point, "hostname"),
        ip => ip,
    };
    let mut all: Vec<_> = points.iter().map(one).filter(|address| !address.is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    all.join(",")
}

fn certificates(certificates: &[Value], page: &mut Page) {
    if certificates.is_empty() {
        return;
    }
    page.put(0, "TLS:\n");
    for certificate in certificates {
        let hosts = dig::texts(certificate, "hosts").join(",");
        match dig::text(certificate, "secretName") {
            "" => put!(page, 1, "SNI routes {hosts}\n"),
            secret => put!(page, 1, "{secret} terminates {hosts}\n"),
        }
    }
}

fn rules(subject: &Subject, default: &str, page: &mut Page) {
    page.put(0, "Rules:\n  Host\tPath\tBackends\n");
    page.put(1, "----\t----\t--------\n");
    let rules: Vec<_> =
        dig::items(&subject.object, "spec.rules").iter().filter(|rule| dig::has(rule, "http")).collect();
    for rule in &rules {
        let host = match dig::text(rule, "host") {
            "" => "*",
            host => host,
        };
        put!(page, 1, "{host}\t\n");
        for path in dig::items(rule, "http.paths") {
            put!(page, 2, "\t{} \t{}\n", dig::text(path, "path"), backend(subject, &path["backend"]));
        }
    }
    if rules.is_empty() {
        put!(page, 1, "*\t*\t{default}\n");
    }
}

/// A backend and the addresses behind it.
fn backend(subject: &Subject, backend: &Value) -> String {
    if dig::has(backend, "service") {
        return service_backend(subject, &backend["service"]);
    }
    let resource = &backend["resource"];
    if resource.is_null() {
        return String::new();
    }
    let group = resource["apiGroup"].as_str().unwrap_or("<none>");
    format!("APIGroup: {group}, Kind: {}, Name: {}", dig::text(resource, "kind"), dig::text(resource, "name"))
}

fn service_backend(subject: &Subject, backend: &Value) -> String {
    let name = dig::text(backend, "name");
    let (number, port_name) = (dig::int(backend, "port.number"), dig::text(backend, "port.name"));
    let title = if number != 0 { format!("{name}:{number}") } else { format!("{name}:{port_name}") };
    let slices = match subject.slices.get(name) {
        Some(Err(error)) => return format!("{title} (<error: {error}>)"),
        Some(Ok(slices)) => slices.as_slice(),
        None => &[],
    };
    let service = match subject.services.get(name) {
        Some(Err(error)) => return format!("{title} (<error: {error}>)"),
        Some(Ok(service)) => service,
        None => &Value::Null,
    };
    let meant = |port: &&Value| {
        (number != 0 && dig::int(port, "port") == number)
            || (!port_name.is_empty() && dig::text(port, "name") == port_name)
    };
    let port = dig::items(service, "spec.ports").iter().rfind(meant);
    let port = port.map(|port| dig::text(port, "name")).unwrap_or_default();
    format!("{title} ({})", service::endpoints(slices, port))
}

/// The names of the services an ingress sends to.
pub fn services(ingress: &Value) -> Vec<&str> {
    let paths = dig::items(ingress, "spec.rules").iter().flat_map(|rule| dig::items(rule, "http.paths"));
    let backends = paths.map(|path| &path["backend"]).chain([dig::at(ingress, "spec.defaultBackend")]);
    let mut names: Vec<_> = backends.map(|backend| dig::text(backend, "service.name")).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    names
}

/// Writes an ingress class.
pub fn class_page(subject: &Subject, page: &mut Page) {
    let class = &subject.object;
    page.name(class);
    page.labels_and_annotations(class);
    page.field(0, "Controller", dig::text(class, "spec.controller"));
    let parameters = dig::at(class, "spec.parameters");
    if !parameters.is_null() {
        page.put(0, "Parameters:\n");
        if dig::has(parameters, "apiGroup") {
            page.field(1, "APIGroup", dig::text(parameters, "apiGroup"));
        }
        page.field(1, "Kind", dig::text(parameters, "kind"));
        page.field(1, "Name", dig::text(parameters, "name"));
    }
    subject.events(page);
}
