//! Connections to targets, and how it is known that the other end is gone.
//!
//! A process that hangs does not answer, but its machine does. A machine that is gone acknowledges nothing: neither bytes
//! that were sent to it, nor the question whether it is still there. The connection breaks then, and what may be done twice
//! is done elsewhere.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::errors::Reason;

/// Where nothing is under way, a target is asked after so long whether it is still there,
pub(crate) const KEEPALIVE_TIME: Duration = Duration::from_secs(5);
/// and so often,
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// and so many times.
pub(crate) const KEEPALIVE_RETRIES: u32 = 5;
/// What was sent and is not acknowledged for so long breaks the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// A new connection to this address.
///
/// # Errors
/// It is refused, or does not come in time.
pub(crate) async fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream, Reason> {
    let connecting = tokio::time::timeout(timeout, TcpStream::connect(address)).await;
    let socket = connecting.map_err(|_| Reason::ConnectTimeout)?.map_err(|_| Reason::ConnectFailed)?;
    prepare(&socket);
    Ok(socket)
}

/// Each of these may fail where the kernel does not have it: slower, but no worse.
fn prepare(socket: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    // Without it small packets wait for each other.
    let _ = socket.set_nodelay(true);
    let options = SockRef::from(socket);
    let _ = options.set_tcp_keepalive(&keepalive);
    let _ = options.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

/// More is to be sent than a target takes that does not read: it may take its time, and only its silence to the question
/// counts. (For the kernel bytes that the other side has no room for are not acknowledged either.)
pub(crate) fn be_patient(socket: &TcpStream) {
    // As above: without it, a target that reads nothing for long loses the connection.
    let _ = SockRef::from(socket).set_tcp_user_timeout(None);
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_target_whose_machine_is_gone_is_known_after_ten_seconds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = connect(listener.local_addr().unwrap(), Duration::from_secs(5)).await.unwrap();
        let options = SockRef::from(&socket);
        let limit = options.tcp_keepalive_time().unwrap()
            + options.tcp_keepalive_interval().unwrap() * options.tcp_keepalive_retries().unwrap();
        assert!(options.keepalive().unwrap() && limit == UNACKNOWLEDGED, "{limit:?}");
        assert_eq!(options.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
        be_patient(&socket);
        assert_eq!(options.tcp_user_timeout().unwrap(), None);
    }
}
