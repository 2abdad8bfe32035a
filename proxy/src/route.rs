//! Which action a request meets: that of the first rule whose conditions all hold.

use evenkeel_proxy_api::snapshot;
use ipnet::IpNet;

use crate::action::Action;
use crate::pattern::{Case, Pattern};
use crate::request::{RequestView, split_authority};
use crate::table::Listener;

mod index;

use index::Index;

/// The rules of a listener.
#[derive(Debug)]
pub struct Rules {
    /// Lowest priority first.
    rules: Box<[Rule]>,
    index: Index,
}

/// A rule, ready for use.
#[derive(Clone, Debug)]
pub struct Rule {
    /// From 1 to 50000.
    pub priority: u32,
    /// The cheapest first.
    conditions: Box<[Condition]>,
    /// What to do with a request that matches.
    pub action: Action,
    /// Most bytes of its body; none for any number.
    body_bytes: Option<u64>,
}

/// What a request met.
#[derive(Clone, Copy, Debug)]
pub struct Route<'t> {
    /// What to do.
    pub action: &'t Action,
    /// The priority of the rule that matched; none when the default action is meant.
    pub priority: Option<u32>,
    /// Most bytes of the request's body; none for any number.
    pub body_bytes: Option<u64>,
}

/// Finds what to do with a request.
#[inline]
pub fn route<'t>(listener: &'t Listener, request: &impl RequestView) -> Route<'t> {
    match listener.rules.find(request) {
        Some(rule) => {
            Route { action: &rule.action, priority: Some(rule.priority), body_bytes: rule.body_bytes }
        }
        None => {
            Route { action: &listener.default_action, priority: None, body_bytes: listener.limits.body_bytes }
        }
    }
}

impl Rules {
    /// These, lowest priority first.
    pub fn new(rules: Box<[Rule]>) -> Self {
        Self { index: Index::new(&rules), rules }
    }

    /// Lowest priority first.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The first that matches.
    #[inline]
    fn find(&self, request: &impl RequestView) -> Option<&Rule> {
        let rule = |place: u32| self.rules.get(place as usize);
        let place =
            self.index.find(request, |place| rule(place).is_some_and(|rule| rule.matches(request)))?;
        rule(place)
    }
}

impl Rule {
    /// Compiles a rule's conditions.
    pub fn new(priority: u32, conditions: &[snapshot::Condition], action: Action) -> Self {
        let mut conditions: Box<[_]> = conditions.iter().map(Condition::new).collect();
        conditions.sort_by_key(Condition::cost);
        Self { priority, conditions, action, body_bytes: None }
    }

    /// The same, for bodies up to so many bytes.
    #[must_use]
    pub fn taking(self, body_bytes: Option<u64>) -> Self {
        Self { body_bytes, ..self }
    }

    #[inline]
    fn matches(&self, request: &impl RequestView) -> bool {
        self.conditions.iter().all(|condition| condition.holds(request))
    }
}

#[derive(Clone, Debug)]
enum Condition {
    Method(Box<[String]>),
    Path(Box<[Pattern]>),
    Host(Box<[Pattern]>),
    SourceIp(Box<[IpNet]>),
    Header { name: String, values: Box<[Pattern]> },
    Query(Box<[Pair]>),
}

/// A pair of a query string; any key when there is none.
#[derive(Clone, Debug)]
struct Pair {
    key: Option<Pattern>,
    value: Pattern,
}

impl Condition {
    fn new(condition: &snapshot::Condition) -> Self {
        let patterns = |values: &[String], case| {
            values.iter().map(|value| Pattern::new(value, case)).collect::<Box<[_]>>()
        };
        match condition {
            snapshot::Condition::Method { values } => Self::Method(values.clone().into()),
            snapshot::Condition::Path { values } => Self::Path(patterns(values, Case::Sensitive)),
            snapshot::Condition::Host { values } => Self::Host(patterns(values, Case::Insensitive)),
            snapshot::Condition::SourceIp { values } => Self::SourceIp(values.clone().into()),
            snapshot::Condition::Header { name, values } => {
                Self::Header { name: name.to_ascii_lowercase(), values: patterns(values, Case::Insensitive) }
            }
            snapshot::Condition::Query { pairs } => Self::Query(pairs.iter().map(Pair::new).collect()),
        }
    }

    fn cost(&self) -> u8 {
        match self {
            Self::Method(_) => 0,
            Self::Path(_) => 1,
            Self::Host(_) => 2,
            Self::SourceIp(_) => 3,
            Self::Header { .. } => 4,
            Self::Query(_) => 5,
        }
    }

    #[inline]
    fn holds(&self, request: &impl RequestView) -> bool {
        match self {
            Self::Method(methods) => methods.iter().any(|method| method == request.method()),
            Self::Path(patterns) => any(patterns, request.path().as_bytes()),
            Self::Host(patterns) => any(patterns, split_authority(request.authority()).0.as_bytes()),
            Self::SourceIp(networks) => {
                let source = request.source().to_canonical();
                networks.iter().any(|network| network.contains(&source))
            }
            Self::Header { name, values } => request.header(name).any(|value| any(values, value)),
            Self::Query(pairs) => {
                let mut own = request.query().split('&').filter(|pair| !pair.is_empty());
                own.any(|own| pairs.iter().any(|pair| pair.matches(own)))
            }
        }
    }
}

impl Pair {
    fn new(pair: &snapshot::QueryPair) -> Self {
        Self {
            key: pair.key.as_deref().map(|key| Pattern::new(key, Case::Insensitive)),
            value: Pattern::new(&pair.value, Case::Insensitive),
        }
    }

    /// Compares as written: percent-encoding is not decoded.
    fn matches(&self, own: &str) -> bool {
        let (key, value) = own.split_once('=').unwrap_or((own, ""));
        self.value.matches(value.as_bytes())
            && self.key.as_ref().is_none_or(|want| want.matches(key.as_bytes()))
    }
}

#[inline]
fn any(patterns: &[Pattern], text: &[u8]) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;
    use crate::action::FixedResponse;
    use crate::request::tests::Request;

    fn condition(yaml: &str) -> snapshot::Condition {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn answer(status: u16) -> Action {
        Action::FixedResponse(FixedResponse {
            status,
            content_type: String::new(),
            body: bytes::Bytes::new(),
        })
    }

    fn request() -> Request {
        Request {
            method: "POST",
            path: "/api/v1/users",
            query: "v=2&Debug=Yes&flag",
            authority: "Shop.Example.com:8080",
            headers: vec![("x-beta", b"0"), ("x-beta", b"One"), ("x-bytes", b"\xff\xfe")],
            source: IpAddr::V6(Ipv6Addr::from_bits(0xffff_0a01_0203)),
        }
    }

    #[test]
    fn conditions_hold_or_not() {
        for (yaml, expected) in [
            ("path: {values: [/api/*]}", true),
            ("path: {values: [/API/*]}", false),
            ("path: {values: [/x, /api/v?/users]}", true),
            ("host: {values: ['*.example.COM']}", true),
            ("host: {values: [example.com]}", false),
            ("method: {values: [GET, POST]}", true),
            ("method: {values: [post]}", false),
            ("header: {name: X-Beta, values: [one]}", true),
            ("header: {name: X-Beta, values: [two]}", false),
            ("header: {name: X-None, values: ['*']}", false),
            ("header: {name: X-Bytes, values: ['??']}", true),
            ("query: {pairs: [{key: v, value: '2'}]}", true),
            ("query: {pairs: [{key: debug, value: y*}]}", true),
            ("query: {pairs: [{value: '2'}]}", true),
            ("query: {pairs: [{key: flag, value: ''}]}", true),
            ("query: {pairs: [{key: v, value: '3'}]}", false),
            ("sourceIp: {values: [10.0.0.0/8]}", true),
            ("sourceIp: {values: [192.168.0.0/16]}", false),
        ] {
            assert_eq!(Condition::new(&condition(yaml)).holds(&request()), expected, "{yaml}");
        }
    }

    #[test]
    fn all_conditions_of_a_rule_must_hold() {
        let path = condition("path: {values: [/api/*]}");
        let beta = condition("header: {name: X-Beta, values: [two]}");
        assert!(Rule::new(1, std::slice::from_ref(&path), answer(200)).matches(&request()));
        assert!(!Rule::new(1, &[path, beta], answer(200)).matches(&request()));
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_the_default_action_otherwise() {
        let rule = |priority, path: &str, status| {
            Rule::new(priority, &[condition(&format!("path: {{values: ['{path}']}}"))], answer(status))
        };
        let rules = vec![rule(10, "/api/v1/*", 201), rule(20, "/api/*", 202), rule(30, "/img/*", 203)];
        let listener = Listener::for_tests(rules, answer(404));
        for (path, priority, status) in [
            ("/api/v1/x", Some(10), 201),
            ("/api/x", Some(20), 202),
            ("/img/x", Some(30), 203),
            ("/", None, 404),
        ] {
            let found = route(&listener, &Request { path, ..Request::default() });
            assert_eq!(found.priority, priority);
            assert!(matches!(found.action, Action::FixedResponse(response) if response.status == status));
        }
    }
}
