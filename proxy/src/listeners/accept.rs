//! The loop that accepts a port's connections and hands them to their carrier.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;
use tokio_util::task::TaskTracker;

use super::socket::{BACKLOG, ListeningSocket};
use crate::admission::{Turned, tell_busy};
use crate::http::HttpCarrier;
use crate::http1::Http1Carrier;
use crate::metrics::Present;
use crate::port::{Listening, Port};
use crate::sniff;
use crate::stream::{Connection, Opened};
use crate::tcp::TcpCarrier;
use evenkeel_proxy_api::snapshot::ListenerProtocol;

/// First and longest wait after an accept that failed for want of resources, such as file descriptors.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// What serves connections, by protocol.
#[derive(Clone, Debug)]
pub struct Carriers {
    /// For HTTP/1 clients of HTTP listeners; without it they go to the other carrier.
    pub http1: Option<Arc<Http1Carrier>>,
    /// For HTTP/2 clients of HTTP listeners.
    pub http: Arc<HttpCarrier>,
    /// For TCP listeners.
    pub tcp: Arc<TcpCarrier>,
}

/// Accepts until the port is closed, and then what the kernel has accepted already.
pub(super) async fn run(
    socket: ListeningSocket,
    port: Arc<Port>,
    carriers: Carriers,
    connections: TaskTracker,
) {
    let mut back_off = BackOff::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = port.closed() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                back_off.reset();
                serve(accepted, &port, &carriers, &connections);
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => back_off.wait(&error, &port).await,
        }
    }
    // At most as many as the queue can hold: others come until it is closed.
    for _ in 0..BACKLOG {
        match socket.accept_now() {
            Ok(accepted) => serve(accepted, &port, &carriers, &connections),
            Err(error) if is_the_clients(&error) => {}
            Err(_) => break,
        }
        consume_budget().await;
    }
}

/// Errors of the connection that was to be accepted; the next one may be fine.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn serve(
    (socket, client): (TcpStream, SocketAddr),
    port: &Arc<Port>,
    carriers: &Carriers,
    connections: &TaskTracker,
) {
    let listening = port.listening();
    let admitted = match port.admission.admit(client.ip(), &listening.table) {
        Ok(admitted) => admitted,
        Err(turned) => return turn_away(&socket, turned, &listening),
    };
    listening.metrics.accepted.inc();
    let (port, carriers) = (port.clone(), carriers.clone());
    connections.spawn(async move {
        let _open = (Present::count(&listening.metrics.connections), admitted);
        tokio::select! {
            _ = carry(socket, client, &listening, &port, &carriers) => {}
            () = port.aborted() => {}
        }
    });
}

/// Closes a connection. Who is not allowed is not even told.
fn turn_away(socket: &TcpStream, turned: Turned, listening: &Listening) {
    listening.metrics.count_turned(turned);
    if turned != Turned::SourceNotAllowed && listening.table.protocol == ListenerProtocol::Http {
        tell_busy(socket);
    }
}

/// # Errors
/// The client is gone already.
async fn carry(
    socket: TcpStream,
    client: SocketAddr,
    listening: &Arc<Listening>,
    port: &Arc<Port>,
    carriers: &Carriers,
) -> io::Result<()> {
    let connection = Arc::new(Connection::new(canonical(client), port.address.port()));
    match listening.table.protocol {
        ListenerProtocol::Http => carry_http(socket, connection, port, carriers).await?,
        ListenerProtocol::Tcp => carriers.tcp.serve(socket, connection, listening).await,
    }
    Ok(())
}

/// # Errors
/// The client is gone, or says nothing for too long.
async fn carry_http(
    socket: TcpStream,
    connection: Arc<Connection>,
    port: &Arc<Port>,
    carriers: &Carriers,
) -> io::Result<()> {
    let opened = if let Some(http1) = &carriers.http1 {
        http1.serve(socket, connection.clone(), port).await
    } else {
        let idle = port.listening().table.idle_timeout;
        let h2 = tokio::select! {
            biased;
            sniffed = tokio::time::timeout(idle, sniff::is_h2(&socket)) => sniffed??,
            () = port.closed() => return Ok(()),
        };
        Some(Opened { socket, begun: Vec::new(), h2 })
    };
    if let Some(opened) = opened {
        carriers.http.serve(opened, connection, port.clone()).await;
    }
    Ok(())
}

/// A dual-stack socket shows IPv4 clients as `::ffff:a.b.c.d`; nobody else should have to know.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Waits between accepts that fail, longer each time, and says so once.
#[derive(Debug, Default)]
struct BackOff(Option<Duration>);

impl BackOff {
    fn reset(&mut self) {
        self.0 = None;
    }

    fn next(&mut self) -> Duration {
        let (first, longest) = BACK_OFF;
        let wait = self.0.map_or(first, |last| (last * 2).min(longest));
        self.0 = Some(wait);
        wait
    }

    async fn wait(&mut self, error: &io::Error, port: &Port) {
        if self.0.is_none() {
            tracing::error!(%error, address = %port.address, "connections cannot be accepted and wait; is the limit of open files too low?");
        }
        tokio::time::sleep(self.next()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_backs_off_up_to_a_second_and_starts_anew_after_a_success() {
        let mut back_off = BackOff::default();
        let waits: Vec<_> = (0..10).map(|_| back_off.next().as_millis()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        back_off.reset();
        assert_eq!(back_off.next().as_millis(), 5);
    }

    #[test]
    fn an_error_of_one_client_is_no_reason_to_back_off() {
        assert!(is_the_clients(&io::ErrorKind::ConnectionAborted.into()));
        assert!(!is_the_clients(&io::Error::from_raw_os_error(24)));
    }
}
