//! The routing table: what each listener does with what. Immutable; made once for each version and then swapped.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_proxy_api::report::{Rejection, ResourceKind};
use evenkeel_proxy_api::snapshot::{self, Limits, ListenerProtocol, TargetProtocol, Version};
use evenkeel_proxy_api::validate;
use ipnet::IpNet;

use crate::action::{Action, Forward};
use crate::group::Group;
use crate::route::{Rule, Rules};

/// The listeners of one version.
#[derive(Debug, Default)]
pub struct Table {
    /// The version of the snapshot.
    pub version: Version,
    /// By name.
    pub listeners: BTreeMap<String, Arc<Listener>>,
}

/// A listener, ready for use.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Port on all addresses.
    pub port: u16,
    /// What is spoken there.
    pub protocol: ListenerProtocol,
    /// A client connection without a byte for so long is closed.
    pub idle_timeout: Duration,
    /// What it takes at most.
    pub limits: Limits,
    /// What is done with which requests.
    pub rules: Rules,
    /// What to do when no rule matches.
    pub default_action: Action,
    allowed_sources: Box<[IpNet]>,
    /// What it was made of, to see whether it changed.
    source: snapshot::Listener,
}

impl Listener {
    /// Whether a client of this address may connect.
    pub fn allows(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.allowed_sources.is_empty()
            || self.allowed_sources.iter().any(|network| network.contains(&source))
    }

    /// What it was made of.
    pub fn source(&self) -> &snapshot::Listener {
        &self.source
    }

    /// The groups that it forwards to.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        let actions = self.rules.iter().map(|rule| &rule.action).chain([&self.default_action]);
        let forwards = actions
            .filter_map(|action| if let Action::Forward(forward) = action { Some(forward) } else { None });
        forwards.flat_map(Forward::groups)
    }

    /// Whether it would come out the same from this.
    fn is_made_of(&self, source: &snapshot::Listener, groups: &Groups) -> bool {
        let same = |group: &Arc<Group>| {
            groups.get(group.name()).is_some_and(|known| Arc::ptr_eq(known, group))
                && suits(self.protocol, group.protocol())
        };
        self.source == *source && self.groups().all(same)
    }
}

/// Whether a listener can forward to such targets.
fn suits(listener: ListenerProtocol, targets: TargetProtocol) -> bool {
    match (listener, targets) {
        (ListenerProtocol::Http, TargetProtocol::Http) | (ListenerProtocol::Tcp, TargetProtocol::Tcp) => true,
        (ListenerProtocol::Http, TargetProtocol::Tcp) | (ListenerProtocol::Tcp, TargetProtocol::Http) => {
            false
        }
    }
}

/// The groups that a table may refer to.
pub type Groups = BTreeMap<String, Arc<Group>>;

impl Table {
    /// Makes the table of a snapshot. A listener that cannot be made is rejected, and stays as it was.
    pub fn build(snapshot: &snapshot::Snapshot, groups: &Groups, previous: &Self) -> (Self, Vec<Rejection>) {
        let mut table = Self { version: snapshot.version, listeners: BTreeMap::new() };
        let mut rejections = Vec::new();
        for (name, source) in &snapshot.listeners {
            let known = previous.listeners.get(name);
            let unchanged = known.filter(|known| known.is_made_of(source, groups)).cloned();
            let built = unchanged
                .map_or_else(|| Builder { name, listener: source, groups }.build().map(Arc::new), Ok);
            let listener = match built {
                Ok(listener) => Some(listener),
                Err(reason) => {
                    rejections.push(Rejection { kind: ResourceKind::Listener, name: name.clone(), reason });
                    known.cloned()
                }
            };
            table.listeners.extend(listener.map(|listener| (name.clone(), listener)));
        }
        (table, rejections)
    }
}

/// What a listener is made with.
struct Builder<'s> {
    name: &'s str,
    listener: &'s snapshot::Listener,
    groups: &'s Groups,
}

impl Builder<'_> {
    fn build(&self) -> Result<Listener, String> {
        validate::listener(self.listener).map_err(|invalid| invalid.to_string())?;
        let snapshot::Listener {
            port,
            protocol,
            allowed_sources,
            idle_timeout,
            limits,
            rules,
            default_action,
        } = self.listener;
        let mut ordered: Vec<_> = rules.iter().collect();
        ordered.sort_by_key(|rule| rule.priority);
        let rules = ordered.into_iter().map(|rule| {
            let action =
                self.action(&rule.action).map_err(|reason| format!("rule {}: {reason}", rule.priority))?;
            let body_bytes = rule.limits.body_bytes.or(limits.body_bytes);
            Ok(Rule::new(rule.priority, &rule.conditions, action).taking(body_bytes))
        });
        Ok(Listener {
            name: self.name.to_owned(),
            port: *port,
            protocol: *protocol,
            idle_timeout: *idle_timeout,
            limits: *limits,
            rules: Rules::new(rules.collect::<Result<_, String>>()?),
            default_action: self
                .action(default_action)
                .map_err(|reason| format!("defaultAction: {reason}"))?,
            allowed_sources: allowed_sources.clone().into(),
            source: self.listener.clone(),
        })
    }

    fn action(&self, action: &snapshot::Action) -> Result<Action, String> {
        match action {
            snapshot::Action::Forward { target_groups } => {
                let groups =
                    target_groups.iter().map(|target| Ok((target.weight, self.group(&target.name)?)));
                Ok(Action::Forward(Forward::new(groups.collect::<Result<Vec<_>, String>>()?)))
            }
            snapshot::Action::Redirect(redirect) => Ok(Action::Redirect(redirect.into())),
            snapshot::Action::FixedResponse(response) => Ok(Action::FixedResponse(response.into())),
        }
    }

    fn group(&self, name: &str) -> Result<Arc<Group>, String> {
        let group = self.groups.get(name).ok_or_else(|| format!("there is no target group {name}"))?;
        if suits(self.listener.protocol, group.protocol()) {
            return Ok(Arc::clone(group));
        }
        Err(match self.listener.protocol {
            ListenerProtocol::Http => {
                format!("an HTTP listener cannot forward to {name}, whose targets speak TCP")
            }
            ListenerProtocol::Tcp => {
                format!("a TCP listener cannot forward to {name}, whose targets speak HTTP")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Listener {
        /// An HTTP listener with these rules.
        pub(crate) fn for_tests(rules: Vec<Rule>, default_action: Action) -> Self {
            let source = serde_saphyr::from_str(
                "{port: 80, defaultAction: {fixedResponse: {statusCode: 404, contentType: x}}}",
            );
            Self {
                name: "http".into(),
                port: 80,
                protocol: ListenerProtocol::Http,
                idle_timeout: Duration::from_secs(60),
                limits: Limits::default(),
                rules: Rules::new(rules.into()),
                default_action,
                allowed_sources: Box::default(),
                source: source.unwrap(),
            }
        }
    }
}
