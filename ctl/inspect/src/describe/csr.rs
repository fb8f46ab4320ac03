//! Certificate signing requests, and what they ask to be certified.

use super::page::Page;
use super::subject::Subject;
use crate::dig;
use crate::put;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::SignedDuration;
use serde_json::Value;
use std::net::IpAddr;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::FromDer;

/// Parts of a subject that may occur often, with their titles.
const PARTS: [(&str, &[u64]); 7] = [
    ("Organization", &[2, 5, 4, 10]),
    ("Organizational Unit", &[2, 5, 4, 11]),
    ("Country", &[2, 5, 4, 6]),
    ("Locality", &[2, 5, 4, 7]),
    ("Province", &[2, 5, 4, 8]),
    ("StreetAddress", &[2, 5, 4, 9]),
    ("PostalCode", &[2, 5, 4, 17]),
];

/// What a request asks for.
#[derive(Default)]
struct Asked {
    common_name: String,
    serial_number: String,
    parts: Vec<(&'static str, Vec<String>)>,
    /// DNS names, mail addresses, URIs and addresses, with titles.
    names: [(&'static str, Vec<String>); 4],
}

/// Writes a certificate signing request; one that can't be read is an error.
pub fn page(subject: &Subject, page: &mut Page) -> Result<(), String> {
    let request = &subject.object;
    let asked =
        asked(dig::text(request, "spec.request")).map_err(|error| format!("Error parsing CSR: {error}"))?;
    page.name(request);
    page.field(0, "Labels", dig::one_line(&dig::strings(request, "metadata.labels")));
    page.field(0, "Annotations", dig::one_line(&dig::strings(request, "metadata.annotations")));
    page.field(0, "CreationTimestamp", dig::date(request, "metadata.creationTimestamp"));
    page.field(0, "Requesting User", dig::text(request, "spec.username"));
    if !dig::text(request, "spec.signerName").is_empty() {
        page.field(0, "Signer", dig::text(request, "spec.signerName"));
    }
    if let Some(seconds) = dig::at(request, "spec.expirationSeconds").as_i64() {
        page.field(
            0,
            "Requested Duration",
            machinery::time::human_duration(SignedDuration::from_secs(seconds)),
        );
    }
    page.field(0, "Status", status(request));
    wishes(&asked, page);
    subject.events(page);
    Ok(())
}

fn status(request: &Value) -> String {
    let has = |kind| {
        dig::items(request, "status.conditions").iter().any(|condition| dig::text(condition, "type") == kind)
    };
    let decided = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if dig::text(request, "status.certificate").is_empty() { "" } else { ",Issued" };
    format!("{decided}{failed}{issued}")
}

fn wishes(asked: &Asked, page: &mut Page) {
    page.put(0, "Subject:\n");
    put!(page, 0, "\tCommon Name:\t{}\n", asked.common_name);
    put!(page, 0, "\tSerial Number:\t{}\n", asked.serial_number);
    asked.parts.iter().for_each(|(title, values)| list(title, values, page));
    if asked.names.iter().any(|(_, values)| !values.is_empty()) {
        page.put(0, "Subject Alternative Names:\n");
        asked.names.iter().for_each(|(title, values)| list(title, values, page));
    }
}

fn list(title: &str, values: &[String], page: &mut Page) {
    if !values.is_empty() {
        put!(page, 0, "\t{title}:\t{}\n", values.join("\n\t\t"));
    }
}

fn asked(encoded: &str) -> Result<Asked, String> {
    let pem = BASE64_STANDARD.decode(encoded).map_err(|error| error.to_string())?;
    let block = x509_parser::pem::parse_x509_pem(&pem).ok().map(|(_, block)| block);
    let block = block
        .filter(|block| ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"].contains(&block.label.as_str()))
        .ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let (_, request) =
        X509CertificationRequest::from_der(&block.contents).map_err(|error| error.to_string())?;
    let name = &request.certification_request_info.subject;
    let all = |arcs: &[u64]| -> Vec<String> {
        let Ok(oid) = Oid::from(arcs) else { return Vec::new() };
        name.iter_by_oid(&oid).filter_map(|part| part.as_str().ok()).map(str::to_string).collect()
    };
    Ok(Asked {
        common_name: all(&[2, 5, 4, 3]).pop().unwrap_or_default(),
        serial_number: all(&[2, 5, 4, 5]).pop().unwrap_or_default(),
        parts: PARTS.iter().map(|(title, arcs)| (*title, all(arcs))).collect(),
        names: names(&request),
    })
}

fn names(request: &X509CertificationRequest<'_>) -> [(&'static str, Vec<String>); 4] {
    let mut names = [
        ("DNS Names", Vec::new()),
        ("Email Addresses", Vec::new()),
        ("URIs", Vec::new()),
        ("IP Addresses", Vec::new()),
    ];
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(asked) = extension else { continue };
        for name in &asked.general_names {
            match name {
                GeneralName::DNSName(name) => names[0].1.push(name.to_string()),
                GeneralName::RFC822Name(name) => names[1].1.push(name.to_string()),
                GeneralName::URI(name) => names[2].1.push(name.to_string()),
                GeneralName::IPAddress(bytes) => names[3].1.extend(address(bytes)),
                _ => {}
            }
        }
    }
    names
}

fn address(bytes: &[u8]) -> Option<String> {
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(address.to_string())
}
