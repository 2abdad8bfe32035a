//! From the types to the CustomResourceDefinitions that are installed.
//!
//! What the derives produce is adapted where the API server is stricter than JSON Schema, or reads differently.

use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::v1alpha1::{LoadBalancer, ReplicaService, TargetGroup};

/// The definitions of all kinds, as they are installed.
///
/// # Errors
/// When a definition cannot be expressed as JSON, which would be a mistake in the types.
pub fn all() -> Result<Vec<Value>, serde_json::Error> {
    Ok(vec![
        // 63 bytes may a label's value have, 50 leave room for what the names of derived objects add.
        adapt(serde_json::to_value(LoadBalancer::crd())?, 50),
        adapt(serde_json::to_value(TargetGroup::crd())?, 63),
        adapt(serde_json::to_value(ReplicaService::crd())?, 50),
    ])
}

/// The schema of a definition's only version.
pub fn schema(definition: &Value) -> Option<&Value> {
    definition.pointer(SCHEMA)
}

const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";

fn adapt(mut definition: Value, longest_name: u8) -> Value {
    if let Some(schema) = definition.pointer_mut(SCHEMA) {
        adapt_schema(schema);
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            let name = json!({ "type": "string", "maxLength": longest_name });
            properties.insert("metadata".into(), json!({ "type": "object", "properties": { "name": name } }));
        }
    }
    definition
}

/// Adapts a schema and all within.
fn adapt_schema(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            drop_formats_of_rust(keywords);
            drop_null(keywords);
            unwrap_lines(keywords);
            write_zero_in_seconds(keywords);
            keywords.values_mut().for_each(adapt_schema);
        }
        Value::Array(items) => items.iter_mut().for_each(adapt_schema),
        _ => {}
    }
}

/// `kubectl` warns of formats that Kubernetes does not know, such as `uint16`; the bounds say the same.
fn drop_formats_of_rust(keywords: &mut Map<String, Value>) {
    if keywords.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        keywords.remove("format");
    }
}

/// A member that is absent is left out: `null` would satisfy `has()` in the rules and mean nothing to us.
fn drop_null(keywords: &mut Map<String, Value>) {
    if keywords.get("nullable") == Some(&Value::Bool(true)) {
        keywords.remove("nullable");
    }
}

/// Doc comments are wrapped for the editor; `kubectl explain` wraps for the terminal.
fn unwrap_lines(keywords: &mut Map<String, Value>) {
    if let Some(Value::String(text)) = keywords.get_mut("description") {
        let paragraphs: Vec<String> =
            text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
        *text = paragraphs.join("\n\n");
    }
}

/// Rust writes no time as `0ns`.
fn write_zero_in_seconds(keywords: &mut Map<String, Value>) {
    if let Some(default) = keywords.get_mut("default") {
        let inner = if default.is_object() { default.get_mut("stabilization") } else { Some(default) };
        if let Some(inner) = inner.filter(|inner| **inner == "0ns") {
            *inner = "0s".into();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn null_unknown_formats_and_wrapped_lines_are_gone_at_every_depth() {
        let mut schema = json!({
            "description": "One\nsentence.\n\nAnother.",
            "properties": {
                "port": { "type": "integer", "format": "uint16", "nullable": true },
                "list": { "items": { "format": "int32", "description": "a\nb" } },
            },
        });
        adapt_schema(&mut schema);
        assert_eq!(
            schema,
            json!({
                "description": "One sentence.\n\nAnother.",
                "properties": {
                    "port": { "type": "integer" },
                    "list": { "items": { "format": "int32", "description": "a b" } },
                },
            })
        );
    }

    #[test]
    fn the_length_of_names_is_bounded_by_what_is_derived_from_them() {
        for definition in all().unwrap() {
            let bound =
                schema(&definition).unwrap().pointer("/properties/metadata/properties/name/maxLength");
            assert!(bound.and_then(Value::as_u64).unwrap() <= 63, "{definition}");
        }
    }
}
