//! Which rules may match a request at all, so that not every rule is tried: by its host and by the first segment of its
//! path, which are what rules differ in. What remains is tried in the order of priorities, as without an index.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Condition, Rule};
use crate::pattern::Start;
use crate::request::{RequestView, split_authority};

/// Places in the list of rules, in ascending order.
type Places = Vec<u32>;

/// The rules of a listener, by what a request must have to match them.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Those that require one of some hosts. In lower case.
    hosts: HashMap<Box<[u8]>, Segments>,
    /// Those that do not.
    rest: Segments,
}

/// Rules that agree in what they say of the host.
#[derive(Debug, Default)]
struct Segments {
    /// Those that require one of some first segments.
    segments: HashMap<Box<[u8]>, Places>,
    /// Those that do not.
    rest: Places,
}

impl Index {
    /// Of these rules.
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (place, rule) in (0..).zip(rules) {
            let segments = segments(rule);
            match hosts(rule) {
                Some(hosts) => {
                    for host in hosts {
                        index.hosts.entry(host).or_default().add(place, segments.as_deref());
                    }
                }
                None => index.rest.add(place, segments.as_deref()),
            }
        }
        index
    }

    /// The least place that a request may match and for which `matches`.
    #[inline]
    pub(super) fn find(&self, request: &impl RequestView, matches: impl Fn(u32) -> bool) -> Option<u32> {
        let segment = first_segment(request.path().as_bytes());
        let [of_segment, of_any] = self.rest.places(segment);
        if self.hosts.is_empty() {
            return least([of_segment, of_any, &[], &[]], matches);
        }
        let host = lower_case(split_authority(request.authority()).0.as_bytes());
        let [of_host_and_segment, of_host] =
            self.hosts.get(&*host).map_or([&[][..]; 2], |segments| segments.places(segment));
        least([of_segment, of_any, of_host_and_segment, of_host], matches)
    }
}

impl Segments {
    fn add(&mut self, place: u32, segments: Option<&[Box<[u8]>]>) {
        let Some(segments) = segments else { return self.rest.push(place) };
        for segment in segments {
            let places = self.segments.entry(segment.clone()).or_default();
            // Two of a rule's paths may begin alike.
            if places.last() != Some(&place) {
                places.push(place);
            }
        }
    }

    #[inline]
    fn places(&self, segment: &[u8]) -> [&[u32]; 2] {
        [self.segments.get(segment).map_or(&[][..], Vec::as_slice), &self.rest]
    }
}

/// The least place for which `matches`, of lists that are in ascending order.
#[inline]
fn least(mut lists: [&[u32]; 4], matches: impl Fn(u32) -> bool) -> Option<u32> {
    loop {
        let place = lists.iter().filter_map(|list| list.first()).min().copied()?;
        if matches(place) {
            return Some(place);
        }
        for list in &mut lists {
            if list.first() == Some(&place) {
                *list = list.get(1..).unwrap_or_default();
            }
        }
    }
}

/// Nearly every client sends a host in lower case: then nothing is copied.
fn lower_case(host: &[u8]) -> Cow<'_, [u8]> {
    let is_lower = !host.iter().any(u8::is_ascii_uppercase);
    if is_lower { Cow::Borrowed(host) } else { Cow::Owned(host.to_ascii_lowercase()) }
}

/// The bytes up to the second slash: `/api` of `/api/v1`.
fn first_segment(path: &[u8]) -> &[u8] {
    let end = path.iter().skip(1).position(|byte| *byte == b'/').map_or(path.len(), |at| at + 1);
    path.get(..end).unwrap_or_default()
}

/// The hosts of which a request must have one, if they can be listed.
fn hosts(rule: &Rule) -> Option<Vec<Box<[u8]>>> {
    let patterns = rule.conditions.iter().find_map(|condition| match condition {
        Condition::Host(patterns) => Some(patterns),
        _ => None,
    })?;
    let host = |Start { bytes, is_all }| is_all.then_some(bytes);
    patterns.iter().map(|pattern| host(pattern.start())).collect()
}

/// The first segments of which a request must have one, if they can be listed.
fn segments(rule: &Rule) -> Option<Vec<Box<[u8]>>> {
    let patterns = rule.conditions.iter().find_map(|condition| match condition {
        Condition::Path(patterns) => Some(patterns),
        _ => None,
    })?;
    let segment = |Start { bytes, is_all }: Start| {
        let segment = first_segment(&bytes);
        // Without the slash behind it there may be more of the segment.
        (is_all || segment.len() < bytes.len()).then(|| segment.into())
    };
    patterns.iter().map(|pattern| segment(pattern.start())).collect()
}

#[cfg(test)]
mod tests {
    use evenkeel_proxy_api::snapshot;
    use proptest::prelude::*;

    use super::*;
    use crate::action::{Action, FixedResponse};
    use crate::request::tests::Request;

    fn rule(paths: &[String], hosts: &[String]) -> Rule {
        let mut conditions = Vec::new();
        if !paths.is_empty() {
            conditions.push(snapshot::Condition::Path { values: paths.to_vec() });
        }
        if !hosts.is_empty() {
            conditions.push(snapshot::Condition::Host { values: hosts.to_vec() });
        }
        let nothing = FixedResponse { status: 200, content_type: String::new(), body: bytes::Bytes::new() };
        Rule::new(1, &conditions, Action::FixedResponse(nothing))
    }

    /// How many rules are tried until one matches or none is left.
    fn tried(rules: &[Rule], request: &Request) -> usize {
        let count = std::cell::Cell::new(0);
        Index::new(rules).find(request, |place| {
            count.set(count.get() + 1);
            rules[place as usize].matches(request)
        });
        count.get()
    }

    #[test]
    fn of_many_rules_few_are_tried() {
        let by_path: Vec<Rule> = (0..1_000).map(|i| rule(&[format!("/service-{i}/*")], &[])).collect();
        let request = Request { path: "/service-700/items", ..Request::default() };
        assert_eq!(tried(&by_path, &request), 1);
        let by_host: Vec<Rule> = (0..1_000).map(|i| rule(&[], &[format!("S{i}.example.com")])).collect();
        let request = Request { authority: "s700.Example.com:8080", ..Request::default() };
        assert_eq!(tried(&by_host, &request), 1);
        let by_both: Vec<Rule> =
            (0..1_000).map(|i| rule(&[format!("/s{i}")], &["shop.example.com".to_owned()])).collect();
        assert_eq!(tried(&by_both, &Request { path: "/s999", ..Request::default() }), 1);
        assert_eq!(tried(&by_both, &Request { path: "/s1000", ..Request::default() }), 0);
    }

    proptest! {
        #[test]
        fn the_rule_that_is_found_is_the_first_one_that_matches(
            rules in proptest::collection::vec(
                (
                    proptest::collection::vec("/?[ab]{0,2}[/?*]{0,2}[ab]?(\\\\[/*])?[/*]?", 0..3),
                    proptest::collection::vec("[abAB*?]{1,2}(\\\\[ab])?", 0..3),
                ),
                0..12,
            ),
            path in "/?[ab]{0,2}[/*]{0,2}[ab]{0,2}/?",
            authority in "[abAB]{0,3}(:80)?",
        ) {
            let rules: Vec<Rule> = rules.iter().map(|(paths, hosts)| rule(paths, hosts)).collect();
            let request = Request { path: path.leak(), authority: authority.leak(), ..Request::default() };
            let found = Index::new(&rules).find(&request, |place| rules[place as usize].matches(&request));
            let first = rules.iter().position(|rule| rule.matches(&request));
            prop_assert_eq!(found.map(|place| place as usize), first);
        }
    }
}
