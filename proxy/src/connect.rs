//! Connections to targets.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::errors::Reason;

/// A new connection to this address.
///
/// # Errors
/// It is refused, or does not come in time.
pub(crate) async fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream, Reason> {
    let connecting = tokio::time::timeout(timeout, TcpStream::connect(address)).await;
    let socket = connecting.map_err(|_| Reason::ConnectTimeout)?.map_err(|_| Reason::ConnectFailed)?;
    // Without it small packets wait for each other: slower, but no worse.
    let _ = socket.set_nodelay(true);
    Ok(socket)
}
