//! The chunked coding (RFC 9112 §7.1), read byte by byte and passed on without what readers differ about: extensions and
//! trailers, which any intermediary may discard.

use super::framing::Passed;
use super::refusal::Refusal;

/// Bytes of extensions that a body may have, besides as many as it has content.
const MAX_EXTENSIONS: u64 = 16 * 1024;

/// Bytes of trailers that a body may have.
const MAX_TRAILERS: u32 = 16 * 1024;

/// Digits of a chunk's size. More would not be sizes, and might not fit.
const MAX_DIGITS: u8 = 15;

/// What is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Sizes and content.
    Framing,
    /// Content alone.
    Content,
}

/// A chunked body under way.
#[derive(Clone, Debug)]
pub(in crate::http1) struct Chunks {
    state: State,
    keep: Keep,
    /// The size of the chunk that began last.
    size: u64,
    content: u64,
    extensions: u64,
    trailers: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// After so many digits of a size.
    Size(u8),
    Extension,
    /// After the CR behind a size.
    SizeLf,
    /// In the content, with so much left.
    Content(u64),
    ContentCr,
    ContentLf,
    /// At the beginning of a trailer, or of the last line.
    Trailer,
    InTrailer,
    TrailerLf,
    LastLf,
    Done,
}

impl Chunks {
    pub(super) fn new(keep: Keep) -> Self {
        Self { state: State::Size(0), keep, size: 0, content: 0, extensions: 0, trailers: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Looks at the next bytes, and moves what is to be passed on to their front.
    pub(super) fn pass(&mut self, bytes: &mut [u8]) -> Result<Passed, Refusal> {
        let mut passed = Passed::default();
        while self.state != State::Done && passed.taken < bytes.len() {
            if let State::Content(left) = self.state {
                self.pass_content(bytes, left, &mut passed);
                continue;
            }
            let byte = bytes.get(passed.taken).copied().unwrap_or_default();
            let kept = self.step(byte)?;
            passed.taken += 1;
            if kept && self.keep == Keep::Framing {
                if let Some(place) = bytes.get_mut(passed.kept) {
                    *place = byte;
                }
                passed.kept += 1;
            }
        }
        Ok(passed)
    }

    fn pass_content(&mut self, bytes: &mut [u8], left: u64, passed: &mut Passed) {
        let here = bytes.len() - passed.taken;
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(here);
        if passed.taken != passed.kept {
            bytes.copy_within(passed.taken..passed.taken + count, passed.kept);
        }
        passed.taken += count;
        passed.kept += count;
        passed.content += count as u64;
        self.content += count as u64;
        let left = left - count as u64;
        self.state = if left == 0 { State::ContentCr } else { State::Content(left) };
    }

    /// Goes on by one byte that is no content; whether it is a part of the framing that is passed on.
    fn step(&mut self, byte: u8) -> Result<bool, Refusal> {
        let (next, kept) = match (self.state, byte) {
            (State::Size(digits), byte) => return self.step_size(digits, byte),
            (State::Extension, b'\r') => (State::SizeLf, true),
            (State::Extension, byte) if is_text(byte) => (self.extend()?, false),
            (State::SizeLf, b'\n') if self.size == 0 => (State::Trailer, true),
            (State::SizeLf, b'\n') => (State::Content(self.size), true),
            (State::ContentCr, b'\r') => (State::ContentLf, true),
            (State::ContentLf, b'\n') => (State::Size(0), true),
            (State::Trailer, b'\r') => (State::LastLf, true),
            // A line that begins with white space would go on with the one before.
            (State::Trailer, byte) if is_text(byte) && byte != b' ' && byte != b'\t' => {
                (self.trail()?, false)
            }
            (State::InTrailer, b'\r') => (State::TrailerLf, false),
            (State::InTrailer, byte) if is_text(byte) => (self.trail()?, false),
            (State::TrailerLf, b'\n') => (State::Trailer, false),
            (State::LastLf, b'\n') => (State::Done, true),
            _ => return Err(Refusal::Chunks),
        };
        self.state = next;
        Ok(kept)
    }

    fn step_size(&mut self, digits: u8, byte: u8) -> Result<bool, Refusal> {
        let (next, kept) = match byte {
            b'\r' if digits > 0 => (State::SizeLf, true),
            b';' | b' ' | b'\t' if digits > 0 => (self.extend()?, false),
            _ => {
                let digit = char::from(byte).to_digit(16).filter(|_| digits < MAX_DIGITS);
                let digit = digit.ok_or(Refusal::Chunks)?;
                let so_far = if digits == 0 { 0 } else { self.size };
                self.size = so_far << 4 | u64::from(digit);
                (State::Size(digits + 1), true)
            }
        };
        self.state = next;
        Ok(kept)
    }

    fn extend(&mut self) -> Result<State, Refusal> {
        self.extensions += 1;
        let bound = MAX_EXTENSIONS.saturating_add(self.content);
        if self.extensions > bound { Err(Refusal::Chunks) } else { Ok(State::Extension) }
    }

    fn trail(&mut self) -> Result<State, Refusal> {
        self.trailers += 1;
        if self.trailers > MAX_TRAILERS { Err(Refusal::Chunks) } else { Ok(State::InTrailer) }
    }
}

/// What may stand in a line.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of a body, and what is left behind it.
    fn pass(keep: Keep, body: &str) -> Result<(String, usize), Refusal> {
        let mut bytes = body.as_bytes().to_vec();
        let mut chunks = Chunks::new(keep);
        let passed = chunks.pass(&mut bytes)?;
        assert!(chunks.is_done(), "{body:?} has no end");
        Ok((String::from_utf8_lossy(&bytes[..passed.kept]).into_owned(), body.len() - passed.taken))
    }

    #[test]
    fn a_body_is_passed_on_without_extensions_and_trailers() {
        for (body, framed, content, left) in [
            ("0\r\n\r\n", "0\r\n\r\n", "", 0),
            ("3\r\nabc\r\n0\r\n\r\nGET", "3\r\nabc\r\n0\r\n\r\n", "abc", 3),
            ("0a\r\n0123456789\r\n000\r\n\r\n", "0a\r\n0123456789\r\n000\r\n\r\n", "0123456789", 0),
            ("A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n", "A\r\n0123456789\r\n0\r\n\r\n", "0123456789", 0),
            ("3 ;x\r\nabc\r\n3\t\r\ndef\r\n0;y\r\n\r\n", "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n", "abcdef", 0),
            ("1\r\na\r\n0\r\nX: y\r\nHost: evil\r\n\r\n", "1\r\na\r\n0\r\n\r\n", "a", 0),
        ] {
            assert_eq!(pass(Keep::Framing, body), Ok((framed.to_owned(), left)), "{body:?}");
            assert_eq!(pass(Keep::Content, body), Ok((content.to_owned(), left)), "{body:?}");
        }
    }

    #[test]
    fn what_readers_differ_about_is_refused() {
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "0x1\r\na\r\n",
            "+1\r\na\r\n",
            " 1\r\na\r\n",
            "1\na\r\n",
            "1\r\nab\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\na0\r\n\r\n",
            "1;x\ny\r\na\r\n",
            "1;x\ry\r\na\r\n",
            "1;\0\r\na\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\nX: y\r\n z\r\n\r\n",
            "0\r\nX: \0\r\n\r\n",
            "0\r\nX\ry\r\n\r\n",
            "0\r\n\rx",
            "1000000000000000\r\n",
        ] {
            assert_eq!(pass(Keep::Framing, body), Err(Refusal::Chunks), "{body:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_have_bounds() {
        let long = "x".repeat(usize::try_from(MAX_EXTENSIONS).unwrap() + 1);
        assert_eq!(pass(Keep::Framing, &format!("0;{long}\r\n\r\n")), Err(Refusal::Chunks));
        assert_eq!(pass(Keep::Framing, &format!("0\r\n{long}\r\n\r\n")), Err(Refusal::Chunks));
        let little = "1;0123456789012345678901234567890\r\nx\r\n".repeat(1_000);
        assert_eq!(pass(Keep::Framing, &format!("{little}0\r\n\r\n")), Err(Refusal::Chunks));
        let signed = format!("400;{}\r\n{}\r\n", "s".repeat(80), "x".repeat(0x400)).repeat(1_000);
        assert!(pass(Keep::Framing, &format!("{signed}0\r\n\r\n")).is_ok());
    }
}
