//! Fields that say something of the connection or the framing, and what they say.

use std::mem::MaybeUninit;

use super::refusal::Refusal;

/// A field as it stands in a head.
pub(super) type Field<'b> = httparse::Header<'b>;

/// Most fields of a head.
const MAX_FIELDS: usize = 256;

/// Most options of `Connection`, as in Pingora.
const MAX_OPTIONS: usize = 10;

/// Room for the fields of one head.
pub(in crate::http1) struct Fields<'b>(pub(super) [MaybeUninit<Field<'b>>; MAX_FIELDS]);

impl Fields<'_> {
    /// Room, on the stack.
    #[inline]
    pub(in crate::http1) fn room() -> Self {
        Self([const { MaybeUninit::uninit() }; MAX_FIELDS])
    }
}

/// A field's name, where this module has something to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Upgrade,
    Expect,
    /// `X-Forwarded-For`.
    ForwardedFor,
    /// `X-Forwarded-Proto`, `-Port`, `-Host`: replaced.
    Forwarded,
    /// Another that belongs to one connection.
    HopByHop,
    Other,
}

impl Name {
    /// Reads a field's name.
    #[inline]
    pub(super) fn of(name: &str) -> Self {
        let is = |expected: &str, meaning| {
            if name.eq_ignore_ascii_case(expected) { meaning } else { Self::Other }
        };
        match (name.len(), name.as_bytes().first().map(u8::to_ascii_lowercase)) {
            (4, Some(b'h')) => is("host", Self::Host),
            (10, Some(b'c')) => is("connection", Self::Connection),
            (14, Some(b'c')) => is("content-length", Self::ContentLength),
            (17, Some(b't')) => is("transfer-encoding", Self::TransferEncoding),
            (7, Some(b'u')) => is("upgrade", Self::Upgrade),
            (6, Some(b'e')) => is("expect", Self::Expect),
            (15, Some(b'x')) => is("x-forwarded-for", Self::ForwardedFor),
            (17, Some(b'x')) => is("x-forwarded-proto", Self::Forwarded),
            (16, Some(b'x')) if name.eq_ignore_ascii_case("x-forwarded-port") => Self::Forwarded,
            (16, Some(b'x')) => is("x-forwarded-host", Self::Forwarded),
            (10, Some(b'k')) => is("keep-alive", Self::HopByHop),
            (16, Some(b'p')) => is("proxy-connection", Self::HopByHop),
            (18, Some(b'p')) => is("proxy-authenticate", Self::HopByHop),
            (19, Some(b'p')) => is("proxy-authorization", Self::HopByHop),
            (2, Some(b't')) => is("te", Self::HopByHop),
            (7, Some(b't')) => is("trailer", Self::HopByHop),
            (14, Some(b'h')) => is("http2-settings", Self::HopByHop),
            _ => Self::Other,
        }
    }
}

/// What `Connection` says.
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// It nominates other fields: [`nominates`] finds them.
    pub(super) nominating: bool,
    count: usize,
}

impl Options {
    /// Reads one more `Connection`.
    pub(super) fn add(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for option in options(value) {
            self.count += 1;
            if self.count > MAX_OPTIONS || !option.iter().all(|byte| is_token(*byte)) {
                return Err(Refusal::Connection);
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.nominating = true;
            }
        }
        Ok(())
    }
}

/// The options of one `Connection`.
pub(super) fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
}

/// Whether some `Connection` of a head nominates this field.
pub(super) fn nominates(fields: &[Field<'_>], name: &str) -> bool {
    let connections = fields.iter().filter(|field| Name::of(field.name) == Name::Connection);
    connections
        .flat_map(|field| options(field.value))
        .any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads a `Content-Length`: digits and nothing else. More than 18 would not fit.
#[inline]
pub(super) fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

/// Reads a `Transfer-Encoding`. `chunked` alone is known; with another coding before it a message can still be delimited,
/// without it not.
pub(super) fn coding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let last = codings.next_back().unwrap_or_default();
    let others_are_unknown = codings.all(|coding| !coding.is_empty() && !is_chunked(coding));
    Err(if is_chunked(last) && others_are_unknown { Refusal::Coding } else { Refusal::TransferEncoding })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_however_they_are_written() {
        for (name, expected) in [
            ("Host", Name::Host),
            ("HOST", Name::Host),
            ("hosT", Name::Host),
            ("Hose", Name::Other),
            ("content-LENGTH", Name::ContentLength),
            ("Transfer-Encoding", Name::TransferEncoding),
            ("X-Forwarded-For", Name::ForwardedFor),
            ("X-Forwarded-Proto", Name::Forwarded),
            ("X-Forwarded-Port", Name::Forwarded),
            ("X-Forwarded-Host", Name::Forwarded),
            ("X-Forwarded-Hosts", Name::Other),
            ("TE", Name::HopByHop),
            ("Proxy-Authorization", Name::HopByHop),
            ("HTTP2-Settings", Name::HopByHop),
        ] {
            assert_eq!(Name::of(name), expected, "{name}");
        }
    }

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        for (value, expected) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("007", Some(7)),
            ("999999999999999999", Some(999_999_999_999_999_999)),
            ("1000000000000000000", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("1,1", None),
            ("0x1", None),
            ("1e3", None),
        ] {
            assert_eq!(length(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn chunked_alone_is_a_coding_that_is_known() {
        for (value, expected) in [
            ("chunked", Ok(())),
            ("Chunked", Ok(())),
            ("gzip, chunked", Err(Refusal::Coding)),
            ("gzip", Err(Refusal::TransferEncoding)),
            ("chunked, gzip", Err(Refusal::TransferEncoding)),
            ("chunked, chunked", Err(Refusal::TransferEncoding)),
            (", chunked", Err(Refusal::TransferEncoding)),
            ("chunked,", Err(Refusal::TransferEncoding)),
            ("x chunked", Err(Refusal::TransferEncoding)),
            ("chunked;a=b", Err(Refusal::TransferEncoding)),
            ("\x0bchunked", Err(Refusal::TransferEncoding)),
            ("", Err(Refusal::TransferEncoding)),
        ] {
            assert_eq!(coding(value.as_bytes()), expected, "{value:?}");
        }
    }
}
