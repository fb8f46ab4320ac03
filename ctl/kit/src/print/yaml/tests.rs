//! Documents as kubectl printed them.

use super::document;
use serde_json::{Value, json};

fn same(value: Value, text: &str) {
    assert_eq!(document(&value), text);
}

#[test]
fn structure() {
    same(
        json!({"a": {"b": [], "c": {}, "d": null}, "l": [1, {"x": 1, "y": [2, [3, 4]]}, "s"], "t": true, "f": 1.5}),
        "a:\n  b: []\n  c: {}\n  d: null\nf: 1.5\nl:\n- 1\n- x: 1\n  \"y\":\n  - 2\n  - - 3\n    - 4\n- s\nt: true\n",
    );
    same(json!({}), "{}\n");
    same(json!([]), "[]\n");
    same(json!("x"), "x\n");
    same(json!([{"a": [{"b": "c"}]}]), "- a:\n  - b: c\n");
}

#[test]
fn strings() {
    let long = format!("{} {}", "x".repeat(30), vec!["word"; 20].join(" "));
    let table = [
        ("  lead", "'  lead'"),
        ("a: b", "'a: b'"),
        ("yes", "\"yes\""),
        ("tab\tx", "\"tab\\tx\""),
        ("x\n\ny\n", "|\n  x\n\n  y"),
        (" x\ny", "|2-\n   x\n  y"),
        ("\u{1F600} hi", "\"\\U0001F600 hi\""),
        ("é", "é"),
        ("1:30", "\"1:30\""),
        ("", "\"\""),
        ("trail \nx", "\"trail \\nx\""),
        ("it's", "it's"),
        ("'it", "'''it'"),
        ("#x", "'#x'"),
        ("a #x", "'a #x'"),
        ("-x", "-x"),
        ("- x", "'- x'"),
        ("x\n\n", "|+\n  x\n"),
        ("10.0.0.1", "10.0.0.1"),
        ("a:b", "a:b"),
        ("a:", "'a:'"),
        (
            &long,
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx word word word word word word word word word word\n  word word word word word word word word word word",
        ),
    ];
    for (text, written) in table {
        assert_eq!(document(&json!({"k": text})), format!("k: {written}\n"), "{text:?}");
    }
}

#[test]
fn keys_are_strings_too() {
    same(json!({"true": 1, "1": 2, "a b": 3, "y": 4}), "\"1\": 2\na b: 3\n\"true\": 1\n\"y\": 4\n");
}
