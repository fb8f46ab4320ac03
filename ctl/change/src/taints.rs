//! The grammar of `taint`, and what a change does to a node's taints.

use anyhow::{Result, bail};
use serde_json::{Value, json};

/// A taint of a command line. Without effect (for removals) it stands for all effects of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

/// What a command line wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    pub set: Vec<Taint>,
    pub remove: Vec<Taint>,
}

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Whether an argument is a taint rather than a resource.
pub fn is_taint(arg: &str) -> bool {
    (arg.contains('=') || arg.ends_with('-') || arg.contains(':')) && !arg.starts_with('=')
}

/// Reads `key=value:Effect`, `key:Effect`, `key:Effect-`, `key-`. The error is the whole complaint.
pub fn parse(specs: &[String]) -> Result<Changes> {
    let mut out = Changes::default();
    for spec in specs {
        match spec.strip_suffix('-') {
            Some(gone) => {
                let taint = one(gone, spec, true)?;
                out.remove.push(Taint { value: String::new(), ..taint });
            }
            None => {
                let taint = one(spec, spec, false)?;
                let same = |t: &&Taint| t.key == taint.key && t.effect == taint.effect;
                if out.set.iter().any(|t| same(&t)) {
                    let Taint { key, value, effect } = &taint;
                    bail!("duplicated taints with the same key and effect: {{{key} {value} {effect} <nil>}}");
                }
                out.set.push(taint);
            }
        }
    }
    Ok(out)
}

fn one(text: &str, spec: &str, removal: bool) -> Result<Taint> {
    let (front, effect) = match text.split(':').collect::<Vec<_>>().as_slice() {
        [front] if removal => ((*front).to_string(), String::new()),
        [front, effect] => ((*front).to_string(), (*effect).to_string()),
        _ => bail!("invalid taint spec: {spec}"),
    };
    let any = removal && effect.is_empty();
    if !any && !EFFECTS.contains(&effect.as_str()) {
        bail!("invalid taint effect: {effect}, unsupported taint effect");
    }
    let (key, value) = match front.split('=').collect::<Vec<_>>().as_slice() {
        [key] => ((*key).to_string(), String::new()),
        [key, value] => ((*key).to_string(), (*value).to_string()),
        _ => bail!("invalid taint spec: {spec}"),
    };
    let mut errors = machinery::names::is_label_value(&value);
    if errors.is_empty() {
        errors = machinery::names::is_qualified_name(&key);
    }
    if !errors.is_empty() {
        bail!("invalid taint spec: {spec}, {}", errors.join("; "));
    }
    Ok(Taint { key, value, effect })
}

impl Changes {
    /// Taints that are set and removed at once, as they are printed.
    pub fn contradictions(&self) -> Vec<String> {
        let both = |r: &&Taint| {
            self.set.iter().any(|s| s.key == r.key && (r.effect.is_empty() || s.effect == r.effect))
        };
        self.remove.iter().filter(both).map(printed).collect()
    }

    /// The node's taints after the change and the word for it. New ones come first.
    ///
    /// # Errors
    /// Taints that are there already unless overwriting is allowed; removals of what isn't there.
    pub fn apply(
        &self,
        node: &str,
        current: &[Value],
        overwrite: bool,
    ) -> Result<(Vec<Value>, &'static str)> {
        if !overwrite && self.set.iter().any(|t| current.iter().any(|c| same(c, t))) {
            bail!("node {node} already has a taint(s) with same effect(s) and --overwrite is false");
        }
        let mut out: Vec<Value> = self.set.iter().map(object).collect();
        out.extend(current.iter().filter(|c| !self.set.iter().any(|t| same(c, t))).cloned());
        let missing: Vec<String> = self
            .remove
            .iter()
            .filter(|gone| !out.iter().any(|t| matches(t, gone)))
            .map(|gone| format!("taint {:?} not found", short(gone)))
            .collect();
        if !missing.is_empty() {
            let text = missing.join(", ");
            if missing.len() == 1 { bail!("{text}") } else { bail!("[{text}]") }
        }
        out.retain(|taint| !self.remove.iter().any(|gone| matches(taint, gone)));
        let replaced = self.set.iter().any(|t| current.iter().any(|c| same(c, t)));
        Ok((out, self.word(replaced)))
    }

    fn word(&self, replaced: bool) -> &'static str {
        match (self.set.is_empty(), self.remove.is_empty()) {
            (true, false) => "untainted",
            (false, true) if !replaced => "tainted",
            _ => "modified",
        }
    }
}

fn object(taint: &Taint) -> Value {
    let mut out = json!({"key": taint.key, "effect": taint.effect});
    if !taint.value.is_empty() {
        out["value"] = json!(taint.value);
    }
    out
}

fn same(current: &Value, taint: &Taint) -> bool {
    current["key"] == taint.key.as_str() && current["effect"] == taint.effect.as_str()
}

fn matches(current: &Value, gone: &Taint) -> bool {
    current["key"] == gone.key.as_str()
        && (gone.effect.is_empty() || current["effect"] == gone.effect.as_str())
}

fn short(taint: &Taint) -> String {
    if taint.effect.is_empty() { taint.key.clone() } else { format!("{}:{}", taint.key, taint.effect) }
}

fn printed(taint: &Taint) -> String {
    format!("{}={}", taint.key, taint.effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(specs: &[&str]) -> Result<Changes> {
        parse(&specs.iter().map(|s| (*s).to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn grammar() {
        let parsed = changes(&["a=b:NoSchedule", "c:NoExecute", "d-", "e:NoSchedule-"]).expect("parses");
        assert_eq!((parsed.set.len(), parsed.remove.len()), (2, 2));
        for bad in ["a:Foo", "a", "a=b=c:NoSchedule", "a=b c:NoSchedule", "a:b:c"] {
            assert!(changes(&[bad]).is_err(), "{bad}");
        }
        assert!(changes(&["a=b:NoSchedule", "a=c:NoSchedule"]).is_err());
        assert_eq!(changes(&["a=b:NoSchedule", "a-"]).expect("parses").contradictions(), ["a="]);
    }

    #[test]
    fn nodes() {
        let current = [json!({"key": "a", "value": "1", "effect": "NoSchedule"})];
        let table: [(&[&str], bool, Option<(&str, usize)>); 6] = [
            (&["b:NoSchedule"], false, Some(("tainted", 2))),
            (&["a=2:NoSchedule"], false, None),
            (&["a=2:NoSchedule"], true, Some(("modified", 1))),
            (&["a-"], false, Some(("untainted", 0))),
            (&["a-", "c:NoExecute"], false, Some(("modified", 1))),
            (&["z-"], false, None),
        ];
        for (specs, overwrite, want) in table {
            let got = changes(specs).and_then(|c| c.apply("n", &current, overwrite)).ok();
            assert_eq!(got.map(|(taints, word)| (word, taints.len())), want, "{specs:?}");
        }
    }
}
