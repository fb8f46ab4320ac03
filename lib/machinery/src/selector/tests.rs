use serde_json::{Map, Value, json};

use super::*;

fn matches(selector: &str, labels: &Value) -> bool {
    LabelSelector::parse(selector).expect(selector).matches(labels.as_object().expect("map"))
}

#[test]
fn label_selectors() {
    let labels = json!({"app": "web", "tier": "front", "n": "5", "empty": ""});
    for yes in [
        "",
        "app",
        "app=web",
        "app==web",
        "app!=db",
        "x!=y",
        "app in (web,db)",
        "app notin (db)",
        "!x",
        "app=web,tier=front",
        " app = web , tier in ( front ) ",
        "n>4",
        "n<6",
        "empty=",
        "empty",
        "in notin (x)",
        "x notin (a)",
        "empty in ()",
        "app in (web,)",
    ] {
        assert!(matches(yes, &labels), "{yes}");
    }
    for no in [
        "x",
        "app=db",
        "app!=web",
        "app in (db)",
        "app notin (web,db)",
        "!app",
        "app=web,x",
        "n>5",
        "n<5",
        "x in (a,b)",
        "x=",
    ] {
        assert!(!matches(no, &labels), "{no}");
    }
    for bad in [
        "a=b,",
        ",",
        "a in b",
        "a in (b",
        "a=b c",
        "!",
        "a!",
        "-a=b",
        "a=-b",
        "a in (b c)",
        "a>x",
        "a==b==c",
        "(",
        "a/b/c=d",
    ] {
        assert!(LabelSelector::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(LabelSelector::parse("b in (y,x),a=1,!c").expect("ok").to_string(), "a=1,b in (x,y),!c");
}

#[test]
fn selector_objects() {
    let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "x", "operator": "DoesNotExist"}]});
    let selector = LabelSelector::from_json(&selector).expect("selector");
    assert!(selector.matches(json!({"a": "b", "c": "e"}).as_object().expect("map")));
    assert!(!selector.matches(json!({"a": "b", "c": "e", "x": ""}).as_object().expect("map")));
    assert!(!LabelSelector::from_json(&Value::Null).expect("null").matches(&Map::new()));
    assert!(LabelSelector::from_json(&json!({})).expect("empty").matches(&Map::new()));
    assert!(
        LabelSelector::from_json(&json!({"matchExpressions": [{"key": "c", "operator": "In"}]})).is_err()
    );
}

#[test]
fn field_selectors() {
    let selector =
        FieldSelector::parse(r"metadata.name=a\,b,spec.nodeName!=n,status.phase==Running").expect("ok");
    let lookup = |field: &str| match field {
        "metadata.name" => "a,b",
        "status.phase" => "Running",
        _ => "",
    };
    assert!(selector.matches(lookup));
    assert_eq!(selector.to_string(), r"metadata.name=a\,b,spec.nodeName!=n,status.phase=Running");
    assert_eq!(selector.requires_exact("metadata.name"), Some("a,b"));
    for bad in ["a", "a=b=c", r"a=\x"] {
        assert!(FieldSelector::parse(bad).is_err(), "{bad}");
    }
    assert!(FieldSelector::parse("").expect("empty").is_empty());
}
