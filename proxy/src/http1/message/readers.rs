//! What others find in what is passed on. A message does no harm as long as who reads it next finds in it what was found
//! here: the same messages with the same fields and bodies, and nothing between them or behind them. A reader that refuses
//! what passes here harms nobody but its sender.
//!
//! ```text
//! recipe ─► bytes of a stranger ─carried─► bytes for the next reader ─► hyper, Pingora ─► what they find
//!                                  └─────► what was meant ────────────────────────────────────┴─► the same?
//! ```
//!
//! For tests and for the fuzzer (`fuzz/`).

use std::collections::BTreeMap;

use super::Version;
use super::response::Asked;

mod carried;
mod others;
mod recipe;

use carried::{Carried, Carry};
pub use recipe::prepare;

/// A message, as someone reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Message {
    /// Method and target, or the status.
    first: String,
    /// Values, as escaped, by name, in lower case.
    fields: BTreeMap<String, Vec<String>>,
    /// The content.
    body: Vec<u8>,
    /// The content has come to its end.
    whole: bool,
    /// The connection's end is the content's: a reset tells who reads it that it is not whole.
    until_end: bool,
}

impl Message {
    fn add(&mut self, name: &str, value: &[u8]) {
        self.fields.entry(name.to_ascii_lowercase()).or_default().push(value.escape_ascii().to_string());
    }

    fn values(&self, name: &str) -> &[String] {
        self.fields.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether somebody else has found what was meant here.
    fn is_read_as(&self, found: &Self) -> bool {
        let bodies = if self.whole { found.body == self.body } else { self.body.starts_with(&found.body) };
        let ends = found.whole == self.whole || self.until_end;
        found.first == self.first && found.fields == self.fields && bodies && ends
    }
}

/// Somebody who reads messages.
struct Reader {
    name: &'static str,
    /// Reads messages, the first of which is the answer to this. None when they are refused.
    read: fn(&[u8], Asked) -> Option<Message>,
}

/// Bytes that a client has sent: what is passed on of them is read alike by everybody, and does not depend on the pieces
/// in which they come.
///
/// # Errors
/// Who reads what differently.
pub fn requests(bytes: &[u8]) -> Result<(), String> {
    let carried = carry_alike(bytes, Carry::requests)?;
    let found = others::requests_by_hyper(&carried.out);
    for (number, (_, meant)) in carried.meant.iter().enumerate() {
        match found.messages.get(number) {
            Some(found) if meant.is_read_as(found) => {}
            None if found.refused => break,
            found => return Err(differs("hyper", meant, found, &carried.out)),
        }
    }
    if found.messages.len() > carried.meant.len() {
        return Err(differs("hyper", &Message::default(), found.messages.last(), &carried.out));
    }
    let pingora = Reader { name: "Pingora", read: |bytes, _| others::request_by_pingora(bytes) };
    each_alone(&carried, Asked::default(), &pingora)
}

/// Bytes that a target has sent, whatever it was asked for: as [`requests`].
///
/// # Errors
/// Who reads what differently.
pub fn answers(bytes: &[u8]) -> Result<(), String> {
    let (get, current) = (Asked::default(), Version::Http11);
    let head = Asked { head: true, ..get };
    let upgrade = Asked { upgrade: true, ..get };
    for (asked, version) in [(get, current), (get, Version::Http10), (head, current), (upgrade, current)] {
        let carried = carry_alike(bytes, || Carry::answer(asked, version))?;
        let hyper = Reader { name: "hyper", read: others::answer_by_hyper };
        let pingora = Reader { name: "Pingora", read: others::answer_by_pingora };
        each_alone(&carried, asked, &hyper)?;
        each_alone(&carried, asked, &pingora)?;
    }
    Ok(())
}

/// Carries bytes at once and one by one.
fn carry_alike(bytes: &[u8], carry: impl Fn() -> Carry) -> Result<Carried, String> {
    let at_once = carry().all(bytes, bytes.len().max(1))?;
    let one_by_one = carry().all(bytes, 1)?;
    let same = if at_once.refused {
        // What had passed before depends on when it was noticed.
        one_by_one.refused && at_once.meant.len() == one_by_one.meant.len()
    } else {
        at_once == one_by_one
    };
    if same { Ok(at_once) } else { Err(format!("it depends on the pieces: {at_once:#?}, {one_by_one:#?}")) }
}

/// Has a reader read what was passed on from the beginning of each message.
fn each_alone(carried: &Carried, asked: Asked, reader: &Reader) -> Result<(), String> {
    for (begin, meant) in &carried.meant {
        let bytes = carried.out.get(*begin..).unwrap_or_default();
        let found = (reader.read)(bytes, asked);
        if found.as_ref().is_some_and(|found| !meant.is_read_as(found)) {
            return Err(differs(reader.name, meant, found.as_ref(), bytes));
        }
    }
    Ok(())
}

fn differs(name: &str, meant: &Message, found: Option<&Message>, bytes: &[u8]) -> String {
    let bytes = bytes.escape_ascii();
    format!("{name} reads it differently.\nmeant: {meant:#?}\nfound: {found:#?}\nin \"{bytes}\"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the fuzzer begins with: messages by name, and what it has found to reach more than those.
    fn kept(target: &str) -> Vec<Vec<u8>> {
        let named = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let found = format!("{named}/found");
        let files = [named, found].map(|directory| std::fs::read_dir(directory).unwrap());
        let files = files.into_iter().flatten().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| path.is_file()).collect();
        files.sort();
        files.iter().map(|file| std::fs::read(file).unwrap()).collect()
    }

    /// One or two kept messages, with a few changes.
    fn recipes(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
        let kept = prop::collection::vec(prop::sample::select(kept(target)), 1..3);
        let place = any::<prop::sample::Index>();
        let changes = prop::collection::vec((place, 0..3_u8, 0x80_u8..), 0..4);
        (kept, changes).prop_map(|(kept, changes)| {
            let mut recipe = kept.concat();
            for (place, kind, part) in changes {
                let place = place.index(recipe.len().max(1));
                match kind {
                    0 => recipe.insert(place, part),
                    1 if place < recipe.len() => recipe[place] = part,
                    2 if place < recipe.len() => drop(recipe.remove(place)),
                    _ => {}
                }
            }
            recipe
        })
    }

    #[test]
    fn what_was_kept_is_read_alike_by_everybody() {
        for recipe in kept("requests") {
            assert_eq!(requests(&prepare(&recipe)), Ok(()));
        }
        for recipe in kept("answers") {
            assert_eq!(answers(&prepare(&recipe)), Ok(()));
        }
    }

    #[test]
    fn ordinary_messages_are_refused_by_nobody() {
        let bytes = b"POST /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX: y\r\n\r\n\
            GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok";
        let carried = Carry::requests().all(bytes, 1).unwrap();
        assert_eq!((carried.meant.len(), carried.refused), (2, false));
        let found = others::requests_by_hyper(&carried.out);
        assert_eq!((found.messages.len(), found.refused), (2, false));
        assert_eq!(found.messages[0].body, b"hello");
        let found = others::request_by_pingora(&carried.out).expect("it reads it");
        assert_eq!((found.body, found.whole), (b"hello".to_vec(), true));
        let answer = b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        for read in [others::answer_by_hyper, others::answer_by_pingora] {
            let found = read(answer, Asked::default()).expect("it reads it");
            assert_eq!((found.first.as_str(), found.body, found.whole), ("200", b"ok".to_vec(), true));
        }
    }

    #[test]
    fn a_difference_is_found() {
        let meant = Carry::requests().all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1).unwrap();
        let smuggled = [&meant.out[..], b"GET /more HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        assert_eq!(others::requests_by_hyper(&smuggled).messages.len(), 2);
        let mut found = others::request_by_pingora(&meant.out).expect("it reads it");
        assert!(meant.meant[0].1.is_read_as(&found));
        found.body.push(b'x');
        assert!(!meant.meant[0].1.is_read_as(&found));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn requests_that_are_passed_on_are_read_alike_by_everybody(recipe in recipes("requests")) {
            prop_assert_eq!(requests(&prepare(&recipe)), Ok(()));
        }

        #[test]
        fn answers_that_are_passed_on_are_read_alike_by_everybody(recipe in recipes("answers")) {
            prop_assert_eq!(answers(&prepare(&recipe)), Ok(()));
        }
    }
}
