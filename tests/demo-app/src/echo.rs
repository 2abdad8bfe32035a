//! The echo port: a line with the name of the replica, then whatever the client sends.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

/// Wait after a failed accept: with no file descriptors left, the next one fails too.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Accepts connections for ever.
pub(crate) async fn accept(listener: TcpListener, replica: String, tunnels: TaskTracker) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let greeting = format!("{replica}\n");
                // A client that resets its connection is none of our business.
                tunnels.spawn(async move { echo(stream, &greeting).await.ok() });
            }
            Err(_) => tokio::time::sleep(ACCEPT_BACKOFF).await,
        }
    }
}

async fn echo(mut stream: TcpStream, greeting: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(greeting.as_bytes()).await?;
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}
