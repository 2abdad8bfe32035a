//! Memory for bytes under way. Each thread keeps some for the next request; who waits for bytes holds none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::errors::MAX_HEAD;

/// Enough for nearly every head.
const SMALL: usize = 16 * 1024;
/// For large heads and bodies.
const LARGE: usize = MAX_HEAD;

/// Most of each size that a thread keeps: 4 MiB of either.
const KEPT_SMALL: usize = 256;
/// See [`KEPT_SMALL`].
const KEPT_LARGE: usize = 64;

#[derive(Default)]
struct Kept {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    scratch: Vec<Vec<u8>>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

impl Kept {
    fn take(&mut self, size: usize) -> Option<Vec<u8>> {
        if size == SMALL { self.small.pop() } else { self.large.pop() }
    }

    fn give(&mut self, bytes: Vec<u8>) {
        let (kept, most) = match bytes.len() {
            SMALL => (&mut self.small, KEPT_SMALL),
            LARGE => (&mut self.large, KEPT_LARGE),
            _ => return,
        };
        if kept.len() < most {
            kept.push(bytes);
        }
    }
}

fn take(size: usize) -> Vec<u8> {
    KEPT.with_borrow_mut(|kept| kept.take(size)).unwrap_or_else(|| vec![0; size])
}

/// Bytes that were read and not yet used.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// Empty while there is nothing to hold.
    room: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read has left no room.
    filled: bool,
}

impl Buffer {
    /// The bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.room.get(self.start..self.end).unwrap_or_default()
    }

    /// The bytes, to be changed in their place.
    #[inline]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.room.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether no more can be read.
    pub(super) fn is_full(&self) -> bool {
        self.end - self.start == LARGE
    }

    /// The first `count` bytes have been used.
    #[inline]
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Forgets what is left.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Reads more; 0 when the other side has said everything, or when the buffer is full. Memory is taken only when there
    /// is something to read.
    #[inline]
    pub(crate) fn poll_fill(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.room.is_empty() {
            ready!(socket.poll_read_ready(cx))?;
            self.room = take(SMALL);
        } else if self.end == self.room.len() {
            self.make_room();
        }
        let mut unused = ReadBuf::new(self.room.get_mut(self.end..).unwrap_or_default());
        ready!(Pin::new(socket).poll_read(cx, &mut unused))?;
        let read = unused.filled().len();
        self.end += read;
        self.filled = self.end == self.room.len();
        Poll::Ready(Ok(read))
    }

    /// Moves the bytes to the front; if they fill the room, they need a larger one.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.room.copy_within(self.start..self.end, 0);
        } else if self.room.len() < LARGE {
            let mut larger = take(LARGE);
            if let Some(front) = larger.get_mut(..self.end) {
                front.copy_from_slice(self.bytes());
            }
            let smaller = std::mem::replace(&mut self.room, larger);
            KEPT.with_borrow_mut(|kept| kept.give(smaller));
        }
        self.end -= self.start;
        self.start = 0;
    }

    /// Makes the next read larger, if the last one has left no room, as with large bodies.
    #[inline]
    pub(crate) fn widen(&mut self) {
        if self.filled && self.is_empty() && self.room.len() == SMALL {
            self.release();
            self.room = take(LARGE);
        }
    }

    /// Gives the memory back, if there is nothing in it.
    #[inline]
    pub(crate) fn release(&mut self) {
        if self.is_empty() && !self.room.is_empty() {
            let room = std::mem::take(&mut self.room);
            KEPT.with_borrow_mut(|kept| kept.give(room));
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.clear();
        self.release();
    }
}

/// Bytes to be written, and how many of them were.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    bytes: Vec<u8>,
    sent: usize,
}

impl Scratch {
    /// An empty one.
    #[inline]
    pub(super) fn take() -> Self {
        Self { bytes: KEPT.with_borrow_mut(|kept| kept.scratch.pop()).unwrap_or_default(), sent: 0 }
    }

    /// Where to add more.
    #[inline]
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// All bytes, sent or not.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What is to be written next.
    #[inline]
    pub(super) fn unsent(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// Whether some of it has been written.
    pub(super) fn is_begun(&self) -> bool {
        self.sent > 0
    }

    /// `count` more have been written.
    #[inline]
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count;
    }

    /// As [`Self::advance`]; what is written is not needed again.
    #[inline]
    pub(super) fn advance_and_forget(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
    }

    /// Everything is to be written once more.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        // Room grows by doubling: a head and what is gathered behind it fit in twice their size.
        if (1..=2 * SMALL).contains(&bytes.capacity()) {
            bytes.clear();
            KEPT.with_borrow_mut(|kept| {
                if kept.scratch.len() < KEPT_SMALL {
                    kept.scratch.push(bytes);
                }
            });
        }
    }
}
