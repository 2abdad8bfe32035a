//! What to do with a request: forward it to one of several groups, send the client elsewhere, or answer it.

use std::sync::Arc;

use bytes::Bytes;
use evenkeel_proxy_api::snapshot;

use crate::group::Group;
use crate::request::{RequestView, split_authority};

/// An action, ready for use.
#[derive(Clone, Debug)]
pub enum Action {
    /// Pass it to a target of one of some groups.
    Forward(Forward),
    /// Send the client elsewhere.
    Redirect(Redirect),
    /// Answer it here.
    FixedResponse(FixedResponse),
}

/// Groups and their shares.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Each with the sum of the weights up to and with its own. Those of weight 0 are left out.
    groups: Box<[(u32, Arc<Group>)]>,
}

impl Forward {
    /// Of groups and their weights.
    pub fn new(groups: impl IntoIterator<Item = (u16, Arc<Group>)>) -> Self {
        let mut sum = 0;
        let weighted = groups.into_iter().filter(|(weight, _)| *weight > 0);
        let groups = weighted.map(|(weight, group)| {
            sum += u32::from(weight);
            (sum, group)
        });
        Self { groups: groups.collect() }
    }

    /// Chooses a group by weight; none if all weigh nothing.
    #[inline]
    pub fn choose(&self, rng: &mut fastrand::Rng) -> Option<&Arc<Group>> {
        let (sum, last) = self.groups.last()?;
        if self.groups.len() == 1 {
            return Some(last);
        }
        let drawn = rng.u32(..*sum);
        self.groups.iter().find(|(up_to, _)| drawn < *up_to).map(|(_, group)| group)
    }

    /// Its groups, but for those of weight 0.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.iter().map(|(_, group)| group)
    }
}

/// An answer that needs no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedResponse {
    /// Its status.
    pub status: u16,
    /// Media type of the body.
    pub content_type: String,
    /// Its body.
    pub body: Bytes,
}

impl From<&snapshot::FixedResponse> for FixedResponse {
    fn from(response: &snapshot::FixedResponse) -> Self {
        let snapshot::FixedResponse { status_code, content_type, message_body } = response;
        Self { status: *status_code, content_type: content_type.clone(), body: message_body.clone().into() }
    }
}

/// Where to send the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    status: u16,
    protocol: Template,
    host: Template,
    port: Template,
    path: Template,
    query: Template,
}

impl From<&snapshot::Redirect> for Redirect {
    fn from(redirect: &snapshot::Redirect) -> Self {
        let snapshot::Redirect { status_code, protocol, host, port, path, query } = redirect;
        Self {
            status: *status_code,
            protocol: Template::new(protocol),
            host: Template::new(host),
            port: Template::new(port),
            path: Template::new(path),
            query: Template::new(query),
        }
    }
}

impl Redirect {
    /// 301 or 302.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The value of `Location` for a request that came by `scheme` (`http` or `https`).
    ///
    /// `#{port}` is the port that the client used, as `Host` has it: behind a node port that is not the listener's. A port
    /// that is the default of the protocol is left out. Without a host the location is relative.
    pub fn location(&self, request: &impl RequestView, scheme: &str) -> String {
        let (host, port) = split_authority(request.authority());
        let port = port.unwrap_or_else(|| default_port(scheme)).to_string();
        let own = Own {
            protocol: scheme,
            host,
            port: &port,
            path: request.path().trim_start_matches('/'),
            query: request.query(),
        };
        let host = self.host.expand(&own);
        let mut location = String::new();
        if !host.is_empty() {
            let protocol = self.protocol.expand(&own).to_ascii_lowercase();
            location.extend([&protocol, "://", &host]);
            let port = self.port.expand(&own);
            if port != default_port(&protocol).to_string() {
                location.extend([":", &port]);
            }
        }
        // One slash at most: a relative `//host` would be read as another host.
        location.push('/');
        location.push_str(self.path.expand(&own).trim_start_matches('/'));
        let query = self.query.expand(&own);
        if !query.is_empty() {
            location.extend(["?", &query]);
        }
        location
    }
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

/// The request's own parts.
struct Own<'r> {
    protocol: &'r str,
    host: &'r str,
    port: &'r str,
    path: &'r str,
    query: &'r str,
}

/// A text with places for the request's own parts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template(Box<[Piece]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Protocol,
    Host,
    Port,
    Path,
    Query,
}

const PLACES: [(&str, Piece); 5] = [
    ("#{protocol}", Piece::Protocol),
    ("#{host}", Piece::Host),
    ("#{port}", Piece::Port),
    ("#{path}", Piece::Path),
    ("#{query}", Piece::Query),
];

impl Template {
    fn new(mut text: &str) -> Self {
        let mut pieces = Vec::new();
        let first = |text: &str| {
            let places = PLACES.into_iter();
            places
                .filter_map(|(name, piece)| text.find(name).map(|at| (at, name.len(), piece)))
                .min_by_key(|place| place.0)
        };
        while let Some((at, length, piece)) = first(text) {
            pieces.push(Piece::Text(text.get(..at).unwrap_or_default().to_owned()));
            pieces.push(piece);
            text = text.get(at + length..).unwrap_or_default();
        }
        pieces.push(Piece::Text(text.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Self(pieces.into())
    }

    fn expand(&self, own: &Own<'_>) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Protocol => own.protocol,
            Piece::Host => own.host,
            Piece::Port => own.port,
            Piece::Path => own.path,
            Piece::Query => own.query,
        });
        pieces.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::Request;

    fn redirect(protocol: &str, host: &str, port: &str, path: &str, query: &str) -> Redirect {
        let [protocol, host, port, path, query] = [protocol, host, port, path, query].map(str::to_owned);
        Redirect::from(&snapshot::Redirect { status_code: 301, protocol, host, port, path, query })
    }

    #[test]
    fn locations_are_made_of_the_requests_own_parts() {
        let keep = ("#{protocol}", "#{host}", "#{port}", "/#{path}", "#{query}");
        for ((protocol, host, port, path, query), authority, expected) in [
            (keep, "shop.example.com", "http://shop.example.com/a/b?x=1"),
            (keep, "shop.example.com:30080", "http://shop.example.com:30080/a/b?x=1"),
            (keep, "shop.example.com:80", "http://shop.example.com/a/b?x=1"),
            (("HTTPS", "#{host}", "443", "/#{path}", "#{query}"), "shop:8080", "https://shop/a/b?x=1"),
            (("HTTPS", "#{host}", "8443", "/#{path}", "#{query}"), "shop", "https://shop:8443/a/b?x=1"),
            (("HTTP", "new.#{host}", "80", "/new/#{path}", ""), "shop", "http://new.shop/new/a/b"),
            (
                ("HTTP", "#{host}", "80", "/", "from=#{path}&#{query}"),
                "[::1]:80",
                "http://[::1]/?from=a/b&x=1",
            ),
            (keep, "", "/a/b?x=1"),
        ] {
            let request = Request { authority, path: "/a/b", query: "x=1", ..Request::default() };
            assert_eq!(redirect(protocol, host, port, path, query).location(&request, "http"), expected);
        }
    }

    #[test]
    fn a_path_of_many_slashes_does_not_lead_to_another_host() {
        let request = Request { authority: "", path: "//evil.example.com/x", ..Request::default() };
        let redirect = redirect("#{protocol}", "#{host}", "#{port}", "#{path}", "");
        assert_eq!(redirect.location(&request, "http"), "/evil.example.com/x");
    }

    #[test]
    fn groups_are_chosen_by_weight() {
        let groups = ["heavy", "none", "light"].map(|name| Arc::new(Group::new(name)));
        let forward = Forward::new([90, 0, 10].into_iter().zip(groups));
        let mut rng = fastrand::Rng::with_seed(7);
        let heavy = (0..10_000).filter(|_| forward.choose(&mut rng).unwrap().name() == "heavy").count();
        assert!((8_850..9_150).contains(&heavy), "{heavy}");
        assert!((0..1_000).all(|_| forward.choose(&mut rng).unwrap().name() != "none"));
    }

    #[test]
    fn groups_that_weigh_nothing_are_not_chosen() {
        let forward = Forward::new([(0, Arc::new(Group::new("none")))]);
        assert!(forward.choose(&mut fastrand::Rng::with_seed(7)).is_none());
    }
}
