//! The head of a request.

use super::Version;
use super::fields::{Field, Fields, Name, Options, coding, length};
use super::framing::Framing;
use super::refusal::Refusal;
use super::target::{Target, is_host};

/// A request's head, borrowed from the bytes it was read from.
#[allow(clippy::struct_excessive_bools, reason = "each is said by a field of its own")]
#[derive(Debug)]
pub(in crate::http1) struct RequestHead<'h, 'b> {
    pub(in crate::http1) method: &'b str,
    pub(super) target: Target<'b>,
    pub(in crate::http1) version: Version,
    /// As in `Host`.
    pub(super) host: Option<&'b str>,
    pub(super) fields: &'h [Field<'b>],
    pub(in crate::http1) framing: Framing,
    /// The client may send another request after this one.
    pub(in crate::http1) keep_alive: bool,
    /// The client asks for a WebSocket. Other upgrades are not passed on, as in Pingora.
    pub(in crate::http1) upgrade: bool,
    /// The client sends the body when it is asked to.
    pub(in crate::http1) expects_continue: bool,
    /// `Connection` nominates other fields.
    pub(super) nominating: bool,
}

impl<'h, 'b> RequestHead<'h, 'b> {
    /// Reads a whole head.
    pub(in crate::http1) fn parse(head: &'b [u8], room: &'h mut Fields<'b>) -> Result<Self, Refusal> {
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, &mut room.0) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Refusal::Syntax),
            Err(httparse::Error::Version) if !names_version(head) => return Err(Refusal::Syntax),
            Err(error) => return Err(error.into()),
        }
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return Err(Refusal::Syntax) };
        if method == "CONNECT" {
            return Err(Refusal::Connect);
        }
        let version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
        let target = Target::parse(method, target)?;
        let fields: &'h [Field<'b>] = parsed.headers;
        let said = Said::in_fields(fields)?;
        check_authority(&target, said.host, version)?;
        let framing = said.framing(version)?;
        let current = version == Version::Http11;
        Ok(Self {
            method,
            target,
            version,
            host: said.host,
            fields,
            framing,
            keep_alive: !said.options.close && (current || said.options.keep_alive),
            upgrade: current && said.options.upgrade && said.websocket && framing == Framing::None,
            expects_continue: current && said.expects_continue,
            nominating: said.options.nominating,
        })
    }

    /// The authority that the request is for: the target's own (RFC 9112 §3.2.2), or `Host`.
    pub(in crate::http1) fn authority(&self) -> &'b str {
        self.target.authority.or(self.host).unwrap_or_default()
    }

    /// The path, without the query.
    pub(in crate::http1) fn path(&self) -> &'b str {
        self.target.path
    }

    /// The query, without its question mark.
    pub(in crate::http1) fn query(&self) -> Option<&'b str> {
        self.target.query
    }

    /// How many fields there are.
    pub(in crate::http1) fn field_count(&self) -> usize {
        self.fields.len()
    }

    /// The values of a field, in order.
    pub(in crate::http1) fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
}

/// What the fields say that matters here.
#[derive(Default)]
struct Said<'b> {
    host: Option<&'b str>,
    options: Options,
    length: Option<u64>,
    chunked: bool,
    websocket: bool,
    expects_continue: bool,
}

impl<'b> Said<'b> {
    fn in_fields(fields: &[Field<'b>]) -> Result<Self, Refusal> {
        let mut said = Self::default();
        for field in fields {
            match Name::of(field.name) {
                Name::Host => said.hosted(field.value)?,
                Name::Connection => said.options.add(field.value)?,
                Name::ContentLength if said.length.is_some() => return Err(Refusal::ContentLength),
                Name::ContentLength => {
                    said.length = Some(length(field.value).ok_or(Refusal::ContentLength)?);
                }
                Name::TransferEncoding if said.chunked => return Err(Refusal::TransferEncoding),
                Name::TransferEncoding => {
                    coding(field.value)?;
                    said.chunked = true;
                }
                Name::Upgrade => said.websocket |= field.value.eq_ignore_ascii_case(b"websocket"),
                Name::Expect => said.expects_continue |= field.value.eq_ignore_ascii_case(b"100-continue"),
                Name::ForwardedFor | Name::Forwarded | Name::HopByHop | Name::Other => {}
            }
        }
        if said.options.nominating && ESSENTIAL.iter().any(|name| super::fields::nominates(fields, name)) {
            return Err(Refusal::Connection);
        }
        Ok(said)
    }

    fn hosted(&mut self, value: &'b [u8]) -> Result<(), Refusal> {
        let host = std::str::from_utf8(value).ok().filter(|host| is_host(host.as_bytes()));
        match (self.host, host) {
            (None, Some(host)) => {
                self.host = Some(host);
                Ok(())
            }
            _ => Err(Refusal::Host),
        }
    }

    fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::TwoFramings),
            // RFC 9112 §6.1
            (true, None) if version == Version::Http10 => Err(Refusal::TransferEncoding),
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) => Ok(Framing::Length(length)),
            (false, None) => Ok(Framing::None),
        }
    }
}

/// Fields that a client cannot have removed by nominating them.
const ESSENTIAL: [&str; 7] = [
    "host",
    "content-length",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
];

/// RFC 9112 §3.2
fn check_authority(target: &Target<'_>, host: Option<&str>, version: Version) -> Result<(), Refusal> {
    match (target.authority, host) {
        (_, None) if version == Version::Http11 => Err(Refusal::Host),
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => Err(Refusal::Authority),
        _ => Ok(()),
    }
}

/// Whether the first line ends with the name of a version, be it one that is not spoken here.
fn names_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    matches!(last, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}
