//! The core's view of a request that Pingora has parsed.

use std::net::IpAddr;

use http::header;
use pingora_http::RequestHeader;

use crate::request::RequestView;

/// A request and where it came from.
pub(super) struct View<'a> {
    pub(super) head: &'a RequestHeader,
    pub(super) source: IpAddr,
}

impl RequestView for View<'_> {
    fn method(&self) -> &str {
        self.head.method.as_str()
    }

    fn path(&self) -> &str {
        self.head.uri.path()
    }

    fn query(&self) -> &str {
        self.head.uri.query().unwrap_or_default()
    }

    fn authority(&self) -> &str {
        authority(self.head)
    }

    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.head.headers.get_all(name).iter().map(http::HeaderValue::as_bytes)
    }

    fn source(&self) -> IpAddr {
        self.source
    }
}

/// `:authority`, or the target's own in absolute form (RFC 9112 §3.2.2: it overrides `Host`), or `Host`.
fn authority(head: &RequestHeader) -> &str {
    if let Some(authority) = head.uri.authority() {
        return authority.as_str();
    }
    head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}
