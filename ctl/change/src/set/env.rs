//! Environment variables of containers: parsing what is wanted, editing, listing.

use crate::template::name;
use anyhow::{Result, bail};
use serde_json::{Value, json};

/// What a command line wants of the environment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// EnvVar objects to set.
    pub set: Vec<Value>,
    /// Names to remove.
    pub remove: Vec<String>,
}

/// Splits arguments into resources and changes; changes come last.
pub fn split(args: &[String]) -> Result<(Vec<String>, Vec<String>)> {
    let is_change = |arg: &String| arg.find('=').is_some_and(|at| at > 0) || arg.ends_with('-');
    let at = args.iter().position(is_change).unwrap_or(args.len());
    let (resources, changes) = args.split_at(at);
    if !changes.iter().all(is_change) {
        bail!("all resources must be specified before environment changes: {}", args.join(" "));
    }
    Ok((resources.to_vec(), changes.to_vec()))
}

/// Reads `KEY=VALUE`, `KEY-` and, for `-`, lines of standard input.
pub fn parse(changes: &[String], stdin: impl FnOnce() -> Result<String>) -> Result<Wanted> {
    let mut out = Wanted::default();
    let mut stdin = Some(stdin);
    for change in changes {
        match (change.as_str(), stdin.is_some()) {
            ("-", true) => {
                let text = stdin.take().map(|read| read()).transpose()?.unwrap_or_default();
                for line in text.lines().filter(|line| !line.is_empty()) {
                    out.set.push(pair(line)?);
                }
            }
            (text, _) if text.contains('=') => out.set.push(pair(text)?),
            (text, _) => match text.strip_suffix('-') {
                Some(key) => out.remove.push(key.into()),
                None => bail!("unknown environment variable: {text}"),
            },
        }
    }
    if out.remove.iter().any(|gone| out.set.iter().any(|set| name(set) == gone)) {
        bail!("can not both modify and remove the same environment variable in the same command");
    }
    Ok(out)
}

fn pair(text: &str) -> Result<Value> {
    let Some((key, value)) = text.split_once('=') else { bail!("invalid environment variable: {text}") };
    let errors = machinery::names::is_env_var_name(key);
    if !errors.is_empty() {
        bail!("{key:?} is not a valid key name: {}", errors.join(";"));
    }
    Ok(json!({"name": key, "value": value}))
}

/// Variables that take their values from the keys of a ConfigMap or Secret; `keys` empty means all of them.
pub fn from_object(object: &Value, keys: &[String], prefix: &str) -> Option<Vec<Value>> {
    let reference = match object["kind"].as_str()? {
        "ConfigMap" => "configMapKeyRef",
        "Secret" => "secretKeyRef",
        _ => return None,
    };
    let data = object["data"].as_object().cloned().unwrap_or_default();
    let chosen = data.keys().filter(|key| keys.is_empty() || keys.contains(key));
    let variable = |key: &String| {
        let source = json!({reference: {"name": object["metadata"]["name"], "key": key}});
        json!({"name": format!("{prefix}{}", env_name(key)), "valueFrom": source})
    };
    Some(chosen.map(variable).collect())
}

/// Chosen keys that can't be variables' names as they are, with what becomes of them.
pub fn renamed(object: &Value, keys: &[String]) -> Vec<(String, String)> {
    let data = object["data"].as_object().cloned().unwrap_or_default();
    let chosen = data.keys().filter(|key| keys.is_empty() || keys.contains(key));
    chosen.map(|key| (key.clone(), env_name(key))).filter(|(key, name)| key != name).collect()
}

fn env_name(key: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_uppercase() } else { '_' };
    key.chars().map(letter).collect()
}

/// The environment after the change: replaced in place, new ones at the end.
pub fn edit(existing: &[Value], wanted: &Wanted) -> Vec<Value> {
    let mut done: Vec<&str> = wanted.remove.iter().map(String::as_str).collect();
    let mut out = Vec::new();
    for variable in existing {
        let key = name(variable);
        if done.contains(&key) {
            continue;
        }
        match wanted.set.iter().find(|w| name(w) == key) {
            Some(newer) => {
                done.push(key);
                out.push(newer.clone());
            }
            None => out.push(variable.clone()),
        }
    }
    for variable in &wanted.set {
        if !done.contains(&name(variable)) {
            done.push(name(variable));
            out.push(variable.clone());
        }
    }
    out
}

/// Without `--overwrite` a variable that has a value must keep it.
pub fn refuse_overwrites(existing: &[Value], wanted: &Wanted) -> Result<()> {
    for variable in &wanted.set {
        let had = existing.iter().find(|e| name(e) == name(variable));
        if let Some(had) = had.filter(|had| had["value"] != variable["value"]) {
            let value = had["value"].as_str().unwrap_or_default();
            bail!("'{}' already has a value ({value}), and --overwrite is false", name(variable));
        }
    }
    Ok(())
}

/// Where a variable's value comes from, in words.
pub fn source(from: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    if let Some(field) = from.get("fieldRef") {
        return format!("field path {}", text(&field["fieldPath"]));
    }
    if let Some(resource) = from.get("resourceFieldRef") {
        let container = match text(&resource["containerName"]) {
            name if name.is_empty() => String::new(),
            name => format!("{name}/"),
        };
        return format!("resource field {container}{}", text(&resource["resource"]));
    }
    for (member, word) in [("secretKeyRef", "secret"), ("configMapKeyRef", "configmap")] {
        if let Some(key) = from.get(member) {
            return format!("{word} {}, key {}", text(&key["name"]), text(&key["key"]));
        }
    }
    "invalid valueFrom".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|s| (*s).to_string()).collect()
    }

    #[test]
    fn arguments() {
        let (resources, changes) = split(&list(&["deploy/d", "A=b", "C-"])).expect("splits");
        assert_eq!((resources.len(), changes.len()), (1, 2));
        assert!(split(&list(&["A=b", "deploy/d"])).is_err());
        let wanted = parse(&changes, || Ok(String::new())).expect("parses");
        assert_eq!(wanted, Wanted { set: vec![json!({"name": "A", "value": "b"})], remove: list(&["C"]) });
        assert!(parse(&list(&["A=b", "A-"]), || Ok(String::new())).is_err());
        let read = parse(&list(&["-"]), || Ok("X=1\nY=a=b\n".into())).expect("parses");
        assert_eq!(read.set[1], json!({"name": "Y", "value": "a=b"}));
    }

    #[test]
    fn edits() {
        let existing = [
            json!({"name": "A", "value": "1"}),
            json!({"name": "B", "value": "2"}),
            json!({"name": "C", "value": "3"}),
        ];
        let wanted = Wanted {
            set: vec![json!({"name": "B", "value": "x"}), json!({"name": "D", "value": "y"})],
            remove: list(&["A"]),
        };
        let after = edit(&existing, &wanted);
        let pairs: Vec<String> =
            after.iter().map(|v| format!("{}={}", name(v), v["value"].as_str().unwrap_or(""))).collect();
        assert_eq!(pairs, ["B=x", "C=3", "D=y"]);
        assert!(refuse_overwrites(&existing, &wanted).is_err());
    }

    #[test]
    fn sources() {
        let map = json!({"kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a.b": "1", "c": "2"}});
        let made = from_object(&map, &[], "P_").expect("a source");
        assert_eq!(
            made[0],
            json!({"name": "P_A_B", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "a.b"}}})
        );
        assert_eq!(from_object(&map, &list(&["c"]), "").expect("a source").len(), 1);
        assert_eq!(source(&made[0]["valueFrom"]), "configmap m, key a.b");
        assert!(from_object(&json!({"kind": "Pod"}), &[], "").is_none());
    }
}
