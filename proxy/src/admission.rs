//! Who may come in: by its address, by how many there are, and by how many of them are from the same place.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::table::Listener;

/// Why a connection is closed as soon as it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// Its source is not among the allowed ones.
    SourceNotAllowed,
    /// There are as many as the listener takes.
    TooManyConnections,
    /// There are as many from its source as the listener takes.
    TooManyFromSource,
}

impl Turned {
    /// Every reason, in the order in which they are declared.
    pub const ALL: [Self; 3] = [Self::SourceNotAllowed, Self::TooManyConnections, Self::TooManyFromSource];

    /// One word, for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SourceNotAllowed => "SourceNotAllowed",
            Self::TooManyConnections => "TooManyConnections",
            Self::TooManyFromSource => "TooManyFromSource",
        }
    }
}

/// The connections of one port.
#[derive(Debug, Default)]
pub(crate) struct Admission(Mutex<Present>);

#[derive(Debug, Default)]
struct Present {
    connections: u32,
    /// By place, for those that came in while that was limited.
    places: HashMap<IpAddr, u32>,
}

/// A connection that came in. When it is dropped there is one less.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    place: Option<IpAddr>,
}

impl Admission {
    /// Lets a connection in, if the listener takes it.
    pub(crate) fn admit(self: &Arc<Self>, source: IpAddr, listener: &Listener) -> Result<Admitted, Turned> {
        if !listener.allows(source) {
            return Err(Turned::SourceNotAllowed);
        }
        let limits = &listener.limits;
        let mut present = self.0.lock();
        if limits.connections.is_some_and(|most| present.connections >= most) {
            return Err(Turned::TooManyConnections);
        }
        let place = limits.connections_per_source.map(|most| (place(source), most));
        if let Some((place, most)) = place {
            let here = present.places.get(&place).copied().unwrap_or_default();
            if here >= most {
                return Err(Turned::TooManyFromSource);
            }
            present.places.insert(place, here + 1);
        }
        present.connections += 1;
        Ok(Admitted { admission: Arc::clone(self), place: place.map(|(place, _)| place) })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut present = self.admission.0.lock();
        present.connections -= 1;
        if let Some(place) = self.place
            && let Entry::Occupied(mut here) = present.places.entry(place)
        {
            *here.get_mut() -= 1;
            if *here.get() == 0 {
                here.remove();
            }
        }
    }
}

/// Where an address counts: whoever has an IPv6 address has all of its network.
fn place(source: IpAddr) -> IpAddr {
    const NETWORK: u128 = !0 << 64;
    match source.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// What an HTTP client gets that comes when there are too many.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Server: evenkeel\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 48\r\n\
    Cache-Control: no-store\r\n\
    Connection: close\r\n\r\n\
    503 Service Unavailable: too many connections.\r\n";

/// Tells a client, as far as that takes no time: the answer goes into the empty buffer of a new connection, and what the
/// client has sent already is taken, since the kernel would reset a connection with bytes that nobody has read.
pub(crate) fn tell_busy(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    // Whoever does not get it sees the connection close.
    let _ = socket.send(BUSY);
    let _ = socket.recv(&mut [MaybeUninit::uninit(); 4096]);
}

#[cfg(test)]
mod tests {
    use evenkeel_proxy_api::snapshot::Limits;

    use super::*;
    use crate::action::{Action, Forward};

    fn listener(connections: Option<u32>, connections_per_source: Option<u32>) -> Listener {
        let mut listener = Listener::for_tests(Vec::new(), Action::Forward(Forward::new([])));
        listener.limits = Limits { connections, connections_per_source, ..Limits::default() };
        listener
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn as_many_come_in_as_the_listener_takes_and_leave_room_when_they_go() {
        let admission = Arc::new(Admission::default());
        let listener = listener(Some(2), None);
        let admit = || admission.admit(ip("10.0.0.1"), &listener);
        let first = admit().unwrap();
        let _second = admit().unwrap();
        assert_eq!(admit().unwrap_err(), Turned::TooManyConnections);
        drop(first);
        assert!(admit().is_ok());
    }

    #[test]
    fn sources_are_counted_each_and_ipv6_by_network() {
        let admission = Arc::new(Admission::default());
        let listener = listener(None, Some(1));
        let admit = |source| admission.admit(ip(source), &listener);
        let held: Vec<_> =
            ["10.0.0.1", "10.0.0.2", "2001:db8::1"].map(|source| admit(source).unwrap()).into();
        for source in ["10.0.0.1", "::ffff:10.0.0.2", "2001:db8::ffff:2"] {
            assert_eq!(admit(source).unwrap_err(), Turned::TooManyFromSource, "{source}");
        }
        assert!(admit("2001:db8:0:1::1").is_ok());
        drop(held);
        assert_eq!(admission.0.lock().places.len(), 0, "nobody is remembered");
        assert!(admit("10.0.0.1").is_ok());
    }

    #[test]
    fn those_who_came_before_there_was_a_limit_are_counted_but_not_by_source() {
        let admission = Arc::new(Admission::default());
        let source = ip("10.0.0.1");
        let before = admission.admit(source, &listener(None, None)).unwrap();
        assert_eq!(
            admission.admit(source, &listener(Some(1), None)).unwrap_err(),
            Turned::TooManyConnections
        );
        let after = admission.admit(source, &listener(None, Some(1))).unwrap();
        drop(before);
        assert_eq!(admission.admit(source, &listener(None, Some(1))).unwrap_err(), Turned::TooManyFromSource);
        drop(after);
    }

    #[test]
    fn what_busy_says_is_as_long_as_it_says() {
        let text = std::str::from_utf8(BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
