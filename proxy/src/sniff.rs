//! What waits on a socket, looked at without taking it: whether there is anything, and which HTTP it is.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::TcpStream;

/// What a client that knows that we speak HTTP/2 begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long to wait before looking again when only a part of the preface has come. It comes in one packet as a rule.
const NEXT_LOOK: Duration = Duration::from_millis(1);

/// Whether the kernel has something there that the runtime may not have heard of: bytes, an end, a connection to accept. Taken
/// for granted where that cannot be known.
pub(crate) fn is_readable(socket: &impl AsFd) -> bool {
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&NOW)).map_or(true, |ready| ready > 0)
}

/// Waits for the first bytes and says whether they are HTTP/2, leaving them where they are. Pingora would wait for as many
/// bytes as the preface has, which a short HTTP/1.0 request never sends.
///
/// # Errors
/// The client closed the connection or it broke.
pub(crate) async fn is_h2(socket: &TcpStream) -> io::Result<bool> {
    let mut buffer = [0; PREFACE.len()];
    let mut seen = 0;
    loop {
        let length = socket.peek(&mut buffer).await?;
        match classify(buffer.get(..length).unwrap_or_default()) {
            Sniffed::Nothing => return Err(io::ErrorKind::UnexpectedEof.into()),
            Sniffed::Http1 => return Ok(false),
            Sniffed::Http2 => return Ok(true),
            // The client has closed its side in the midst of it; an HTTP/1 parser has the words for that.
            Sniffed::Undecided if length == seen && is_half_closed(socket).await => return Ok(false),
            Sniffed::Undecided => {}
        }
        seen = length;
        tokio::time::sleep(NEXT_LOOK).await;
    }
}

async fn is_half_closed(socket: &TcpStream) -> bool {
    let ready = socket.ready(tokio::io::Interest::READABLE).await;
    ready.is_ok_and(tokio::io::Ready::is_read_closed)
}

/// What the first bytes tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sniffed {
    Nothing,
    Http1,
    Http2,
    Undecided,
}

/// The protocol of a connection that begins like this.
pub(crate) fn classify(begun: &[u8]) -> Sniffed {
    match begun {
        [] => Sniffed::Nothing,
        begun if begun.starts_with(PREFACE) => Sniffed::Http2,
        begun if PREFACE.starts_with(begun) => Sniffed::Undecided,
        _ => Sniffed::Http1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_known_by_its_first_bytes() {
        for (begun, expected) in [
            (&b""[..], Sniffed::Nothing),
            (b"G", Sniffed::Http1),
            (b"GET / HTTP/1.0\r\n\r\n", Sniffed::Http1),
            (b"P", Sniffed::Undecided),
            (b"POST / HTTP/1.1\r\nHost: a", Sniffed::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", Sniffed::Undecided),
            (PREFACE, Sniffed::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", Sniffed::Http2),
        ] {
            assert_eq!(classify(begun), expected, "{begun:?}");
        }
    }
}
