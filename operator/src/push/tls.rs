//! TLS towards proxies and the API server: new connections are shown the newest certificate; those that are open go on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use crate::ca::Identity;

/// Who has not finished the handshake by then is nobody we know.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes at a time; who comes then waits in the system's queue.
const HANDSHAKES: usize = 1024;
/// Without file descriptors nobody can be accepted until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The certificate that new connections are shown.
#[derive(Debug)]
pub struct Serving {
    provider: Arc<CryptoProvider>,
    shown: RwLock<Arc<CertifiedKey>>,
}

impl Serving {
    /// Shows this one at first.
    pub fn new(identity: Identity) -> Result<Self, rustls::Error> {
        let provider = Arc::new(default_provider());
        let shown = RwLock::new(certified(&provider, identity)?);
        Ok(Self { provider, shown })
    }

    /// Shows another one from now on.
    pub fn show(&self, identity: Identity) -> Result<(), rustls::Error> {
        let next = certified(&self.provider, identity)?;
        *self.shown.write() = next;
        Ok(())
    }

    fn config(self: Arc<Self>, protocol: &[u8]) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self);
        config.alpn_protocols = vec![protocol.to_vec()];
        // A resumed session would go by a certificate that is not shown any more.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.read().clone())
    }
}

fn certified(provider: &CryptoProvider, identity: Identity) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let Identity { certificate, key, expires: _ } = identity;
    let key = provider.key_provider.load_private_key(key.into())?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate], key)))
}

/// Connections whose handshake is done. The socket is closed when the stream is dropped.
pub(super) fn incoming(
    listener: TcpListener,
    serving: Arc<Serving>,
) -> Result<impl Stream<Item = io::Result<TlsStream<TcpStream>>>, rustls::Error> {
    let door = Door::new(listener, serving, b"h2")?;
    Ok(unfold(door, async |mut door| Some((Ok(door.next().await), door))))
}

/// Where connections come in over TLS.
pub struct Door {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: JoinSet<io::Result<TlsStream<TcpStream>>>,
}

impl Door {
    /// For those who speak that protocol, by its name in ALPN.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(listener: TcpListener, serving: Arc<Serving>, protocol: &[u8]) -> Result<Self, rustls::Error> {
        let acceptor = TlsAcceptor::from(Arc::new(serving.config(protocol)?));
        Ok(Self { listener, acceptor, handshakes: JoinSet::new() })
    }

    async fn next(&mut self) -> TlsStream<TcpStream> {
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if self.handshakes.len() < HANDSHAKES => match accepted {
                    Ok((stream, _)) => {
                        self.handshakes.spawn(handshake(self.acceptor.clone(), stream));
                    }
                    Err(error) => {
                        warn!(%error, "a connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(done) = self.handshakes.join_next() => match done {
                    Ok(Ok(stream)) => return stream,
                    Ok(Err(error)) => debug!(%error, "a handshake failed"),
                    Err(error) => warn!(%error, "a handshake ended"),
                },
            }
        }
    }
}

impl axum::serve::Listener for Door {
    type Io = TlsStream<TcpStream>;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        (self.next().await, ())
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(())
    }
}

async fn handshake(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await?
}
