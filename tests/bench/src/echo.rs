//! What answers upgraded and plain connections, and the loads that they get. There is no tool for these that costs little
//! enough to keep a proxy busy from one core.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::load::Done;

/// Where the echo listens.
pub const PORT: u16 = 20003;
/// Bytes read at once, and sent at once by [`bytes`].
const CHUNK: usize = 64 * 1024;
/// What [`bytes`] sends.
static BLOCK: [u8; CHUNK] = [7; CHUNK];
/// A masked text frame of 64 bytes. It comes back as it is: no proxy looks into frames.
const FRAME: [u8; 70] = {
    let mut frame = [b'x'; 70];
    [frame[0], frame[1]] = [0x81, 0x80 | 64];
    frame
};
/// The handshake of RFC 6455, section 1.3.
const OPENING: &str = "GET /echo HTTP/1.1\r\nHost: echo.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const OPENED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Echoes until the runtime ends.
pub async fn serve(listener: TcpListener) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(echo(socket));
    }
}

async fn echo(mut socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = vec![0; CHUNK];
    let mut first = true;
    loop {
        let read = socket.read(&mut buffer).await?;
        let bytes = buffer.get(..read).unwrap_or_default();
        if read == 0 {
            return Ok(());
        }
        let opening = std::mem::take(&mut first) && bytes.starts_with(b"GET ");
        socket.write_all(if opening { OPENED.as_bytes() } else { bytes }).await?;
    }
}

async fn connect(port: u16) -> Result<TcpStream> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Upgraded connections.
pub async fn messages(port: u16, time: Duration) -> Result<Done> {
    let mut sockets = Vec::new();
    for _ in 0..64 {
        let mut socket = connect(port).await?;
        socket.write_all(OPENING.as_bytes()).await?;
        let head = head(&mut socket).await?;
        ensure!(head.starts_with("HTTP/1.1 101"), "not upgraded: {head}");
        sockets.push(socket);
    }
    back_and_forth(sockets, &FRAME, time).await
}

/// Plain connections.
pub async fn bytes(port: u16, time: Duration) -> Result<Done> {
    let mut sockets = Vec::new();
    for _ in 0..8 {
        sockets.push(connect(port).await?);
    }
    back_and_forth(sockets, &BLOCK, time).await
}

/// Reads a head byte by byte: what follows it is not touched.
async fn head(socket: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}

/// Sends a message on each connection again and again, each as soon as the one before it is back.
async fn back_and_forth(sockets: Vec<TcpStream>, message: &'static [u8], time: Duration) -> Result<Done> {
    let echoed = Arc::new(AtomicU64::new(0));
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    for mut socket in sockets {
        let echoed = Arc::clone(&echoed);
        tasks.spawn(async move {
            let mut buffer = vec![0; message.len()];
            loop {
                socket.write_all(message).await?;
                socket.read_exact(&mut buffer).await?;
                ensure!(buffer == message, "something else came back");
                echoed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    // None ends by itself, but with an error.
    if let Ok(Some(ended)) = timeout(time, tasks.join_next()).await {
        ended?.context("an echo broke off")?;
    }
    let requests = echoed.load(Ordering::Relaxed);
    Ok(Done { requests, failed: 0, bytes: (requests * message.len() as u64) as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_loads_get_back_what_they_send() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(serve(listener));
        let time = Duration::from_millis(200);
        assert!(messages(port, time).await.unwrap().requests > 0);
        assert!(bytes(port, time).await.unwrap().bytes > 0.0);
    }
}
