//! Listening sockets.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

use crate::sniff::is_readable;

/// Connections the kernel completes before they are accepted. It caps this by net.core.somaxconn.
pub(super) const BACKLOG: i32 = 4096;

/// A client of which nothing was heard is asked whether it is still there: after so long, so often, and so many times. One
/// that is gone is known after 90 s, however long the listener's idle time-out. HTTP/2 has pings for that, but Pingora 0.9.1
/// lets nobody send them.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(45))
    .with_interval(Duration::from_secs(15))
    .with_retries(3);

/// A socket that listens.
#[derive(Debug)]
pub(super) struct ListeningSocket(AsyncFd<TcpListener>);

impl ListeningSocket {
    /// On this port of all addresses, of both families where the machine has IPv6.
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe for the sake of types whose descriptor can change"
    )]
    pub(super) fn bind(port: u16) -> io::Result<Self> {
        let socket = match listen(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(error) if lacks_ipv6(&error) => listen(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into()),
            result => result,
        };
        Ok(Self(AsyncFd::with_interest(socket?, Interest::READABLE)?))
    }

    /// Where it listens.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }

    /// The next connection.
    ///
    /// Tokio's own listener accepts until there is nobody, which is dear: the kernel makes a socket before it looks. And it
    /// reads from a new connection at once, which is mostly too soon. Both are a system call for nothing.
    ///
    /// # Errors
    /// That connection is gone, or there is no room for it.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            // Unlike `readable`, this lets others run from time to time, however many come.
            let mut ready = poll_fn(|cx| self.0.poll_read_ready(cx)).await?;
            match self.accept_now() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                accepted => {
                    if !is_readable(self.0.get_ref()) {
                        ready.clear_ready();
                    }
                    return accepted;
                }
            }
        }
    }

    /// The next of those that wait already, whether the runtime knows of them or not.
    ///
    /// # Errors
    /// There is none, or as in [`Self::accept`].
    pub(super) fn accept_now(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, client) =
            acceptfrom_with(self.0.get_ref(), SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        let client = client.ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok((TcpStream::from_std(stream.into())?, client.try_into()?))
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
    Ok(socket.into())
}

/// Where IPv6 is compiled out there is no such socket; where it is switched off there is no such address.
fn lacks_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn bound() -> (ListeningSocket, SocketAddr) {
        let listener = ListeningSocket::bind(0).unwrap();
        let port = listener.address().unwrap().port();
        (listener, (Ipv4Addr::LOCALHOST, port).into())
    }

    fn clients(count: usize, address: SocketAddr) -> Vec<std::net::TcpStream> {
        (0..count).map(|_| std::net::TcpStream::connect(address).unwrap()).collect()
    }

    #[tokio::test]
    async fn clients_are_sent_small_packets_at_once_and_asked_whether_they_are_still_there() {
        let (listener, address) = bound();
        let _client = clients(1, address);
        let (socket, _) = listener.accept().await.unwrap();
        let socket = socket2::SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), 45);
        assert_eq!(socket.tcp_keepalive_interval().unwrap().as_secs(), 15);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    }

    #[tokio::test]
    async fn everybody_is_accepted_who_came_together_or_later() {
        let (listener, address) = bound();
        for count in [3, 1, 2] {
            let clients = clients(count, address);
            for client in &clients {
                let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
                let (_, source) = accepted.expect("nobody is forgotten").unwrap();
                assert_eq!(source.port(), client.local_addr().unwrap().port());
            }
            assert!(listener.accept().now_or_never().is_none());
        }
        let _late = clients(1, address);
        assert!(listener.accept_now().is_ok(), "the runtime could not know of it yet");
        assert_eq!(listener.accept_now().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn others_have_their_turn_between_many_connections() {
        const COUNT: usize = 250;
        let (listener, address) = bound();
        let _clients = clients(COUNT, address);
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = accepted.clone();
        let accepting = tokio::spawn(async move {
            while counted.fetch_add(1, Ordering::Relaxed) < COUNT {
                listener.accept().await.unwrap();
            }
        });
        while accepted.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        assert!(!accepting.is_finished());
        tokio::time::timeout(PATIENCE, accepting).await.expect("nobody is forgotten").unwrap();
    }
}
