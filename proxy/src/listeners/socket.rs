//! Listening sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;

/// Connections the kernel completes before they are accepted. It caps this by net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// A client of which nothing was heard is asked whether it is still there: after so long, so often, and so many times. One
/// that is gone is known after 90 s, however long the listener's idle time-out. HTTP/2 has pings for that, but Pingora 0.9.1
/// lets nobody send them.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(45))
    .with_interval(Duration::from_secs(15))
    .with_retries(3);

/// Listens on this port of all addresses, of both families where the machine has IPv6.
pub(super) fn bind(port: u16) -> io::Result<TcpListener> {
    match listen(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if lacks_ipv6(&error) => listen(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into()),
        result => result,
    }
}

fn listen(domain: Domain, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // The connections that it accepts have both from there, without a system call for each.
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Where IPv6 is compiled out there is no such socket; where it is switched off there is no such address.
fn lacks_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn clients_are_sent_small_packets_at_once_and_asked_whether_they_are_still_there() {
        let listener = bind(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (_client, accepted) = tokio::join!(TcpStream::connect(("127.0.0.1", port)), listener.accept());
        let socket = accepted.unwrap().0;
        let socket = socket2::SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), 45);
        assert_eq!(socket.tcp_keepalive_interval().unwrap().as_secs(), 15);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    }
}
