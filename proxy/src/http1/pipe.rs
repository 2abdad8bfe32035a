//! The middle of a large body goes through a pipe of the kernel, which moves pages from one socket to the other and copies
//! nothing (splice(2)).

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Most that is under way. The kernel may grant less: it counts pages of all pipes of a user.
const ROOM: usize = 512 * 1024;
/// Most empty pipes that a thread keeps: 32 descriptors.
const KEPT: usize = 16;

thread_local! {
    #[allow(clippy::vec_box, reason = "the boxes are used again as well")]
    static KEPT_PIPES: RefCell<Vec<Box<Pipe>>> = const { RefCell::new(Vec::new()) };
}

/// A way past our memory, for bytes that nobody here needs to see. It takes a pipe only when it is first used; every idle
/// connection has room for two of these, so they are small.
#[derive(Debug, Default)]
pub(super) struct Bypass(Option<Box<Pipe>>);

impl Bypass {
    /// Whether nothing is under way.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|pipe| pipe.held == 0)
    }

    /// Its pipe, if something is under way.
    #[inline]
    pub(super) fn loaded(&mut self) -> Option<&mut Pipe> {
        self.0.as_deref_mut().filter(|pipe| pipe.held > 0)
    }

    /// Its pipe; none where the kernel has none to give.
    pub(super) fn pipe(&mut self) -> Option<&mut Pipe> {
        if self.0.is_none() {
            self.0 = KEPT_PIPES.with_borrow_mut(Vec::pop).or_else(|| Pipe::open().ok().map(Box::new));
        }
        self.0.as_deref_mut()
    }
}

impl Drop for Bypass {
    /// What is still under way is lost, and its pipe with it.
    fn drop(&mut self) {
        if let Some(pipe) = self.0.take_if(|pipe| pipe.held == 0) {
            KEPT_PIPES.with_borrow_mut(|kept| {
                if kept.len() < KEPT {
                    kept.push(pipe);
                }
            });
        }
    }
}

/// A pipe between two sockets.
#[derive(Debug)]
pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
}

impl Pipe {
    fn open() -> io::Result<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // With less room there are more turns.
        let _ = fcntl_setpipe_size(&into, ROOM);
        Ok(Self { out, into, held: 0 })
    }

    /// Takes up to `most` bytes from a socket; 0 when the other side has said everything. Only while nothing is under way: a
    /// full pipe could not be told from a socket that has nothing.
    pub(super) fn poll_fill(
        &mut self,
        from: &TcpStream,
        most: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.held, 0, "nothing is under way");
        let most = usize::try_from(most).unwrap_or(ROOM).min(ROOM);
        loop {
            ready!(from.poll_read_ready(cx))?;
            let taking = || Ok(splice(from, None, &self.into, None, most, SpliceFlags::NONBLOCK)?);
            match from.try_io(Interest::READABLE, taking) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(taken) => {
                    self.held = taken;
                    return Poll::Ready(Ok(taken));
                }
            }
        }
    }

    /// Gives some of what is under way to a socket.
    pub(super) fn poll_drain(&mut self, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            let giving = || Ok(splice(&self.out, None, to, None, self.held, SpliceFlags::NONBLOCK)?);
            match to.try_io(Interest::WRITABLE, giving) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(given) => {
                    self.held -= given;
                    return Poll::Ready(Ok(given));
                }
            }
        }
    }
}
