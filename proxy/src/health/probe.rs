//! One check of one target: a connection of its own, closed afterwards.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_proxy_api::snapshot::{HealthCheck, TargetProtocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::health::state::Failure;

/// How long an answer's body is waited for once its status is known, so that a target is not cut off while it writes.
const COURTESY: Duration = Duration::from_millis(100);
/// As much of an answer is looked at.
const MAX_ANSWER: u64 = 64 * 1024;

/// Whoever carries out a check.
pub trait Probe: Clone + Send + Sync + 'static {
    /// Checks the target at an address.
    fn probe(
        &self,
        address: SocketAddr,
        check: &HealthCheck,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Checks over the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkProbe;

impl Probe for NetworkProbe {
    async fn probe(&self, address: SocketAddr, check: &HealthCheck) -> Result<(), Failure> {
        let answer = timeout(check.timeout, ask(address, check)).await.map_err(|_| Failure::Timeout)?;
        let Some((mut stream, status)) = answer? else { return Ok(()) };
        let _ =
            timeout(COURTESY, tokio::io::copy(&mut (&mut stream).take(MAX_ANSWER), &mut tokio::io::sink()))
                .await;
        let passes = check.matcher.iter().any(|range| range.contains(status));
        if passes { Ok(()) } else { Err(Failure::Status(status)) }
    }
}

/// The connection and the status of the answer; neither is needed for TCP.
async fn ask(address: SocketAddr, check: &HealthCheck) -> Result<Option<(TcpStream, u16)>, Failure> {
    let unreachable = |error: io::Error| Failure::Unreachable(error.to_string());
    let mut stream = TcpStream::connect(address).await.map_err(unreachable)?;
    if check.protocol == TargetProtocol::Tcp {
        return Ok(None);
    }
    let path = &check.path;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: evenkeel-health-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(unreachable)?;
    let mut line = [0; STATUS_LINE.len()];
    stream.read_exact(&mut line).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Failure::Unreachable("it was closed before an answer came".to_owned())
        }
        _ => unreachable(error),
    })?;
    let status = status(&line).ok_or(Failure::Malformed)?;
    Ok(Some((stream, status)))
}

/// What an answer begins with, but for the digits.
const STATUS_LINE: &str = "HTTP/1.1 200";

fn status(line: &[u8]) -> Option<u16> {
    let digits = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let is_number = digits.len() == 3 && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use evenkeel_proxy_api::snapshot::StatusRange;
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one connection with these bytes; gives what was asked.
    async fn server(answer: &'static [u8]) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut request).await.unwrap() == 0 {
                    break;
                }
            }
            stream.write_all(answer).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        (address, task)
    }

    fn check() -> HealthCheck {
        HealthCheck {
            path: "/healthz".into(),
            matcher: vec![StatusRange { from: 200, to: 299 }, StatusRange { from: 304, to: 304 }],
            ..HealthCheck::default()
        }
    }

    #[tokio::test]
    async fn the_status_decides() {
        for (answer, expected) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..], Ok(())),
            (b"HTTP/1.0 204 No Content\r\n\r\n", Ok(())),
            (b"HTTP/1.1 304 Not Modified\r\n\r\n", Ok(())),
            (b"HTTP/1.1 500 Oops\r\n\r\n", Err(Failure::Status(500))),
            (b"HTTP/1.1 301 Moved\r\n\r\n", Err(Failure::Status(301))),
            (b"HTTP/2.0 200 OK\r\n\r\n", Err(Failure::Malformed)),
            (b"220 smtp.example.com ready\r\n", Err(Failure::Malformed)),
            (b"HTTP/1.1 2x0 OK\r\n\r\n", Err(Failure::Malformed)),
            (b"HTTP", Err(Failure::Unreachable("it was closed before an answer came".into()))),
        ] {
            let (address, _server) = server(answer).await;
            assert_eq!(NetworkProbe.probe(address, &check()).await, expected);
        }
    }

    #[tokio::test]
    async fn the_request_is_a_plain_get_on_a_connection_of_its_own() {
        let (address, server) = server(b"HTTP/1.1 200 OK\r\n\r\n").await;
        NetworkProbe.probe(address, &check()).await.unwrap();
        let request = server.await.unwrap();
        assert!(request.starts_with("GET /healthz HTTP/1.1\r\n"));
        assert!(
            request.contains(&format!("Host: {address}\r\n")) && request.contains("Connection: close\r\n")
        );
    }

    #[tokio::test]
    async fn nobody_there_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(matches!(NetworkProbe.probe(address, &check()).await, Err(Failure::Unreachable(_))));
    }

    #[tokio::test]
    async fn silence_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let check = HealthCheck { timeout: Duration::from_millis(50), ..check() };
        let outcome = NetworkProbe.probe(listener.local_addr().unwrap(), &check).await;
        assert_eq!(outcome, Err(Failure::Timeout));
    }

    #[tokio::test]
    async fn for_tcp_a_connection_is_enough() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let check = HealthCheck { protocol: TargetProtocol::Tcp, ..check() };
        assert_eq!(NetworkProbe.probe(listener.local_addr().unwrap(), &check).await, Ok(()));
    }
}
