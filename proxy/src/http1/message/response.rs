//! The head of an answer.

use super::Version;
use super::fields::{Field, Fields, Name, Options, coding, length};
use super::framing::Framing;
use super::refusal::Refusal;

/// An answer's head, borrowed from the bytes it was read from.
#[derive(Debug)]
pub(in crate::http1) struct ResponseHead<'h, 'b> {
    pub(in crate::http1) status: u16,
    pub(super) reason: &'b str,
    pub(super) fields: &'h [Field<'b>],
    pub(in crate::http1) framing: Framing,
    /// As the target says, also where there is no body.
    pub(super) length: Option<u64>,
    /// The target takes another request on this connection.
    pub(in crate::http1) keep_alive: bool,
    /// `Connection` nominates other fields.
    pub(super) nominating: bool,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http1) struct Asked {
    /// With `HEAD`: the answer has no body, whatever it says.
    pub(in crate::http1) head: bool,
    /// A tunnel.
    pub(in crate::http1) upgrade: bool,
}

/// The answer to an upgrade.
pub(super) const SWITCHING_PROTOCOLS: u16 = 101;

impl<'h, 'b> ResponseHead<'h, 'b> {
    /// Reads a whole head.
    pub(in crate::http1) fn parse(
        head: &'b [u8],
        asked: Asked,
        room: &'h mut Fields<'b>,
    ) -> Result<Self, Refusal> {
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, head, &mut room.0)? {
            httparse::Status::Complete(_) => {}
            httparse::Status::Partial => return Err(Refusal::Syntax),
        }
        let status = parsed.code.unwrap_or_default();
        if !(100..=999).contains(&status) || (status == SWITCHING_PROTOCOLS && !asked.upgrade) {
            return Err(Refusal::Status);
        }
        let version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
        let fields: &'h [Field<'b>] = parsed.headers;
        let said = Said::in_fields(fields)?;
        let framing = said.framing(status, asked, version)?;
        let current = version == Version::Http11;
        Ok(Self {
            status,
            reason: parsed.reason.unwrap_or_default(),
            fields,
            framing,
            length: said.length.filter(|_| !said.chunked),
            keep_alive: !said.options.close
                && (current || said.options.keep_alive)
                && framing != Framing::UntilEnd
                && !(said.chunked && said.length.is_some()),
            nominating: said.options.nominating,
        })
    }

    /// Another head follows.
    pub(in crate::http1) fn is_interim(&self) -> bool {
        self.status < 200 && !self.is_switch()
    }

    /// From here on both sides say what they like.
    pub(in crate::http1) fn is_switch(&self) -> bool {
        self.status == SWITCHING_PROTOCOLS
    }
}

/// What the fields say that matters here.
#[derive(Default)]
struct Said {
    options: Options,
    length: Option<u64>,
    chunked: bool,
}

impl Said {
    fn in_fields(fields: &[Field<'_>]) -> Result<Self, Refusal> {
        let mut said = Self::default();
        for field in fields {
            match Name::of(field.name) {
                Name::Connection => said.options.add(field.value)?,
                Name::ContentLength => said.measured(field.value)?,
                Name::TransferEncoding if said.chunked => return Err(Refusal::TransferEncoding),
                Name::TransferEncoding => {
                    coding(field.value)?;
                    said.chunked = true;
                }
                _ => {}
            }
        }
        Ok(said)
    }

    /// A length that is said twice is no harm: it is passed on once.
    fn measured(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let length = length(value).ok_or(Refusal::ContentLength)?;
        if self.length.is_some_and(|known| known != length) {
            return Err(Refusal::ContentLength);
        }
        self.length = Some(length);
        Ok(())
    }

    /// RFC 9112 §6.3. With two framings the chunked coding holds, and the connection ends after it.
    fn framing(&self, status: u16, asked: Asked, version: Version) -> Result<Framing, Refusal> {
        if self.chunked && version == Version::Http10 {
            return Err(Refusal::TransferEncoding);
        }
        if asked.head || status < 200 || status == 204 || status == 304 {
            return Ok(Framing::None);
        }
        Ok(match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilEnd,
        })
    }
}
