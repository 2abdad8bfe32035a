//! What the core sees of a request. Carriers implement it over what they hold; nothing is copied.

use std::net::IpAddr;

/// A request, as conditions and redirects see it.
pub trait RequestView {
    /// The method, as the client wrote it.
    fn method(&self) -> &str;

    /// The path, as the client wrote it, without the query.
    fn path(&self) -> &str;

    /// The query, as the client wrote it, without its question mark; empty when there is none.
    fn query(&self) -> &str;

    /// `Host` or `:authority`, as the client wrote it, with the port if it has one; empty when there is none.
    fn authority(&self) -> &str;

    /// The values of the header fields of this name (lower case), in order.
    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]>;

    /// The address of the connection's other end.
    fn source(&self) -> IpAddr;
}

/// An authority's host (an IPv6 address keeps its brackets) and its port, where it says one.
pub fn split_authority(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A request made of plain values.
    #[derive(Clone, Debug)]
    pub(crate) struct Request {
        pub method: &'static str,
        pub path: &'static str,
        pub query: &'static str,
        pub authority: &'static str,
        pub headers: Vec<(&'static str, &'static [u8])>,
        pub source: IpAddr,
    }

    impl Default for Request {
        fn default() -> Self {
            Self {
                method: "GET",
                path: "/",
                query: "",
                authority: "shop.example.com",
                headers: Vec::new(),
                source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            }
        }
    }

    impl RequestView for Request {
        fn method(&self) -> &str {
            self.method
        }
        fn path(&self) -> &str {
            self.path
        }
        fn query(&self) -> &str {
            self.query
        }
        fn authority(&self) -> &str {
            self.authority
        }
        fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
            self.headers.iter().filter(move |(key, _)| *key == name).map(|(_, value)| *value)
        }
        fn source(&self) -> IpAddr {
            self.source
        }
    }

    #[test]
    fn an_authority_is_split_at_its_port() {
        for (authority, host, port) in [
            ("shop.example.com", "shop.example.com", None),
            ("shop.example.com:8080", "shop.example.com", Some(8080)),
            ("[::1]", "[::1]", None),
            ("[::1]:80", "[::1]", Some(80)),
            ("shop:", "shop", None),
            ("shop:99999", "shop", None),
            ("", "", None),
        ] {
            assert_eq!(split_authority(authority), (host, port), "{authority}");
        }
    }
}
