//! From domain to wire and back. What comes from the wire is not trusted: whatever the types cannot hold is an error that
//! names the field, and nothing panics.

mod decode;
mod encode;

pub use decode::{listener, target_group};
pub use encode::{listener_message, target_group_message};
