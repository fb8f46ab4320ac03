//! Capacity and allocatable. Pure.

use super::machine::Facts;
use crate::config::KubeletConfiguration;
use anyhow::Context;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::{Format, Quantity};
use std::collections::BTreeMap;

/// Amounts by resource.
pub type Amounts = BTreeMap<String, Text>;

fn text(value: u64, format: Format) -> Text {
    Text(Quantity::new(i64::try_from(value).unwrap_or(i64::MAX), format).canonical())
}

/// What the machine has.
pub fn capacity(facts: &Facts, config: &KubeletConfiguration) -> Amounts {
    let pods = match u64::try_from(config.pods_per_core) {
        Ok(per_core) if per_core > 0 => (per_core * facts.cores).min(config.max_pods.max(0) as u64),
        _ => config.max_pods.max(0) as u64,
    };
    let mut out = Amounts::from([
        ("cpu".to_owned(), text(facts.cores, Format::DecimalSi)),
        ("memory".to_owned(), text(facts.memory, Format::BinarySi)),
        ("pods".to_owned(), text(pods, Format::DecimalSi)),
    ]);
    if config.local_storage_capacity_isolation {
        out.insert("ephemeral-storage".into(), text(facts.disk, Format::BinarySi));
    }
    for (kib, bytes) in &facts.hugepages {
        let size = text(kib * 1024, Format::BinarySi).0;
        out.insert(format!("hugepages-{size}"), text(*bytes, Format::BinarySi));
    }
    out
}

/// Capacity less kubeReserved, systemReserved and the hard eviction thresholds of memory and nodefs; huge pages are
/// taken from memory. Errors when a configured amount does not parse.
pub fn allocatable(capacity: &Amounts, config: &KubeletConfiguration) -> anyhow::Result<Amounts> {
    let eviction = config.eviction_hard();
    let mut out = Amounts::new();
    for (name, text) in capacity {
        let whole = Quantity::parse(&text.0)?;
        let mut left = whole;
        for reserved in [&config.kube_reserved, &config.system_reserved] {
            if let Some(amount) = reserved.get(name) {
                left = left.sub(&Quantity::parse(amount).with_context(|| format!("reserved {name}"))?);
            }
        }
        let signal = match name.as_str() {
            "memory" => eviction.get("memory.available"),
            "ephemeral-storage" => eviction.get("nodefs.available"),
            _ => None,
        };
        if let Some(threshold) = signal {
            left = left.sub(&amount_of(threshold, &whole).with_context(|| format!("threshold of {name}"))?);
        }
        if name == "memory" {
            left = capacity
                .iter()
                .filter(|(n, _)| n.starts_with("hugepages-"))
                .try_fold(left, |left, (_, pages)| anyhow::Ok(left.sub(&Quantity::parse(&pages.0)?)))?;
        }
        let left = if left.sign() < 0 { Quantity::zero(whole.format()) } else { left };
        out.insert(name.clone(), Text(left.canonical()));
    }
    Ok(out)
}

/// A threshold: a quantity, or a share of the whole.
fn amount_of(threshold: &str, whole: &Quantity) -> anyhow::Result<Quantity> {
    match threshold.strip_suffix('%') {
        None => Ok(Quantity::parse(threshold)?),
        Some(percent) => {
            let share: f64 = percent.trim().parse()?;
            let value = whole.value() as f64 * share / 100.0;
            Ok(Quantity::new(value as i64, whole.format()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_and_allocatable() {
        let facts = Facts {
            cores: 4,
            memory: 8 << 30,
            disk: 100 << 30,
            hugepages: BTreeMap::from([(2048, 1 << 30)]),
            ..Default::default()
        };
        let mut config = KubeletConfiguration {
            kube_reserved: BTreeMap::from([("cpu".into(), "500m".into()), ("memory".into(), "1Gi".into())]),
            system_reserved: BTreeMap::from([("memory".into(), "512Mi".into())]),
            ..KubeletConfiguration::default()
        };
        let have = capacity(&facts, &config);
        let get = |a: &Amounts, n: &str| a.get(n).map(|q| q.0.clone()).unwrap_or_default();
        assert_eq!(get(&have, "cpu"), "4");
        assert_eq!(get(&have, "memory"), "8Gi");
        assert_eq!(get(&have, "pods"), "110");
        assert_eq!(get(&have, "hugepages-2Mi"), "1Gi");
        let free = allocatable(&have, &config).unwrap();
        assert_eq!(get(&free, "cpu"), "3500m");
        assert_eq!(get(&free, "memory"), format!("{}Mi", 8192 - 1024 - 512 - 1024 - 100));
        let disk = Quantity::parse(&get(&free, "ephemeral-storage")).unwrap();
        assert_eq!(disk.value(), (100i64 << 30) - (10i64 << 30));
        config.pods_per_core = 10;
        assert_eq!(get(&capacity(&facts, &config), "pods"), "40");
        config.kube_reserved.insert("cpu".into(), "8".into());
        assert_eq!(get(&allocatable(&have, &config).unwrap(), "cpu"), "0");
        config.kube_reserved.insert("cpu".into(), "x".into());
        assert!(allocatable(&have, &config).is_err());
    }
}
