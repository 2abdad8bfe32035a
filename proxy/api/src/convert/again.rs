//! What is taken from the wire says the same when it is sent on. For tests and for the fuzzer (`fuzz/`).

use std::fmt::Debug;

use prost::Message;

use super::{listener, listener_message, target_group, target_group_message};
use crate::proto;
use crate::validate::Invalid;

/// Takes these bytes for a listener, and for a target group.
///
/// # Errors
/// It says something else when it is sent on.
pub fn again(bytes: &[u8]) -> Result<(), String> {
    same(proto::Listener::decode(bytes).ok(), listener, |taken| listener_message("name", taken))?;
    same(proto::TargetGroup::decode(bytes).ok(), target_group, |taken| target_group_message("name", taken))
}

fn same<M, T: Debug + PartialEq>(
    message: Option<M>,
    take: impl Fn(M) -> Result<T, Invalid>,
    send: impl Fn(&T) -> M,
) -> Result<(), String> {
    let Some(taken) = message.and_then(|message| take(message).ok()) else { return Ok(()) };
    match take(send(&taken)) {
        Ok(again) if again == taken => Ok(()),
        other => Err(format!("{taken:?} becomes {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fuzzer_keeps_says_the_same_when_it_is_sent_on() {
        let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/snapshots");
        let mut taken = 0;
        for file in std::fs::read_dir(kept).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert_eq!(again(&bytes), Ok(()));
            taken += usize::from(
                proto::Listener::decode(&bytes[..]).is_ok_and(|message| listener(message).is_ok()),
            );
        }
        assert!(taken > 0, "some of it is taken");
    }
}
