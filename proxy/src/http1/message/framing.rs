//! Where a message's body ends (RFC 9112 §6).

use super::chunked::{Chunks, Keep};
use super::refusal::Refusal;

/// The end of a body is looked at: something may follow that does not belong to it.
const SEEN: u64 = 256 * 1024;

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

    /// So many of the next bytes need no looking at: they are content, and not the last of it.
    pub(in crate::http1) fn unseen(&self) -> Option<u64> {
        match self {
            Self::Length(left) => left.checked_sub(SEEN).filter(|unseen| *unseen > 0),
            Self::Done | Self::Chunked(_) | Self::UntilEnd => None,
        }
    }

    /// So many of [`Self::unseen`] have passed.
    pub(in crate::http1) fn pass_unseen(&mut self, count: usize) {
        if let Self::Length(left) = self {
            *left = left.saturating_sub(count as u64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_large_body_of_known_length_need_not_be_seen() {
        let large = SEEN + 10;
        for (framing, unseen) in [
            (Framing::Length(large), Some(10)),
            (Framing::Length(SEEN), None),
            (Framing::Length(SEEN - 1), None),
            (Framing::None, None),
            (Framing::Chunked, None),
            (Framing::UntilEnd, None),
        ] {
            assert_eq!(Body::new(framing).unseen(), unseen, "{framing:?}");
        }
        let mut body = Body::new(Framing::Length(large));
        body.pass_unseen(10);
        assert_eq!(body.unseen(), None);
        let mut rest = vec![0; SEEN as usize + 1];
        assert_eq!(body.pass(&mut rest).map(|passed| passed.taken as u64).ok(), Some(SEEN));
        assert!(body.is_done());
    }
}
