//! Why the proxy itself answered, or gave up: the one list behind status, metric label and access-log reason.

use evenkeel_proxy_api::snapshot::Limits;
use pingora_core::{Error, ErrorSource, ErrorType};

/// Why a request was not answered by a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request is not legal HTTP.
    BadRequest,
    /// The client stopped sending its request.
    ClientTimeout,
    /// The request line is longer than [`MAX_REQUEST_LINE`].
    UriTooLong,
    /// The head is longer, or has more fields, than the listener takes.
    HeadTooLarge,
    /// The body is longer than the listener or the rule takes.
    BodyTooLarge,
    /// The method or a coding of the body is not known here.
    NotImplemented,
    /// The request is in a version of HTTP that is not spoken here.
    VersionNotSupported,
    /// The client went away before it had its answer.
    ClientClosed,
    /// The target group has no target that may be used, or none but those just tried in vain.
    NoTarget,
    /// No connection to the target.
    ConnectFailed,
    /// No connection to the target in time.
    ConnectTimeout,
    /// The target closed the connection before its answer was complete.
    TargetClosed,
    /// The target was silent for the listener's idle time-out.
    TargetTimeout,
    /// What the target sent is not legal HTTP.
    BadResponse,
    /// The target left, and its drain's deadline passed.
    DrainDeadline,
    /// A tunnel or session without a byte for the listener's idle time-out.
    IdleTimeout,
    /// A fault of the proxy itself.
    Internal,
}

/// Longest request line, in bytes; as Application Load Balancers have it.
pub const MAX_REQUEST_LINE: usize = 16 * 1024;
/// Longest head, in bytes. A listener may take less.
pub const MAX_HEAD: usize = Limits::MAX_HEAD_BYTES as usize;

impl Reason {
    /// Every reason, in the order in which they are declared.
    pub const ALL: [Self; 17] = [
        Self::BadRequest,
        Self::ClientTimeout,
        Self::UriTooLong,
        Self::HeadTooLarge,
        Self::BodyTooLarge,
        Self::NotImplemented,
        Self::VersionNotSupported,
        Self::ClientClosed,
        Self::NoTarget,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::TargetClosed,
        Self::TargetTimeout,
        Self::BadResponse,
        Self::DrainDeadline,
        Self::IdleTimeout,
        Self::Internal,
    ];

    /// Status of the answer. For [`Reason::ClientClosed`], which nobody reads, what Elastic Load Balancing logs.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::ClientTimeout => 408,
            Self::UriTooLong => 414,
            Self::HeadTooLarge => 431,
            Self::BodyTooLarge => 413,
            Self::NotImplemented => 501,
            Self::VersionNotSupported => 505,
            Self::ClientClosed => 460,
            Self::Internal => 500,
            Self::ConnectFailed | Self::TargetClosed | Self::BadResponse | Self::DrainDeadline => 502,
            Self::NoTarget => 503,
            Self::ConnectTimeout | Self::TargetTimeout | Self::IdleTimeout => 504,
        }
    }

    /// One word, for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::ClientTimeout => "ClientTimeout",
            Self::UriTooLong => "UriTooLong",
            Self::HeadTooLarge => "HeadTooLarge",
            Self::BodyTooLarge => "BodyTooLarge",
            Self::NotImplemented => "NotImplemented",
            Self::VersionNotSupported => "VersionNotSupported",
            Self::ClientClosed => "ClientClosed",
            Self::NoTarget => "NoTarget",
            Self::ConnectFailed => "ConnectFailed",
            Self::ConnectTimeout => "ConnectTimeout",
            Self::TargetClosed => "TargetClosed",
            Self::TargetTimeout => "TargetTimeout",
            Self::BadResponse => "BadResponse",
            Self::DrainDeadline => "DrainDeadline",
            Self::IdleTimeout => "IdleTimeout",
            Self::Internal => "Internal",
        }
    }

    /// A sentence for the answer's body. It names no address and no name: strangers read it.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::BadRequest => "400 Bad Request: the request is not legal HTTP.\n",
            Self::ClientTimeout => "408 Request Timeout: the request did not arrive in time.\n",
            Self::UriTooLong => "414 URI Too Long: the request line exceeds 16 KiB.\n",
            Self::HeadTooLarge => {
                "431 Request Header Fields Too Large: the head exceeds what is taken here.\n"
            }
            Self::BodyTooLarge => "413 Content Too Large: the body exceeds what is taken here.\n",
            Self::NotImplemented => "501 Not Implemented: the method or a coding is not known here.\n",
            Self::VersionNotSupported => "505 HTTP Version Not Supported.\n",
            Self::ClientClosed => "460 Client Closed Request.\n",
            Self::NoTarget => "503 Service Unavailable: no target can take the request.\n",
            Self::ConnectFailed => "502 Bad Gateway: the target cannot be reached.\n",
            Self::TargetClosed => "502 Bad Gateway: the target closed the connection.\n",
            Self::BadResponse => "502 Bad Gateway: the target's answer is not legal HTTP.\n",
            Self::DrainDeadline => "502 Bad Gateway: the target left before it answered.\n",
            Self::ConnectTimeout => "504 Gateway Timeout: the target cannot be reached in time.\n",
            Self::TargetTimeout | Self::IdleTimeout => {
                "504 Gateway Timeout: the target did not answer in time.\n"
            }
            Self::Internal => "500 Internal Server Error: the proxy failed.\n",
        }
    }

    /// Whether a target, and not its client or the proxy, is to blame.
    pub const fn blames_target(self) -> bool {
        matches!(
            self,
            Self::ConnectFailed
                | Self::ConnectTimeout
                | Self::TargetClosed
                | Self::TargetTimeout
                | Self::BadResponse
        )
    }

    /// Reads an error of Pingora's. `connected` says whether there was a connection to the target.
    pub fn of(error: &Error, connected: bool) -> Self {
        match error.esource() {
            ErrorSource::Upstream if connected => Self::of_target(error.etype()),
            ErrorSource::Upstream => Self::of_connect(error.etype()),
            ErrorSource::Downstream => Self::of_client(error.etype()),
            ErrorSource::Internal | ErrorSource::Unset => Self::Internal,
        }
    }

    fn of_connect(etype: &ErrorType) -> Self {
        match etype {
            ErrorType::ConnectTimedout => Self::ConnectTimeout,
            _ => Self::ConnectFailed,
        }
    }

    fn of_target(etype: &ErrorType) -> Self {
        match etype {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => Self::TargetTimeout,
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => Self::TargetClosed,
            _ => Self::BadResponse,
        }
    }

    fn of_client(etype: &ErrorType) -> Self {
        match etype {
            ErrorType::ReadTimedout => Self::ClientTimeout,
            ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::ConnectionClosed
            | ErrorType::H2Error => Self::ClientClosed,
            _ => Self::BadRequest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sentence_begins_with_its_status() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "counters are found by it");
            assert!(reason.sentence().starts_with(&reason.status().to_string()), "{reason:?}");
            assert!(reason.sentence().ends_with('\n'), "{reason:?}");
            assert_eq!(reason.as_str(), format!("{reason:?}"));
        }
    }

    #[test]
    fn an_error_is_put_where_it_belongs() {
        type Source = fn(Box<Error>) -> Box<Error>;
        let (up, down, inside): (Source, Source, Source) =
            (|error| error.into_up(), |error| error.into_down(), |error| error.into_in());
        let of = |etype, source: Source, connected| Reason::of(&source(Error::new(etype)), connected);
        for (etype, source, connected, reason) in [
            (ErrorType::ConnectTimedout, up, false, Reason::ConnectTimeout),
            (ErrorType::ConnectRefused, up, false, Reason::ConnectFailed),
            (ErrorType::ReadTimedout, up, true, Reason::TargetTimeout),
            (ErrorType::ConnectionClosed, up, true, Reason::TargetClosed),
            (ErrorType::InvalidHTTPHeader, up, true, Reason::BadResponse),
            (ErrorType::ReadTimedout, down, true, Reason::ClientTimeout),
            (ErrorType::WriteError, down, true, Reason::ClientClosed),
            (ErrorType::InvalidHTTPHeader, down, false, Reason::BadRequest),
            (ErrorType::InternalError, inside, true, Reason::Internal),
        ] {
            assert_eq!(of(etype.clone(), source, connected), reason, "{etype:?} connected={connected}");
        }
    }
}
