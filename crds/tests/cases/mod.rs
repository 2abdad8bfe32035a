//! The tables of accepted and refused objects, `*.yaml` beside this file. They are checked by `tests/validation.rs`
//! without a cluster, and by the end-to-end tests against a real API server.
//!
//! Each table has a `base`, an object that is accepted, and `cases`. A case changes the base by a JSON merge patch
//! (RFC 7386: objects are merged, `null` removes, lists are replaced), and says what must become of it.

#![allow(clippy::expect_used, reason = "a table that cannot be read is a test that fails")]

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

/// One object and what must become of it.
#[derive(Debug)]
pub struct Case {
    /// What it is about, in a few words.
    pub name: String,
    /// The object that is applied.
    pub object: Value,
    /// What is there before; absent when the object is new.
    pub old: Option<Value>,
    /// Words of the refusal; absent when the object is accepted.
    pub refused: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    base: Value,
    cases: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    change: Value,
    /// A change of the base to what is there before.
    before: Option<Value>,
    refused: Option<String>,
}

/// Every case of every table, the bases included.
///
/// # Panics
/// When a table cannot be read: these are tests.
pub fn all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|root| root.join("crds/tests/cases"));
    let folder = folder.into_iter().find(|folder| folder.is_dir()).expect("crds/tests/cases");
    let mut cases = Vec::new();
    for kind in ["load-balancer", "target-group", "replica-service"] {
        let text = std::fs::read_to_string(folder.join(format!("{kind}.yaml"))).expect(kind);
        let table: Table = serde_saphyr::from_str(&text).expect(kind);
        let base =
            Row { name: format!("{kind}: the base"), change: Value::Null, before: None, refused: None };
        cases.extend(std::iter::once(base).chain(table.cases).map(|row| case(kind, &table.base, row)));
    }
    cases.push(rules(&[500, 500], None));
    cases.push(rules(&[500, 501], Some("a load balancer has at most 1000 rules, all listeners together")));
    cases
}

/// A load balancer whose listeners have so many rules. Written by hand it would fill pages.
fn rules(numbers: &[u32], refused: Option<&str>) -> Case {
    let action = json!({ "forward": { "targetGroups": [{ "name": "shop" }] } });
    let rule = |priority| json!({ "priority": priority, "conditions": [{ "path": { "values": ["/*"] } }], "action": action });
    let listener = |(index, number): (usize, &u32)| {
        let rules: Vec<Value> = (1..=*number).map(rule).collect();
        json!({ "name": format!("l{index}"), "port": 80 + index, "rules": rules, "defaultAction": action })
    };
    let listeners: Vec<Value> = numbers.iter().enumerate().map(listener).collect();
    Case {
        name: format!("load-balancer: listeners with {numbers:?} rules"),
        object: json!({
            "apiVersion": "evenkeel.dev/v1alpha1",
            "kind": "LoadBalancer",
            "metadata": { "name": "rules" },
            "spec": { "listeners": listeners },
        }),
        old: None,
        refused: refused.map(str::to_owned),
    }
}

fn case(kind: &str, base: &Value, row: Row) -> Case {
    Case {
        name: format!("{kind}: {}", row.name),
        object: changed(base, &row.change),
        old: row.before.map(|before| changed(base, &before)),
        refused: row.refused,
    }
}

fn changed(base: &Value, change: &Value) -> Value {
    let mut object = base.clone();
    if !change.is_null() {
        merge(&mut object, change);
    }
    object
}

fn merge(target: &mut Value, change: &Value) {
    let Value::Object(changes) = change else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(members) = target.as_object_mut() else { return };
    for (name, change) in changes {
        if change.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), change);
        }
    }
}
