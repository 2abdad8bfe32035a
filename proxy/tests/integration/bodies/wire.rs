//! HTTP/1.1 as both ends speak it, with as little as they need.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// It ends in the middle.
#[derive(Debug)]
pub struct Cut;

/// What comes from the other side.
pub struct Inbox<R = OwnedReadHalf> {
    from: R,
    read: Vec<u8>,
}

/// How the body behind a head is delimited.
#[derive(Clone, Copy, Debug)]
pub enum Delimited {
    Length(usize),
    Chunked,
    UntilEnd,
}

impl Delimited {
    /// As this head says; `otherwise` where it says nothing.
    pub fn by(head: &str, otherwise: Self) -> Self {
        match (field(head, "content-length"), field(head, "transfer-encoding")) {
            (Some(length), None) => Self::Length(length.parse().expect("a length")),
            (None, Some(coding)) => {
                assert_eq!(coding, "chunked");
                Self::Chunked
            }
            (None, None) => otherwise,
            both => panic!("two framings: {both:?}"),
        }
    }
}

/// A field's value.
pub fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

impl<R: AsyncRead + Unpin> Inbox<R> {
    pub fn new(from: R) -> Self {
        Self { from, read: Vec::new() }
    }

    async fn more(&mut self) -> Result<(), Cut> {
        self.read.reserve(16 * 1024);
        match self.from.read_buf(&mut self.read).await {
            Ok(1..) => Ok(()),
            Ok(0) | Err(_) => Err(Cut),
        }
    }

    /// Up to this end, and without it.
    async fn up_to(&mut self, end: &[u8]) -> Result<Vec<u8>, Cut> {
        let mut looked = 0;
        loop {
            let found = self.read[looked..].windows(end.len()).position(|window| window == end);
            if let Some(at) = found {
                let mut taken: Vec<_> = self.read.drain(..looked + at + end.len()).collect();
                taken.truncate(looked + at);
                return Ok(taken);
            }
            looked = self.read.len().saturating_sub(end.len() - 1);
            self.more().await?;
        }
    }

    /// The next head.
    pub async fn head(&mut self) -> Result<String, Cut> {
        Ok(String::from_utf8(self.up_to(b"\r\n\r\n").await?).expect("text"))
    }

    /// The body behind the last head, up to so many bytes: what there is of it, and whether that is all.
    pub async fn body(&mut self, delimited: Delimited, most: usize) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        let whole = match delimited {
            Delimited::Length(length) => self.take(length, most, &mut body).await.is_ok(),
            Delimited::Chunked => self.chunks(most, &mut body).await.is_ok(),
            Delimited::UntilEnd => self.until_end(most, &mut body).await,
        };
        let whole = whole && body.len() <= most;
        body.truncate(most);
        (body, whole)
    }

    async fn take(&mut self, length: usize, most: usize, body: &mut Vec<u8>) -> Result<(), Cut> {
        let end = body.len() + length;
        loop {
            let count = self.read.len().min(end - body.len());
            body.extend(self.read.drain(..count));
            if body.len() == end {
                return Ok(());
            }
            if body.len() > most {
                return Err(Cut);
            }
            self.more().await?;
        }
    }

    async fn chunks(&mut self, most: usize, body: &mut Vec<u8>) -> Result<(), Cut> {
        loop {
            let size = self.up_to(b"\r\n").await?;
            let size = usize::from_str_radix(std::str::from_utf8(&size).expect("text"), 16);
            let size = size.expect("a size, and nothing else");
            self.take(size, most, body).await?;
            assert_eq!(
                self.up_to(b"\r\n").await?,
                b"",
                "a chunk ends where it should, and there are no trailers"
            );
            if size == 0 {
                return Ok(());
            }
        }
    }

    /// A reset is no end.
    async fn until_end(&mut self, most: usize, body: &mut Vec<u8>) -> bool {
        body.append(&mut self.read);
        while body.len() <= most {
            match self.from.read_buf(body).await {
                Ok(1..) => {}
                end => return end.is_ok(),
            }
        }
        false
    }
}

/// Writes bytes in pieces that end at these places; whether all of it was taken.
pub async fn say(to: &mut OwnedWriteHalf, bytes: &[u8], cuts: &[usize]) -> bool {
    let mut begin = 0;
    for cut in cuts.iter().copied().filter(|cut| *cut < bytes.len()).chain([bytes.len()]) {
        if to.write_all(&bytes[begin..cut]).await.is_err() {
            return false;
        }
        begin = cut;
        tokio::task::yield_now().await;
    }
    true
}

/// Ends a connection so that nobody takes it for a regular end, once what reads from it is dropped as well.
pub fn reset(to: OwnedWriteHalf) {
    // It may have ended already.
    let _ = socket2::SockRef::from(AsRef::<TcpStream>::as_ref(&to)).set_linger(Some(Duration::ZERO));
    to.forget();
}
