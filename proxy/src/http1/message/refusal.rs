//! Why a message is not passed on.

use crate::errors::Reason;

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::http1) enum Refusal {
    #[error("a line does not end with CR LF")]
    BareNewline,
    #[error("the first line is too long")]
    FirstLineTooLong,
    #[error("the head is too long")]
    HeadTooLarge,
    #[error("there are too many fields")]
    TooManyFields,
    #[error("the first line or a field is malformed")]
    Syntax,
    #[error("the version is not 1.0 or 1.1")]
    Version,
    #[error("the method needs a tunnel")]
    Connect,
    #[error("the request target is malformed")]
    Target,
    #[error("there is no Host, or more than one, or it is malformed")]
    Host,
    #[error("the request target has another authority than Host")]
    Authority,
    #[error("Connection is malformed, or nominates a field that must pass")]
    Connection,
    #[error("Content-Length is malformed, or there are several")]
    ContentLength,
    #[error("Transfer-Encoding is not chunked")]
    TransferEncoding,
    #[error("Transfer-Encoding has a coding that is not known")]
    Coding,
    #[error("there are both Content-Length and Transfer-Encoding")]
    TwoFramings,
    #[error("the chunked coding is malformed, or has too much that is no content")]
    Chunks,
    #[error("the status is not one that was asked for")]
    Status,
}

impl Refusal {
    /// What a client is told whose request it is.
    pub(in crate::http1) fn reason(self) -> Reason {
        match self {
            Self::FirstLineTooLong => Reason::UriTooLong,
            Self::HeadTooLarge | Self::TooManyFields => Reason::HeadTooLarge,
            Self::Connect | Self::Coding => Reason::NotImplemented,
            Self::Version => Reason::VersionNotSupported,
            Self::BareNewline
            | Self::Syntax
            | Self::Target
            | Self::Host
            | Self::Authority
            | Self::Connection
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::TwoFramings
            | Self::Chunks
            | Self::Status => Reason::BadRequest,
        }
    }
}

impl From<httparse::Error> for Refusal {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            httparse::Error::Version => Self::Version,
            _ => Self::Syntax,
        }
    }
}
