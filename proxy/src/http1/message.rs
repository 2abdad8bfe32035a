//! HTTP/1 messages on a buffer of bytes: heads, framing, and how a head is written for the next connection. Nothing here
//! reads or writes a connection.
//!
//! ```text
//! bytes ─scan─► a whole head ─request, response─► what it says (fields, target)  ─rewrite─► bytes for the other side
//!                                                 └─► framing ─► body (chunked)  ─────────► bytes for the other side
//! ```
//!
//! What two readers could read differently is refused ([`Refusal`]), and what is passed on is written anew where readers
//! differ: line ends, framing, chunk extensions, trailers.

mod chunked;
mod fields;
mod framing;
#[cfg(any(test, fuzzing))]
pub mod readers;
mod refusal;
mod request;
mod response;
pub(super) mod rewrite;
mod scan;
mod target;

pub(super) use fields::Fields;
pub(super) use framing::{Body, Framing};
pub(super) use refusal::Refusal;
pub(super) use request::RequestHead;
pub(super) use response::{Asked, ResponseHead};
pub(super) use scan::{HeadScan, empty_lines};

#[cfg(test)]
mod tests;

/// The version that a message's sender speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http10,
    Http11,
}
