//! What an API server checks of an object besides the rules: types, bounds, enums, formats, unique keys. In its words.

use serde_json::Value;

/// Everything that is wrong with `value`, with the path of the field.
pub fn problems(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, path, &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let before = found.len();
    let mut say = |what: String| found.push(format!("{path}: {what}"));
    if let Some(wanted) = schema["type"].as_str()
        && wanted != type_of(value)
    {
        say(format!("must be of type {wanted}: \"{}\"", type_of(value)));
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        say(format!("Unsupported value: {value}"));
    }
    match value {
        Value::Number(number) => check_number(schema, number.as_f64().unwrap_or_default(), &mut say),
        Value::String(text) => check_text(schema, text, &mut say),
        Value::Array(items) => check_list(schema, items, &mut say),
        Value::Object(_) => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if value.get(name).is_none() {
                    say(format!("{name}: Required value"));
                }
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    if found.len() == before {
        check_within(schema, value, path, found);
    }
}

fn check_within(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    if let (Some(properties), Some(members)) = (schema["properties"].as_object(), value.as_object()) {
        for (name, member) in members {
            match properties.get(name) {
                Some(schema) => check(schema, member, &format!("{path}.{name}"), found),
                None if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
                None if path.is_empty() || path == ".metadata" => {}
                None => found.push(format!("unknown field \"{}.{name}\"", path.trim_start_matches('.'))),
            }
        }
    }
    if let (Some(items), Some(list)) = (schema.get("items"), value.as_array()) {
        for (index, item) in list.iter().enumerate() {
            check(items, item, &format!("{path}[{index}]"), found);
        }
    }
}

fn check_number(schema: &Value, number: f64, say: &mut impl FnMut(String)) {
    if schema["minimum"].as_f64().is_some_and(|least| number < least) {
        say(format!("should be greater than or equal to {}", schema["minimum"].as_f64().unwrap_or_default()));
    }
    if schema["maximum"].as_f64().is_some_and(|most| number > most) {
        say(format!("should be less than or equal to {}", schema["maximum"].as_f64().unwrap_or_default()));
    }
}

fn check_text(schema: &Value, text: &str, say: &mut impl FnMut(String)) {
    if schema["minLength"].as_u64().is_some_and(|least| (text.chars().count() as u64) < least) {
        say(format!("should be at least {} chars long", schema["minLength"]));
    }
    if schema["maxLength"].as_u64().is_some_and(|most| text.chars().count() as u64 > most) {
        say(format!("may not be more than {} bytes", schema["maxLength"]));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && !matches(pattern, text)
    {
        say(format!("should match '{pattern}'"));
    }
    if schema["format"] == "cidr" && text.parse::<ipnet::IpNet>().is_err() {
        say(format!("must be of type cidr: {text:?}"));
    }
}

fn check_list(schema: &Value, items: &[Value], say: &mut impl FnMut(String)) {
    if schema["minItems"].as_u64().is_some_and(|least| (items.len() as u64) < least) {
        say(format!("should have at least {} items", schema["minItems"]));
    }
    if schema["maxItems"].as_u64().is_some_and(|most| items.len() as u64 > most) {
        say(format!("must have at most {} items", schema["maxItems"]));
    }
    let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let identity = |item: &Value| match schema["x-kubernetes-list-type"].as_str() {
        Some("map") => Some(keys.iter().map(|key| item[*key].clone()).collect::<Vec<_>>()),
        Some("set") => Some(vec![item.clone()]),
        _ => None,
    };
    for (index, item) in items.iter().enumerate() {
        if identity(item)
            .is_some_and(|own| items[..index].iter().any(|other| identity(other).as_ref() == Some(&own)))
        {
            say(format!("Duplicate value: {item}"));
        }
    }
}

/// By the engine of CEL's `matches`, which is the only one at hand.
fn matches(pattern: &str, text: &str) -> bool {
    use cel::KubeCelExt as _;
    let mut context = cel::cel::Context::default().with_all();
    context.add_variable_from_value("text", text.to_owned());
    context.add_variable_from_value("pattern", pattern.to_owned());
    let program = cel::cel::Program::compile("text.matches(pattern)").expect("a program");
    program.execute(&context).expect("a regular expression") == cel::cel::Value::Bool(true)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
