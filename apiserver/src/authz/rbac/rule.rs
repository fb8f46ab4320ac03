//! One RBAC policy rule: what it allows and what it covers. Pure.

use serde_json::{Value, json};

/// A rule of a Role or ClusterRole, as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs, `*` for all.
    pub verbs: Vec<String>,
    /// API groups, `""` for the core group, `*` for all.
    pub groups: Vec<String>,
    /// Resources `r`, `r/sub`, `*/sub` or `*`.
    pub resources: Vec<String>,
    /// Object names; empty means every name.
    pub names: Vec<String>,
    /// Paths outside the API; a trailing `*` matches any rest.
    pub urls: Vec<String>,
}

/// What a request asks of a resource.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    /// Verb of the request.
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// Subresource, empty for none.
    pub subresource: &'a str,
    /// Object name, empty for collections.
    pub name: &'a str,
}

fn strings(rule: &Value, key: &str) -> Vec<String> {
    let list = rule.get(key).and_then(Value::as_array);
    list.map(|l| l.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()).unwrap_or_default()
}

/// True when `list` holds `*` or `item`.
fn holds(list: &[String], item: &str) -> bool {
    list.iter().any(|x| x == "*" || x == item)
}

fn has(list: &[String], item: &str) -> bool {
    list.iter().any(|x| x == item)
}

/// True when the pattern of a rule covers the path (or narrower pattern).
fn url_matches(pattern: &str, path: &str) -> bool {
    pattern == "*"
        || pattern == path
        || (pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*')))
}

impl Rule {
    /// Reads a rule out of its JSON form; whatever is ill-typed counts as absent.
    pub fn from_json(rule: &Value) -> Rule {
        Rule {
            verbs: strings(rule, "verbs"),
            groups: strings(rule, "apiGroups"),
            resources: strings(rule, "resources"),
            names: strings(rule, "resourceNames"),
            urls: strings(rule, "nonResourceURLs"),
        }
    }

    /// All rules of a role object.
    pub fn list_of(role: &Value) -> Vec<Rule> {
        let rules = role.get("rules").and_then(Value::as_array);
        rules.map(|l| l.iter().map(Rule::from_json).collect()).unwrap_or_default()
    }

    /// The JSON form, without empty fields.
    pub fn to_json(&self) -> Value {
        let mut out = serde_json::Map::new();
        let fields = [
            ("verbs", &self.verbs),
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ];
        for (key, list) in fields.into_iter().filter(|(k, l)| *k == "verbs" || !l.is_empty()) {
            out.insert(key.to_owned(), json!(list));
        }
        Value::Object(out)
    }

    /// True when the rule allows the request on a resource.
    pub fn allows(&self, want: &Want<'_>) -> bool {
        holds(&self.verbs, want.verb)
            && holds(&self.groups, want.group)
            && self.resources.iter().any(|r| resource_matches(r, want.resource, want.subresource))
            && (self.names.is_empty() || has(&self.names, want.name))
    }

    /// True when the rule allows `verb` on a path outside the API.
    pub fn allows_path(&self, verb: &str, path: &str) -> bool {
        holds(&self.verbs, verb) && self.urls.iter().any(|u| url_matches(u, path))
    }

    /// True when everything `other` allows is allowed by this rule too.
    pub fn covers(&self, other: &Rule) -> bool {
        let names = match (self.names.is_empty(), other.names.is_empty()) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => other.names.iter().all(|n| has(&self.names, n)),
        };
        names
            && covers_all(&self.verbs, &other.verbs)
            && covers_all(&self.groups, &other.groups)
            && (has(&self.resources, "*") || other.resources.iter().all(|r| self.covers_resource(r)))
            && other.urls.iter().all(|u| self.urls.iter().any(|p| url_matches(p, u)))
    }

    fn covers_resource(&self, wanted: &str) -> bool {
        has(&self.resources, wanted)
            || wanted.split_once('/').is_some_and(|(_, sub)| {
                self.resources.iter().any(|r| r.strip_prefix("*/").is_some_and(|s| s == sub))
            })
    }

    /// Splits the rule into rules of one verb, group, resource, name or path each.
    pub fn atoms(&self) -> Vec<Rule> {
        let mut out = Vec::new();
        for verb in &self.verbs {
            self.resource_atoms(verb, &mut out);
            for url in &self.urls {
                out.push(Rule { verbs: vec![verb.clone()], urls: vec![url.clone()], ..Rule::default() });
            }
        }
        out
    }

    fn resource_atoms(&self, verb: &str, out: &mut Vec<Rule>) {
        for group in &self.groups {
            for resource in &self.resources {
                let atom = Rule {
                    verbs: vec![verb.to_owned()],
                    groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Rule::default()
                };
                if self.names.is_empty() {
                    out.push(atom);
                } else {
                    out.extend(self.names.iter().map(|n| Rule { names: vec![n.clone()], ..atom.clone() }));
                }
            }
        }
    }

    /// The one-line form used in escalation refusals.
    pub fn compact(&self) -> String {
        let parts = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let shown: Vec<String> =
            parts.iter().filter(|(_, l)| !l.is_empty()).map(|(k, l)| format!("{k}:{}", quoted(l))).collect();
        format!("{{{}}}", shown.join(", "))
    }
}

/// `["a" "b"]`, the way lists stand in refusals.
pub fn quoted(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|s| format!("{s:?}")).collect();
    format!("[{}]", items.join(" "))
}

fn covers_all(owner: &[String], wanted: &[String]) -> bool {
    has(owner, "*") || wanted.iter().all(|w| has(owner, w))
}

fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => subresource.is_empty() && pattern == resource,
        Some((r, s)) => !subresource.is_empty() && s == subresource && (r == "*" || r == resource),
    }
}

/// The parts of `wanted` that no rule of `held` covers, merged by group and resource.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for atom in wanted.iter().flat_map(Rule::atoms) {
        if !held.iter().any(|h| h.covers(&atom)) {
            merge(&mut out, atom);
        }
    }
    out
}

fn merge(out: &mut Vec<Rule>, atom: Rule) {
    let simple = |r: &Rule| r.names.is_empty() && r.urls.is_empty();
    let same =
        |r: &Rule| simple(r) && simple(&atom) && r.groups == atom.groups && r.resources == atom.resources;
    match out.iter().position(|r| same(r) || *r == atom).and_then(|i| out.get_mut(i)) {
        None => out.push(atom),
        Some(rule) => {
            for verb in atom.verbs {
                if !rule.verbs.contains(&verb) {
                    rule.verbs.push(verb);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        match text {
            "-" => vec![],
            t => t.split(',').map(|s| s.replace("core", "")).collect(),
        }
    }

    /// `VERBS GROUPS RESOURCES NAMES` with `-` for none.
    fn rule(text: &str) -> Rule {
        let c: Vec<&str> = text.split_whitespace().collect();
        Rule { verbs: list(c[0]), groups: list(c[1]), resources: list(c[2]), names: list(c[3]), urls: vec![] }
    }

    #[test]
    fn resource_rules() {
        let table = "
            get core pods -            | get core pods - x        | yes
            get core pods -            | get core pods log x      | no
            get core pods/log -        | get core pods log x      | yes
            get core pods/log -        | get core pods - x        | no
            get core */log -           | get core pods log x      | yes
            get core */log -           | get core pods exec x     | no
            get core * -               | get core pods exec x     | yes
            * * * -                    | approve a.b c - x        | yes
            get core pods a,b          | get core pods - b        | yes
            get core pods a,b          | get core pods - c        | no
            list core pods a           | list core pods - -       | no
            get apps pods -            | get core pods - x        | no
            get,list core pods -       | watch core pods - -      | no
            get core pods -            | get core podsx - x       | no";
        for line in table.lines().filter(|l| !l.trim().is_empty()) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let w: Vec<&str> =
                cells[1].split_whitespace().map(|s| if s == "-" || s == "core" { "" } else { s }).collect();
            let want = Want { verb: w[0], group: w[1], resource: w[2], subresource: w[3], name: w[4] };
            assert_eq!(rule(cells[0]).allows(&want), cells[2] == "yes", "{line}");
        }
    }

    #[test]
    fn path_rules() {
        let r = |u: &str| Rule { verbs: vec!["get".into()], urls: vec![u.into()], ..Rule::default() };
        for (url, path, want) in [
            ("*", "/x", true),
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/", false),
            ("/healthz/*", "/healthz/ping", true),
            ("/healthz/*", "/healthz", false),
            ("/api*", "/apis/x", true),
        ] {
            assert_eq!(r(url).allows_path("get", path), want, "{url} {path}");
            assert!(!r(url).allows_path("post", path));
        }
    }

    #[test]
    fn coverage() {
        for (held, wanted, lacking) in [
            ("* * * -", "get core pods a", ""),
            ("get core pods -", "get core pods a", ""),
            ("get core pods a", "get core pods -", r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#),
            ("get core */log -", "get core pods/log -", ""),
            ("get core * -", "get core pods/log -", ""),
            (
                "get core pods -",
                "get,list,watch core pods -",
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}"#,
            ),
            ("get * pods -", "get core,apps pods -", ""),
            (
                "get core pods a",
                "get core pods a,b",
                r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["b"], Verbs:["get"]}"#,
            ),
        ] {
            let gap = missing(&[rule(held)], &[rule(wanted)]);
            let text: Vec<String> = gap.iter().map(Rule::compact).collect();
            assert_eq!(text.join("\n"), lacking, "{held} / {wanted}");
        }
    }

    #[test]
    fn two_rules_cover_together() {
        let held = [rule("get core pods -"), rule("list core pods -")];
        assert!(missing(&held, &[rule("get,list core pods -")]).is_empty());
    }
}
