//! What the supervisor is told of a daemon, and what follows from a change of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{Daemon, files};

/// The content of NAME.json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What to run.
    #[serde(flatten)]
    pub daemon: Daemon,
    /// It shall be down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// A higher number starts it anew. With a number, other changes wait for the next start; without, they restart it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u64>,
}

/// What to do about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Start it, at once.
    Start,
    /// End it, and start it.
    Restart,
    /// End it.
    Stop,
    /// Only remember.
    Keep,
}

/// What a new order asks for, given the one before.
pub fn decide(old: Option<&Order>, new: &Order) -> Act {
    let Some(old) = old else { return if new.stopped { Act::Keep } else { Act::Start } };
    match (old.stopped, new.stopped) {
        (false, true) => Act::Stop,
        (true, false) => Act::Start,
        (true, true) => Act::Keep,
        (false, false) if new.order.is_none() && old.daemon != new.daemon => Act::Restart,
        (false, false) if new.order > old.order => Act::Restart,
        (false, false) => Act::Keep,
    }
}

/// Every order of a directory by name, or what is wrong with it.
pub fn read_all(dir: &Path) -> BTreeMap<String, Result<Order>> {
    let names = files::names(dir).unwrap_or_default();
    let ours = names.iter().filter(|n| !n.starts_with('.')).filter_map(|n| n.strip_suffix(".json"));
    ours.map(|name| (name.to_string(), read(dir, name))).collect()
}

/// The order for one daemon.
///
/// # Errors
/// When it can't be read or is damaged.
pub fn read(dir: &Path, name: &str) -> Result<Order> {
    let path = dir.join(format!("{name}.json"));
    let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let order: Order =
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
    if order.daemon.name != name {
        bail!("{} names {:?}", path.display(), order.daemon.name);
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(args: &str, stopped: bool, number: Option<u64>) -> Order {
        let daemon = Daemon { name: "a".into(), args: vec![args.into()], ..Daemon::default() };
        Order { daemon, stopped, order: number }
    }

    #[test]
    fn changes_and_what_follows() {
        let cases = [
            (None, order("1", false, None), Act::Start),
            (None, order("1", true, Some(1)), Act::Keep),
            (Some(order("1", false, None)), order("1", false, None), Act::Keep),
            (Some(order("1", false, None)), order("2", false, None), Act::Restart),
            (Some(order("1", false, Some(1))), order("2", false, Some(1)), Act::Keep),
            (Some(order("1", false, Some(1))), order("1", false, Some(2)), Act::Restart),
            (Some(order("1", false, None)), order("1", false, Some(1)), Act::Restart),
            (Some(order("1", false, Some(1))), order("1", true, Some(1)), Act::Stop),
            (Some(order("1", true, Some(1))), order("2", true, Some(2)), Act::Keep),
            (Some(order("1", true, Some(1))), order("1", false, Some(2)), Act::Start),
        ];
        for (old, new, want) in cases {
            assert_eq!(decide(old.as_ref(), &new), want, "{old:?} {new:?}");
        }
    }

    #[test]
    fn plain_daemons_are_orders_and_damage_is_told() -> Result<()> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("a.json"), r#"{"name":"a","program":"/bin/a","args":["--x"]}"#)?;
        fs::write(dir.path().join("b.json"), "{")?;
        fs::write(dir.path().join("c.json"), r#"{"name":"d","program":"/bin/d"}"#)?;
        for other in [".e.json.partial", "kubelet.env", ".f.json"] {
            fs::write(dir.path().join(other), "")?;
        }
        let all = read_all(dir.path());
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(all["a"].as_ref().ok().map(|o| (o.stopped, o.order)), Some((false, None)));
        assert!(all["b"].as_ref().is_err_and(|e| e.to_string().contains("b.json is damaged")));
        assert!(all["c"].as_ref().is_err_and(|e| e.to_string().contains("names \"d\"")));
        Ok(())
    }
}
