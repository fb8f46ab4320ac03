//! Config maps, secrets and service accounts.

use super::page::Page;
use super::subject::Subject;
use crate::dig;
use crate::put;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Writes a config map with all it holds.
pub fn config_map(subject: &Subject, page: &mut Page) {
    let map = &subject.object;
    page.name(map);
    page.namespace(map);
    page.labels_and_annotations(map);
    page.put(0, "\nData\n====\n");
    for (key, value) in dig::strings(map, "data") {
        put!(page, 0, "{key}:\n----\n");
        put!(page, 0, "{value}\n");
        page.put(0, "\n");
    }
    page.put(0, "\nBinaryData\n====\n");
    for (key, value) in dig::strings(map, "binaryData") {
        put!(page, 0, "{key}: {} bytes\n", decoded(value).len());
    }
    page.put(0, "\n");
    subject.events(page);
}

fn decoded(value: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(value).unwrap_or_default()
}

/// Writes a secret: the sizes of what it holds; of the tokens of service accounts the token itself.
pub fn secret(subject: &Subject, page: &mut Page) {
    let secret = &subject.object;
    let kind = dig::text(secret, "type");
    page.name(secret);
    page.namespace(secret);
    page.labels_and_annotations(secret);
    put!(page, 0, "\nType:\t{kind}\n");
    page.put(0, "\nData\n====\n");
    for (key, value) in dig::strings(secret, "data") {
        let data = decoded(value);
        if key == "token" && kind == "kubernetes.io/service-account-token" {
            page.field(0, key, String::from_utf8_lossy(&data));
        } else {
            page.field(0, key, format!("{} bytes", data.len()));
        }
    }
}

/// Writes a service account.
pub fn service_account(subject: &Subject, page: &mut Page) {
    let account = &subject.object;
    page.name(account);
    page.namespace(account);
    page.labels_and_annotations(account);
    let title = "Image pull secrets:";
    let names: Vec<_> =
        dig::items(account, "imagePullSecrets").iter().map(|secret| dig::text(secret, "name")).collect();
    for (number, name) in names.iter().enumerate() {
        let title = if number == 0 { title.to_string() } else { " ".repeat(title.len()) };
        put!(page, 0, "{title}\t{name}\n");
    }
    if names.is_empty() {
        put!(page, 0, "{title}\t<none>\n");
    }
    subject.events(page);
}
