//! Targets.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Something that listens on loopback until it is dropped.
#[derive(Debug)]
pub struct Target {
    pub port: u16,
    served: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Target {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Target {
    /// Requests or connections served.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    /// Answers requests with this function.
    pub async fn http<F, A>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let (answer, served) = (Arc::new(answer), Arc::new(AtomicU64::new(0)));
        let count = served.clone();
        Self::listen(served, move |socket| {
            let (answer, count) = (answer.clone(), count.clone());
            async move {
                let service = service_fn(move |request| {
                    count.fetch_add(1, Ordering::SeqCst);
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service)
                    .with_upgrades()
                    .await;
            }
        })
        .await
    }

    /// Answers every request with this text.
    pub async fn saying(text: &'static str) -> Self {
        Self::http(move |_| async move { Response::new(Full::from(text)) }).await
    }

    /// Answers with the request as it arrived: its first line, its headers, its body.
    pub async fn echo() -> Self {
        Self::http(|request| async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let mut text = format!("{} {}\n", head.method, head.uri).into_bytes();
            for (name, value) in &head.headers {
                text.extend_from_slice(format!("{name}: ").as_bytes());
                text.extend_from_slice(value.as_bytes());
                text.push(b'\n');
            }
            text.push(b'\n');
            text.extend_from_slice(&body);
            Response::new(Full::from(text))
        })
        .await
    }

    /// Writes these bytes as an answer to each connection, after a first read, and closes it.
    pub async fn raw(answer: &'static [u8]) -> Self {
        Self::tcp(move |mut socket| async move {
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(answer).await;
        })
        .await
    }

    /// Handles each connection with this function.
    pub async fn tcp<F, A>(handle: F) -> Self
    where
        F: Fn(TcpStream) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let served = Arc::new(AtomicU64::new(0));
        let count = served.clone();
        Self::listen(served, move |socket| {
            count.fetch_add(1, Ordering::SeqCst);
            handle(socket)
        })
        .await
    }

    async fn listen<F, A>(served: Arc<AtomicU64>, handle: F) -> Self
    where
        F: Fn(TcpStream) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = socket.local_addr().as_ref().map(SocketAddr::port).expect("an address");
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = socket.accept().await {
                connections.spawn(handle(socket));
            }
        });
        Self { port, served, task }
    }
}

/// Something whose queue of connections is full: it listens, but no further connection comes about.
#[derive(Debug)]
pub struct Clogged {
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Clogged {
    pub async fn up() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        let listener = socket.listen(0).expect("to listen");
        let address = listener.local_addr().expect("an address");
        let mut queued = Vec::new();
        let moment = std::time::Duration::from_millis(300);
        while let Ok(connected) = tokio::time::timeout(moment, TcpStream::connect(address)).await {
            queued.push(connected.expect("a connection"));
        }
        Self { listener, _queued: queued }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().as_ref().map(SocketAddr::port).expect("an address")
    }

    /// Accepts what waits and what comes, and answers every connection's first request with this text, while the returned
    /// set lives.
    pub fn serve(self, text: &'static str) -> tokio::task::JoinSet<()> {
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut socket, _)) = self.listener.accept().await {
                connections.spawn(async move {
                    let _ = socket.read(&mut [0; 4096]).await;
                    let length = text.len();
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}");
                    let _ = socket.write_all(answer.as_bytes()).await;
                });
            }
        });
        serving
    }
}

/// A port where nobody listens.
pub async fn nobody() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    socket.local_addr().expect("an address").port()
}
