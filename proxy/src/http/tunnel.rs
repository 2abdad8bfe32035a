//! Connections to targets for upgrades.
//!
//! Pingora 0.9.1 ends a tunnel the moment it begins if it reads the answer 101 before it has come to know that the request
//! has no body (github.com/cloudflare/pingora/issues/946), as happens with a quick target on a busy machine. It learns of the
//! body when it first waits for the answer; so, the first time it looks, there is none yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_core::{Error, ErrorType, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::connect::{be_patient, connect};
use crate::errors::Reason;

/// Connects for an upgrade.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) timeout: Duration,
}

#[async_trait]
impl L4Connect for Connector {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let address = address.as_inet().ok_or_else(|| Error::new(ErrorType::InternalError))?;
        let socket = connect(*address, self.timeout).await.map_err(|reason| match reason {
            Reason::ConnectTimeout => Error::new(ErrorType::ConnectTimedout),
            _ => Error::new(ErrorType::ConnectError),
        })?;
        be_patient(&socket);
        Ok(VirtualSocketStream::new(Box::new(Patient { socket, looked: false })).into())
    }
}

/// A connection that has nothing to read the first time.
#[derive(Debug)]
struct Patient {
    socket: TcpStream,
    looked: bool,
}

impl VirtualSocket for Patient {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.socket.set_nodelay(true),
            // No peer of ours asks for anything else.
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.looked, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
