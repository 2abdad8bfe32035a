//! Where a message's body ends (RFC 9112 §6).

use super::chunked::{Chunks, Keep};
use super::refusal::Refusal;

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http1) enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    Chunked,
    /// All that comes until the connection ends.
    UntilEnd,
}

/// What may be passed on of some bytes of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http1) struct Passed {
    /// Bytes that belong to the body.
    pub(in crate::http1) taken: usize,
    /// The first so many are to be passed on.
    pub(in crate::http1) kept: usize,
    /// Of these, so many are content.
    pub(in crate::http1) content: u64,
}

/// A body under way.
#[derive(Clone, Debug)]
pub(in crate::http1) enum Body {
    Done,
    Length(u64),
    Chunked(Chunks),
    UntilEnd,
}

impl Body {
    /// A body that is passed on with its framing.
    pub(in crate::http1) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunks::new(Keep::Framing)),
            Framing::UntilEnd => Self::UntilEnd,
        }
    }

    /// A body that is passed on without its framing: for clients that do not know the chunked coding.
    pub(in crate::http1) fn content_of(framing: Framing) -> Self {
        match framing {
            Framing::Chunked => Self::Chunked(Chunks::new(Keep::Content)),
            other => Self::new(other),
        }
    }

    /// Whether all of it has passed.
    #[inline]
    pub(in crate::http1) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Looks at the next bytes, and moves what is to be passed on to their front.
    #[inline]
    pub(in crate::http1) fn pass(&mut self, bytes: &mut [u8]) -> Result<Passed, Refusal> {
        let all = |count: usize| Passed { taken: count, kept: count, content: count as u64 };
        match self {
            Self::Done => Ok(Passed::default()),
            Self::UntilEnd => Ok(all(bytes.len())),
            Self::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(all(count))
            }
            Self::Chunked(chunks) => {
                let passed = chunks.pass(bytes)?;
                if chunks.is_done() {
                    *self = Self::Done;
                }
                Ok(passed)
            }
        }
    }

    /// The connection has ended. Whether the body has with it, as it should.
    pub(in crate::http1) fn end(&mut self) -> bool {
        if matches!(self, Self::UntilEnd) {
            *self = Self::Done;
        }
        self.is_done()
    }
}
