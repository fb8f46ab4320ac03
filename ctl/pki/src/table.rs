//! What `certs check-expiration` prints.

use serde_json::{Value, json};

use crate::expiry::Expiry;
use crate::fitness::date;

/// The two tables, in kubeadm's columns: certificates, then authorities.
pub fn text(all: &[Expiry], now: i64) -> String {
    let mut rows = vec![cells([
        "CERTIFICATE",
        "EXPIRES",
        "RESIDUAL TIME",
        "CERTIFICATE AUTHORITY",
        "EXTERNALLY MANAGED",
    ])];
    rows.extend(all.iter().filter(|e| !e.is_ca).map(|e| match e.missing {
        true => cells([&format!("!MISSING! {}", e.name), "", "", "", ""]),
        false => cells([&e.name, &date(e.not_after), &residual(e.not_after - now), &e.authority, managed(e)]),
    }));
    let mut authorities =
        vec![cells(["CERTIFICATE AUTHORITY", "EXPIRES", "RESIDUAL TIME", "EXTERNALLY MANAGED"])];
    authorities.extend(all.iter().filter(|e| e.is_ca).map(|e| match e.missing {
        true => cells([&format!("!MISSING! {}", e.name), "", "", ""]),
        false => cells([&e.name, &date(e.not_after), &residual(e.not_after - now), managed(e)]),
    }));
    format!("{}\n{}", aligned(&rows), aligned(&authorities))
}

fn cells<const N: usize>(row: [&str; N]) -> Vec<String> {
    row.map(String::from).into()
}

fn managed(e: &Expiry) -> &'static str {
    if e.externally_managed { "yes     " } else { "no      " }
}

/// Columns as wide as their widest cell and three more, ten at least; the last one as it is.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.len() + 3).max().unwrap_or(0).max(10);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let last = row.len() - 1;
        let cell = |(c, text): (usize, &String)| match c == last {
            true => text.clone(),
            false => format!("{text:<0$}", widths[c]),
        };
        row.iter().enumerate().map(cell).collect::<String>() + "\n"
    };
    rows.iter().map(line).collect()
}

/// A length of time as kubeadm shortens it: the largest unit alone.
pub fn residual(seconds: i64) -> String {
    match seconds {
        ..-1 => "<invalid>".into(),
        -1..=0 => "0s".into(),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        86_400..31_536_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", seconds / 31_536_000),
    }
}

/// The same as an object of kubeadm's output API.
pub fn object(all: &[Expiry], now: i64) -> Value {
    let list = |ca: bool| all.iter().filter(|e| e.is_ca == ca).map(|e| entry(e, now)).collect::<Vec<_>>();
    json!({
        "apiVersion": "output.kubeadm.k8s.io/v1alpha3",
        "kind": "CertificateExpirationInfo",
        "certificates": list(false),
        "certificateAuthorities": list(true),
    })
}

fn entry(e: &Expiry, now: i64) -> Value {
    let time = jiff::Timestamp::from_second(e.not_after).ok().filter(|_| !e.missing);
    let mut out = json!({
        "name": e.name,
        "expirationDate": time.map(|t| t.to_string()),
        "residualTime": if e.missing { 0 } else { e.not_after - now },
        "externallyManaged": e.externally_managed,
        "missing": e.missing,
    });
    if !e.authority.is_empty() {
        out["caName"] = json!(e.authority);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_287_600;

    fn sample() -> Vec<Expiry> {
        let e = |name: &str, authority: &str, life: i64| Expiry {
            name: name.into(),
            authority: authority.into(),
            is_ca: authority.is_empty(),
            missing: life == 0,
            not_before: NOW - 300,
            not_after: NOW + life,
            externally_managed: false,
        };
        let mut all = vec![
            e("admin.conf", "ca", 8760 * 3600 - 60),
            e("apiserver-kubelet-client", "ca", 179),
            e("etcd-server", "etcd-ca", -5),
            e("super-admin.conf", "ca", 0),
            e("ca", "", 87600 * 3600 - 60),
        ];
        all[2].externally_managed = true;
        all
    }

    #[test]
    fn the_tables() {
        let shown: String = text(&sample(), NOW).lines().map(|l| format!("|{l}|\n")).collect();
        expect_test::expect![[r#"
            |CERTIFICATE                  EXPIRES                  RESIDUAL TIME   CERTIFICATE AUTHORITY   EXTERNALLY MANAGED|
            |admin.conf                   Nov 21, 2027 18:59 UTC   364d            ca                      no      |
            |apiserver-kubelet-client     Nov 21, 2026 19:02 UTC   2m              ca                      no      |
            |etcd-server                  Nov 21, 2026 18:59 UTC   <invalid>       etcd-ca                 yes     |
            |!MISSING! super-admin.conf                                                                    |
            ||
            |CERTIFICATE AUTHORITY   EXPIRES                  RESIDUAL TIME   EXTERNALLY MANAGED|
            |ca                      Nov 18, 2036 18:59 UTC   9y              no      |
        "#]]
        .assert_eq(&shown);
    }

    #[test]
    fn lengths_of_time() {
        for (seconds, want) in [
            (-100, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (86_399, "23h"),
            (86_400, "1d"),
            (31_535_999, "364d"),
            (31_536_000, "1y"),
        ] {
            assert_eq!(residual(seconds), want);
        }
    }

    #[test]
    fn the_object() {
        let object = object(&sample(), NOW);
        assert_eq!(
            object["certificates"][1],
            json!({"name": "apiserver-kubelet-client", "expirationDate": "2026-11-21T19:02:59Z", "residualTime": 179,
                "externallyManaged": false, "missing": false, "caName": "ca"})
        );
        assert_eq!(object["certificates"][3]["missing"], true);
        assert_eq!(object["certificateAuthorities"][0].get("caName"), None);
    }
}
