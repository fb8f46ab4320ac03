//! What an upgrade was about, for the run after one that was killed.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::host::Host;

const FILE: &str = "/var/lib/coxswain/upgrade.json";

/// From where to where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The version that ran before; `None` when the programs came from elsewhere.
    pub from: Option<String>,
    /// The version that is wanted.
    pub to: String,
    /// An earlier run to the same version did not come to its end.
    #[serde(skip)]
    pub resumed: bool,
}

impl Journal {
    /// Writes down what begins. After an unfinished run, what ran before that one is what to go back to.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn begin(host: &Host, current: Option<String>, to: &str) -> Result<Self> {
        let earlier = std::fs::read(FILE).ok().and_then(|t| serde_json::from_slice::<Self>(&t).ok());
        let journal = decide(earlier, current, to);
        if journal.resumed {
            crate::say::line(
                "upgrade",
                format_args!("Going on with an upgrade to {to} that did not come to its end"),
            );
        }
        host.write(FILE, &serde_json::to_vec(&journal)?, 0o600)?;
        Ok(journal)
    }

    /// All is done.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub fn end(&self, host: &Host) -> Result<()> {
        if Path::new(FILE).exists() {
            std::fs::remove_file(FILE).with_context(|| format!("removing {FILE}"))?;
        }
        host.made().forget(Path::new(FILE))
    }
}

fn decide(earlier: Option<Journal>, current: Option<String>, to: &str) -> Journal {
    match earlier {
        Some(earlier) => Journal { from: earlier.from, to: to.into(), resumed: earlier.to == to },
        None => Journal { from: current, to: to.into(), resumed: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_survives_a_kill() {
        let first = decide(None, Some("1".into()), "2");
        assert_eq!((first.from.as_deref(), first.resumed), (Some("1"), false));
        let again = decide(Some(first.clone()), Some("2".into()), "2");
        assert_eq!((again.from.as_deref(), again.resumed), (Some("1"), true));
        let other = decide(Some(first), Some("2".into()), "3");
        assert_eq!((other.from.as_deref(), other.resumed), (Some("1"), false));
    }
}
