//! The tables of accepted and refused objects, checked as an API server would: defaults, then structure, then rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod cases;
mod structure;

use std::collections::BTreeMap;

use cases::Case;
use cel::{Validator, apply_defaults};
use evenkeel_crds::definition;
use evenkeel_crds::v1alpha1::{LoadBalancer, ReplicaService, TargetGroup};
use serde_json::Value;

fn schemas() -> BTreeMap<String, Value> {
    let definitions = definition::all().unwrap();
    let kind = |definition: &Value| definition["spec"]["names"]["kind"].as_str().unwrap().to_owned();
    definitions.iter().map(|each| (kind(each), definition::schema(each).unwrap().clone())).collect()
}

/// What an API server would say; empty when it accepts.
fn refusals(schemas: &BTreeMap<String, Value>, case: &Case) -> Vec<String> {
    let schema = &schemas[case.object["kind"].as_str().unwrap()];
    let object = apply_defaults(schema, &case.object);
    let mut found = structure::problems(schema, &object, "");
    // A text that does not fit its pattern is no reason for the API server to leave out the rules.
    if found.iter().any(|problem| !problem.contains("should match")) {
        return found;
    }
    let old = case.old.as_ref().map(|old| apply_defaults(schema, old));
    if let Err(errors) = Validator::new().validate(schema, &object, old.as_ref()) {
        found.extend(errors.iter().map(ToString::to_string));
    }
    found
}

#[test]
fn every_object_is_accepted_or_refused_with_the_words_of_its_case() {
    let schemas = schemas();
    let mut wrong = Vec::new();
    for case in &cases::all() {
        let said = refusals(&schemas, case).join("; ");
        let right = match &case.refused {
            None => said.is_empty(),
            Some(words) => said.contains(words),
        };
        if !right {
            wrong.push(format!(
                "{}\n   wanted: {}\n   said: {said}",
                case.name,
                case.refused.as_deref().unwrap_or("nothing")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_types_can_read_whatever_is_accepted() {
    for case in cases::all().into_iter().filter(|case| case.refused.is_none()) {
        let object = case.object.clone();
        let read = match case.object["kind"].as_str().unwrap() {
            "LoadBalancer" => serde_json::from_value::<LoadBalancer>(object).err(),
            "TargetGroup" => serde_json::from_value::<TargetGroup>(object).err(),
            _ => serde_json::from_value::<ReplicaService>(object).err(),
        };
        assert!(read.is_none(), "{}: {}", case.name, read.unwrap());
    }
}

#[test]
fn every_rule_has_a_case_that_it_refuses() {
    let refused: Vec<String> = cases::all().into_iter().filter_map(|case| case.refused).collect();
    for (kind, schema) in schemas() {
        for message in messages(&schema) {
            assert!(refused.iter().any(|words| message.contains(words)), "{kind}: no case for {message:?}");
        }
    }
}

fn messages(schema: &Value) -> Vec<String> {
    let own = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let mut found: Vec<String> = own.map(|rule| rule["message"].as_str().unwrap().to_owned()).collect();
    match schema {
        Value::Object(members) => found.extend(members.values().flat_map(messages)),
        Value::Array(items) => found.extend(items.iter().flat_map(messages)),
        _ => {}
    }
    found
}

#[test]
fn examples_are_accepted() {
    let schemas = schemas();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            let name = format!("{} {}", path.display(), object["kind"]);
            let case = Case { name, object, old: None, refused: None };
            if schemas.contains_key(case.object["kind"].as_str().unwrap()) {
                assert_eq!(refusals(&schemas, &case), Vec::<String>::new(), "{}", case.name);
            }
        }
    }
}
