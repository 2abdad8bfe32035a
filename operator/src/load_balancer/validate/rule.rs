//! Rules: conditions and actions.

use evenkeel_crds::v1alpha1::{
    Action, Condition, ContentType, FixedResponse, Forward, Patterns, Redirect, Rule,
};
use evenkeel_proxy_api::snapshot;

use super::limits;
use crate::validation::Problems;

/// At most so many values in all conditions of one rule.
const MAX_VALUES: usize = 5;
/// A pattern has at most so many characters.
const MAX_PATTERN: usize = 128;

/// The rule as proxies get it; absent when there is no sense in it, and then there is a problem of `field`.
pub fn rule(problems: &mut Problems, field: &str, rule: &Rule) -> Option<snapshot::Rule> {
    problems.range(format!("{field}.priority"), rule.priority, 1..=50_000);
    problems.require(!rule.conditions.is_empty(), format!("{field}.conditions"), "give at least one");
    let values: usize = rule.conditions.iter().map(count).sum();
    problems.require(
        values <= MAX_VALUES,
        format!("{field}.conditions"),
        format!("{values} values are more than {MAX_VALUES}; make several rules"),
    );
    let conditions = rule.conditions.iter().enumerate();
    let conditions = conditions
        .filter_map(|(index, condition)| {
            self::condition(problems, &format!("{field}.conditions[{index}]"), condition)
        })
        .collect();
    let limits = limits::of_rule(problems, &format!("{field}.limits"), rule);
    let action = action(problems, &format!("{field}.action"), &rule.action)?;
    Some(snapshot::Rule { priority: rule.priority, conditions, action, limits })
}

fn count(condition: &Condition) -> usize {
    let Condition { path, host, header, method, query, source_ip } = condition;
    let patterns =
        |patterns: &Option<Patterns>| patterns.as_ref().map_or(0, |patterns| patterns.values.len());
    patterns(path)
        + patterns(host)
        + header.as_ref().map_or(0, |header| header.values.len())
        + patterns(method)
        + query.as_ref().map_or(0, |query| query.pairs.len())
        + source_ip.as_ref().map_or(0, |source| source.values.len())
}

fn condition(problems: &mut Problems, field: &str, condition: &Condition) -> Option<snapshot::Condition> {
    if count(condition) == 0 {
        problems.add(field, "give at least one value");
        return None;
    }
    let Condition { path, host, header, method, query, source_ip } = condition.clone();
    let mut found: Vec<snapshot::Condition> = [
        path.map(|Patterns { values }| snapshot::Condition::Path { values }),
        host.map(|Patterns { values }| snapshot::Condition::Host { values }),
        header.map(|header| snapshot::Condition::Header { name: header.name, values: header.values }),
        method.map(|Patterns { values }| snapshot::Condition::Method { values }),
        query.map(|query| {
            let pairs = query.pairs.into_iter();
            let pairs = pairs.map(|pair| snapshot::QueryPair { key: pair.key, value: pair.value }).collect();
            snapshot::Condition::Query { pairs }
        }),
        source_ip.map(|source| snapshot::Condition::SourceIp { values: source.values }),
    ]
    .into_iter()
    .flatten()
    .collect();
    if found.len() > 1 {
        problems
            .add(field, "give exactly one of path, host, header, method, query and sourceIp; make two of it");
    }
    let found = found.pop()?;
    patterns_fit(problems, field, &found);
    Some(found)
}

fn patterns_fit(problems: &mut Problems, field: &str, condition: &snapshot::Condition) {
    use snapshot::Condition as Of;
    let (kind, values) = match condition {
        Of::Path { values } => ("path", values),
        Of::Host { values } => ("host", values),
        Of::Method { values } => ("method", values),
        Of::Header { name, values } => {
            problems.require(
                is_token(name),
                format!("{field}.header.name"),
                format!("{name:?} is no header's name"),
            );
            ("header", values)
        }
        Of::Query { pairs } => return pairs_fit(problems, field, pairs),
        Of::SourceIp { values: _ } => return,
    };
    for (index, value) in values.iter().enumerate() {
        fits(problems, format!("{field}.{kind}.values[{index}]"), value);
    }
}

fn pairs_fit(problems: &mut Problems, field: &str, pairs: &[snapshot::QueryPair]) {
    for (index, snapshot::QueryPair { key, value }) in pairs.iter().enumerate() {
        let field = format!("{field}.query.pairs[{index}]");
        if let Some(key) = key {
            fits(problems, format!("{field}.key"), key);
        }
        fits(problems, format!("{field}.value"), value);
    }
}

fn fits(problems: &mut Problems, field: String, pattern: &str) {
    problems.require(
        (1..=MAX_PATTERN).contains(&pattern.chars().count()),
        field,
        format!("{pattern:?} has not from 1 to {MAX_PATTERN} characters"),
    );
}

/// A token of RFC 9110.
fn is_token(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=40).contains(&name.len()) && name.bytes().all(allowed)
}

/// The action as proxies get it; absent when there is none, and then there is a problem.
pub fn action(problems: &mut Problems, field: &str, action: &Action) -> Option<snapshot::Action> {
    match action {
        Action { forward: Some(forward), redirect: None, fixed_response: None } => {
            Some(self::forward(problems, field, forward))
        }
        Action { forward: None, redirect: Some(redirect), fixed_response: None } => {
            Some(self::redirect(problems, field, redirect))
        }
        Action { forward: None, redirect: None, fixed_response: Some(response) } => {
            Some(fixed_response(problems, field, response))
        }
        _ => {
            problems.add(field, "give exactly one of forward, redirect and fixedResponse");
            None
        }
    }
}

fn forward(problems: &mut Problems, field: &str, forward: &Forward) -> snapshot::Action {
    let field = format!("{field}.forward.targetGroups");
    problems.range(format!("{field} (how many)"), forward.target_groups.len(), 1..=5);
    problems.unique(&field, forward.target_groups.iter().map(|group| &group.name));
    for group in &forward.target_groups {
        problems.range(format!("{field}[{}].weight", group.name), group.weight, 0..=999);
    }
    let groups = forward.target_groups.iter();
    let target_groups = groups
        .map(|group| snapshot::WeightedTargetGroup { name: group.name.clone(), weight: group.weight })
        .collect();
    snapshot::Action::Forward { target_groups }
}

fn redirect(problems: &mut Problems, field: &str, redirect: &Redirect) -> snapshot::Action {
    let field = format!("{field}.redirect");
    let Redirect { status_code, protocol, host, port, path, query } = redirect.clone();
    problems.require(matches!(status_code, 301 | 302), format!("{field}.statusCode"), "use 301 or 302");
    problems.require(
        ["HTTP", "HTTPS", "#{protocol}"].contains(&protocol.as_str()),
        format!("{field}.protocol"),
        "use HTTP, HTTPS or #{protocol}",
    );
    problems.require(!host.is_empty(), format!("{field}.host"), "use a host name or #{host}");
    problems.require(
        port == "#{port}" || port.parse::<u16>().is_ok_and(|port| port > 0),
        format!("{field}.port"),
        "use a number from 1 to 65535 in quotes, or #{port}",
    );
    problems.require(path.starts_with('/'), format!("{field}.path"), "begin with a slash");
    let same = (protocol.as_str(), host.as_str(), port.as_str(), path.as_str())
        == ("#{protocol}", "#{host}", "#{port}", "/#{path}");
    problems.require(
        !(same && query == "#{query}"),
        &field,
        "this redirects to itself; change at least one of protocol, host, port, path and query",
    );
    snapshot::Action::Redirect(snapshot::Redirect { status_code, protocol, host, port, path, query })
}

fn fixed_response(problems: &mut Problems, field: &str, response: &FixedResponse) -> snapshot::Action {
    let field = format!("{field}.fixedResponse");
    problems.require(
        matches!(response.status_code, 200..=299 | 400..=599),
        format!("{field}.statusCode"),
        "use 2XX, 4XX or 5XX",
    );
    let length = response.message_body.chars().count();
    problems.require(
        length <= 1024,
        format!("{field}.messageBody"),
        format!("{length} characters are more than 1024"),
    );
    let content_type = match response.content_type {
        ContentType::TextPlain => "text/plain",
        ContentType::TextCss => "text/css",
        ContentType::TextHtml => "text/html",
        ContentType::ApplicationJavascript => "application/javascript",
        ContentType::ApplicationJson => "application/json",
    };
    snapshot::Action::FixedResponse(snapshot::FixedResponse {
        status_code: response.status_code,
        content_type: content_type.to_owned(),
        message_body: response.message_body.clone(),
    })
}
