//! Templates and what they give.

use super::{JsonPath, relax};
use serde_json::{Value, json};

fn data() -> Value {
    json!({"kind": "List", "n": 3, "empty": [], "labels": {"a.b/c": "d", "e": "f"}, "items": [
        {"metadata": {"name": "one"}, "state": "up", "size": 1, "ports": [80, 443]},
        {"metadata": {"name": "two"}, "state": "down", "size": 2, "ok": true},
        {"metadata": {"name": "three"}, "state": "up", "size": 3}]})
}

fn fill(template: &str) -> String {
    JsonPath::parse(template).and_then(|path| path.fill(&data())).unwrap_or_else(|error| error.to_string())
}

#[test]
fn templates() {
    let table = [
        ("plain text", "plain text"),
        ("{.kind}", "List"),
        ("{.}", ""),
        ("{.kind}/{.n}", "List/3"),
        ("{.items[0].metadata.name}", "one"),
        ("{.items[*].metadata.name}", "one two three"),
        ("{.items[-1].metadata.name}", "three"),
        ("{.items[0:2].metadata.name}", "one two"),
        ("{.items[::2].metadata.name}", "one three"),
        ("{.items[1:].metadata.name}", "two three"),
        ("{.items[0,2].metadata.name}", "one three"),
        ("{.items[*]['state','size']}", "up down up 1 2 3"),
        ("{.labels['a\\.b/c']}", "d"),
        ("{.labels.a\\.b/c}", "d"),
        ("{.items[?(@.state==\"up\")].metadata.name}", "one three"),
        ("{.items[?(@.size>1)].metadata.name}", "two three"),
        ("{.items[?(@.size>=2)].size}", "2 3"),
        ("{.items[?(@.state!='up')].metadata.name}", "two"),
        ("{.items[?(@.ok)].metadata.name}", "two"),
        ("{.items[?(@.ok==true)].metadata.name}", "two"),
        (
            "{range .items[*]}{.metadata.name}{\"\\t\"}{.size}{'\\n'}{end}done",
            "one\t1\ntwo\t2\nthree\t3\ndone",
        ),
        ("{range .items[*]}[{range .ports[*]}{@},{end}]{end}", "[80,443,][][]"),
        ("{range .empty[*]}{.x}{end}!", "!"),
        ("{..name}", "one two three"),
        ("{.items[0].ports}", "[80,443]"),
        ("{.items[0].metadata}", "{\"name\":\"one\"}"),
        ("{.nothing.at.all}", ""),
        ("{$.kind}", "List"),
        ("{.labels.*}", "d f"),
        ("{.a", "error parsing jsonpath {.a, unclosed action"),
        ("{.items[x]}", "error parsing jsonpath {.items[x]}, invalid array index x"),
        ("{.items[0}", "error parsing jsonpath {.items[0}, unterminated array"),
        ("{.items[?(@.x]}", "error parsing jsonpath {.items[?(@.x]}, unterminated filter"),
    ];
    for (template, text) in table {
        assert_eq!(fill(template), text, "{template}");
    }
}

#[test]
fn failures_show_template_and_object() {
    let text = fill("{.empty[0].x}");
    assert!(text.starts_with("error executing jsonpath \"{.empty[0].x}\": Error executing template: array index out of bounds: index 0, length 0. Printing"), "{text}");
    assert!(
        text.contains(
            "\tobject given to jsonpath engine was:\n\t\tmap[string]interface {}{\"empty\":[]interface {}{}"
        ),
        "{text}"
    );
    assert!(fill("{end}").contains("not in range, nothing to end"));
    assert!(fill("{.kind[0]}").contains("string is not array or slice"));
    let mut strict = JsonPath::parse("{.missing}").expect("parses");
    strict.allow_missing = false;
    assert!(strict.fill(&data()).is_err_and(|error| error.to_string().contains("missing is not found")));
}

#[test]
fn json_lists_of_results() {
    let path = JsonPath::parse("{.items[0:2].size}").expect("parses");
    assert_eq!(path.fill_json(&data()).expect("fills"), "[\n    1,\n    2\n]\n");
}

#[test]
fn relaxed_spellings() {
    for path in ["a.b", ".a.b", "{a.b}", "{.a.b}"] {
        assert_eq!(relax(path).expect("a path"), "{.a.b}");
    }
    for path in ["{a", "a}", "."] {
        assert!(relax(path).is_err(), "{path}");
    }
}
