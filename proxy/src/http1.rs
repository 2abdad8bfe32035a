//! The carrier for HTTP/1 clients: own heads, framing and connections to targets, for the least work per request.
//!
//! ```text
//! connection ─► session: a head ─message─► order: route → action ─► forward: pick, connect, retry ─► exchange
//!                                                               └─► reply: answered here
//! ```
//!
//! Everything of one connection happens in its own task, without channels. Who waits holds no buffers.

use std::sync::Arc;

use tokio::net::TcpStream;

use crate::carrier::Shared;
use crate::port::Port;
use crate::stream::{Connection, Opened};

pub(crate) mod buffer;
mod client;
mod exchange;
mod forward;
mod message;
mod order;
mod pipe;
mod reply;
mod session;
mod timer;

#[cfg(fuzzing)]
pub use message::readers;

/// Serves HTTP/1 connections of every listener.
#[derive(Debug)]
pub struct Http1Carrier {
    shared: Shared,
}

impl Http1Carrier {
    /// With this log.
    pub fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// Serves a client's connection until it ends. One that begins with HTTP/2 is given back.
    pub async fn serve(&self, socket: TcpStream, connection: Arc<Connection>, port: &Port) -> Option<Opened> {
        session::Session::new(socket, connection, port, &self.shared).run().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_stays_small() {
        fn serve<'a>(
            carrier: &'a Http1Carrier,
            socket: TcpStream,
            connection: Arc<Connection>,
            port: &'a Port,
        ) -> impl Future + 'a {
            carrier.serve(socket, connection, port)
        }
        fn size<C, S, K, P, F>(_: fn(C, S, K, P) -> F) -> usize {
            size_of::<F>()
        }
        // 48 bytes more have cost half a KiB for each connection: the allocator's next size.
        assert!(size(serve) <= 2_320, "{}", size(serve));
    }
}
