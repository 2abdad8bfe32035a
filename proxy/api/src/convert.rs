//! From domain to wire and back. What comes from the wire is not trusted: whatever the types cannot hold is an error that
//! names the field, and nothing panics.

#[cfg(any(test, fuzzing))]
mod again;
mod decode;
mod encode;

#[cfg(any(test, fuzzing))]
pub use again::again;
pub use decode::{listener, target_group};
pub use encode::{listener_message, target_group_message};
