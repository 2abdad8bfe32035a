//! Where a head ends.

use super::refusal::Refusal;
use crate::errors::{MAX_HEAD, MAX_REQUEST_LINE};

/// Finds the end of a head over as many reads as it takes, looking at each byte once: a head that comes byte by byte costs
/// no more than one that comes at once.
#[derive(Clone, Debug)]
pub(in crate::http1) struct HeadScan {
    /// Bytes that were looked at.
    seen: usize,
    /// Where the line begins that they end in.
    line: usize,
    /// Every line must end with CR LF.
    strict: bool,
    max_first_line: usize,
    max_head: usize,
}

impl HeadScan {
    /// For a request with a head of at most so many bytes, [`MAX_HEAD`] at most. A line that ends with LF alone is refused:
    /// some readers take it for an end and others do not.
    pub(in crate::http1) fn request(max_head: usize) -> Self {
        Self { seen: 0, line: 0, strict: true, max_first_line: MAX_REQUEST_LINE, max_head }
    }

    /// For an answer. LF alone ends a line (RFC 9112 §2.2): the client gets a head that is written anew.
    pub(in crate::http1) fn response() -> Self {
        Self { seen: 0, line: 0, strict: false, max_first_line: MAX_HEAD, max_head: MAX_HEAD }
    }

    /// The length of the head that these bytes begin with, its empty line included; none when more must be read. The bytes
    /// of earlier calls must be the same.
    #[inline]
    pub(in crate::http1) fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        while let Some(at) = memchr::memchr(b'\n', bytes.get(self.seen..).unwrap_or_default()) {
            let end = self.seen + at;
            let text = bytes.get(self.line..end).unwrap_or_default();
            let text = match text.strip_suffix(b"\r") {
                Some(text) => text,
                None if self.strict => return Err(Refusal::BareNewline),
                None => text,
            };
            if self.line == 0 && end >= self.max_first_line {
                return Err(Refusal::FirstLineTooLong);
            }
            self.line = end + 1;
            self.seen = end + 1;
            if text.is_empty() {
                let fits = self.line <= self.max_head;
                return if fits { Ok(Some(self.line)) } else { Err(Refusal::HeadTooLarge) };
            }
        }
        self.seen = bytes.len();
        if self.line == 0 && self.seen >= self.max_first_line {
            return Err(Refusal::FirstLineTooLong);
        }
        if self.seen >= self.max_head { Err(Refusal::HeadTooLarge) } else { Ok(None) }
    }
}

/// Bytes of the empty lines before a request, which are skipped (RFC 9112 §2.2).
#[inline]
pub(in crate::http1) fn empty_lines(bytes: &[u8]) -> usize {
    let mut length = 0;
    while bytes.get(length..).is_some_and(|rest| rest.starts_with(b"\r\n")) {
        length += 2;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line() {
        let (line, head) = ("x".repeat(MAX_REQUEST_LINE), "x".repeat(MAX_HEAD));
        let long_line = format!("GET /{line} HTTP/1.1\r\n\r\n");
        let long_head = format!("GET / HTTP/1.1\r\nx: {head}\r\n\r\n");
        for (bytes, request, response) in [
            ("GET / HTTP/1.1\r\n\r\nbody", Ok(Some(18)), Ok(Some(18))),
            ("GET / HTTP/1.1\r\na: b\r\n\r\n", Ok(Some(24)), Ok(Some(24))),
            ("GET / HTTP/1.1\r\na: b\r\n\r", Ok(None), Ok(None)),
            ("", Ok(None), Ok(None)),
            ("HTTP/1.1 200 OK\na: b\n\nbody", Err(Refusal::BareNewline), Ok(Some(22))),
            ("GET / HTTP/1.1\r\na: b\n\r\n", Err(Refusal::BareNewline), Ok(Some(23))),
            (&long_line, Err(Refusal::FirstLineTooLong), Ok(Some(long_line.len()))),
            (&long_head, Err(Refusal::HeadTooLarge), Err(Refusal::HeadTooLarge)),
        ] {
            assert_eq!(HeadScan::request(MAX_HEAD).find(bytes.as_bytes()), request, "{bytes:.40}");
            assert_eq!(HeadScan::response().find(bytes.as_bytes()), response, "{bytes:.40}");
        }
    }

    #[test]
    fn a_head_that_grows_beyond_its_bounds_is_not_waited_for() {
        let mut scan = HeadScan::request(MAX_HEAD);
        let endless = vec![b'x'; MAX_REQUEST_LINE];
        assert_eq!(scan.find(&endless[..MAX_REQUEST_LINE - 1]), Ok(None));
        assert_eq!(scan.find(&endless), Err(Refusal::FirstLineTooLong));
    }

    #[test]
    fn a_listener_may_take_less() {
        let head = "GET / HTTP/1.1\r\na: b\r\n\r\n";
        for (max_head, bytes, expected) in [
            (24, head, Ok(Some(24))),
            (23, head, Err(Refusal::HeadTooLarge)),
            (20, &head[..19], Ok(None)),
            (20, &head[..20], Err(Refusal::HeadTooLarge)),
        ] {
            assert_eq!(HeadScan::request(max_head).find(bytes.as_bytes()), expected, "{max_head} {bytes:?}");
        }
    }

    #[test]
    fn empty_lines_before_a_request_are_counted() {
        for (bytes, expected) in [("GET", 0), ("\r\nGET", 2), ("\r\n\r\n", 4), ("\r\n\r", 2), ("\nGET", 0)] {
            assert_eq!(empty_lines(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }
}
