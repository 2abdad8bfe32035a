//! Answers that come from the proxy itself, for each carrier to write in its own way.

use std::time::Duration;

use bytes::Bytes;

use crate::action::FixedResponse;
use crate::errors::Reason;

/// Who says so, as far as the client is told.
pub(crate) const SERVER: &str = "evenkeel";

/// A request's body up to this many bytes is read before it is answered here, so that the connection can go on; one that
/// is longer, or slower than [`PATIENCE`], costs its connection.
pub(crate) const SWALLOWED: u64 = 64 * 1024;
/// See [`SWALLOWED`].
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) content_type: Option<&'a str>,
    /// Nobody may keep it for later.
    pub(crate) passing: bool,
    pub(crate) body: Bytes,
}

impl<'a> Answer<'a> {
    /// Sends the client elsewhere.
    pub(crate) fn redirect(status: u16, location: String) -> Self {
        Self { status, location: Some(location), content_type: None, passing: false, body: Bytes::new() }
    }

    /// Answers what a rule says.
    pub(crate) fn fixed(response: &'a FixedResponse) -> Self {
        let content_type = (!response.body.is_empty()).then_some(response.content_type.as_str());
        let body = response.body.clone();
        Self { status: response.status, location: None, content_type, passing: false, body }
    }

    /// Says why no target answers.
    pub(crate) fn error(reason: Reason) -> Self {
        Self {
            status: reason.status(),
            location: None,
            content_type: Some("text/plain; charset=utf-8"),
            passing: true,
            body: Bytes::from_static(reason.sentence().as_bytes()),
        }
    }

    /// RFC 9110 §6.4.1: there is no content, and not even a length of zero is said.
    pub(crate) fn forbids_body(&self) -> bool {
        self.status == 204 || self.status == 304
    }
}
