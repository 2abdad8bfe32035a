//! Patterns of conditions: `*` stands for any characters, `?` for exactly one byte, a backslash takes the next character
//! literally. Compiled once; matching allocates nothing and looks at no byte of the text more often than the pattern is
//! long, whatever the text.

/// Whether upper and lower case (ASCII) differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// They do.
    Sensitive,
    /// They do not.
    Insensitive,
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    case: Case,
    shape: Shape,
}

/// Texts between stars. Most patterns have at most one star, and those need no search.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// No star.
    Whole(Literal),
    /// `start*end`; both may be empty.
    Ends { start: Literal, end: Literal },
    /// `start*middle*…*end`.
    Middles { start: Literal, middles: Box<[Literal]>, end: Literal },
}

/// What every text that fits a pattern begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Up to the first place where such texts differ. Lower case where case does not matter.
    pub(crate) bytes: Box<[u8]>,
    /// They do not differ anywhere.
    pub(crate) is_all: bool,
}

/// A text in which `None` stands for any byte. Lower case where case does not matter.
type Literal = Box<[Option<u8>]>;

impl Pattern {
    /// Compiles a pattern. Every text is one.
    pub fn new(text: &str, case: Case) -> Self {
        let mut literals = literals(text, case);
        let shape = match (literals.len(), literals.pop()) {
            (2.., Some(end)) => {
                let mut rest = literals.into_iter();
                let start = rest.next().unwrap_or_default();
                let middles: Box<[_]> = rest.filter(|middle| !middle.is_empty()).collect();
                if middles.is_empty() {
                    Shape::Ends { start, end }
                } else {
                    Shape::Middles { start, middles, end }
                }
            }
            (_, only) => Shape::Whole(only.unwrap_or_default()),
        };
        Self { case, shape }
    }

    /// Whether the whole text fits.
    #[inline]
    pub fn matches(&self, text: &[u8]) -> bool {
        match &self.shape {
            Shape::Whole(literal) => text.len() == literal.len() && self.fits(literal, text),
            Shape::Ends { start, end } => self.between(start, end, text).is_some(),
            Shape::Middles { start, middles, end } => {
                self.between(start, end, text).is_some_and(|between| self.in_order(middles, between))
            }
        }
    }

    /// What every text that fits begins with.
    pub(crate) fn start(&self) -> Start {
        let (literal, ends) = match &self.shape {
            Shape::Whole(literal) => (literal, true),
            Shape::Ends { start, .. } | Shape::Middles { start, .. } => (start, false),
        };
        let bytes: Box<[u8]> = literal.iter().map_while(|byte| *byte).collect();
        let is_all = ends && bytes.len() == literal.len();
        Start { bytes, is_all }
    }

    /// What is left between start and end, if the text has both.
    #[inline]
    fn between<'t>(&self, start: &[Option<u8>], end: &[Option<u8>], text: &'t [u8]) -> Option<&'t [u8]> {
        let (head, rest) = text.split_at_checked(start.len())?;
        let (rest, tail) = rest.split_at_checked(rest.len().checked_sub(end.len())?)?;
        (self.fits(start, head) && self.fits(end, tail)).then_some(rest)
    }

    /// Whether the text contains these, one behind the other. The leftmost place of each leaves most room for the next,
    /// so nothing is tried twice.
    fn in_order(&self, middles: &[Literal], mut text: &[u8]) -> bool {
        middles.iter().all(|middle| {
            let found = text.windows(middle.len()).position(|window| self.fits(middle, window));
            let rest = found.and_then(|at| text.get(at + middle.len()..));
            text = rest.unwrap_or_default();
            rest.is_some()
        })
    }

    /// Whether a text of the same length fits.
    #[inline]
    fn fits(&self, literal: &[Option<u8>], text: &[u8]) -> bool {
        let mut pairs = literal.iter().zip(text);
        match self.case {
            Case::Sensitive => pairs.all(|(want, have)| want.is_none_or(|want| want == *have)),
            Case::Insensitive => {
                pairs.all(|(want, have)| want.is_none_or(|want| want == have.to_ascii_lowercase()))
            }
        }
    }
}

/// The literals between the stars: one more than there are stars.
fn literals(text: &str, case: Case) -> Vec<Literal> {
    let mut done = Vec::new();
    let mut literal = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' => done.push(std::mem::take(&mut literal).into_boxed_slice()),
            b'?' => literal.push(None),
            b'\\' => literal.push(Some(fold(bytes.next().unwrap_or(b'\\'), case))),
            _ => literal.push(Some(fold(byte, case))),
        }
    }
    done.push(literal.into_boxed_slice());
    done
}

fn fold(byte: u8, case: Case) -> u8 {
    match case {
        Case::Sensitive => byte,
        Case::Insensitive => byte.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_stand_for_any_characters_and_question_marks_for_one() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("/api", "/api", true),
            ("/api", "/api/", false),
            ("/api", "/API", false),
            ("/api/*", "/api/", true),
            ("/api/*", "/api/x/y", true),
            ("/api/*", "/api", false),
            ("*.jpg", "/a/b.jpg", true),
            ("*.jpg", "/a/b.jpg.exe", false),
            ("/a*a", "/a", false),
            ("/a*a", "/aa", true),
            ("/img/*/pics", "/img/a/b/pics", true),
            ("/img/*/*/pics", "/img/a/pics", false),
            ("*ab*bc*", "xabcx", false),
            ("*ab*bc*", "xabbcx", true),
            ("/v?/x", "/v1/x", true),
            ("/v?/x", "/v/x", false),
            ("*a?c*", "xxabcxx", true),
            ("**", "x", true),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
            (r"a\?b", "a?b", true),
            (r"a\\", r"a\", true),
            (r"a\", r"a\", true),
        ] {
            let pattern_ = Pattern::new(pattern, Case::Sensitive);
            assert_eq!(pattern_.matches(text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn case_is_ignored_where_it_does_not_matter() {
        let pattern = Pattern::new("*.Example.COM", Case::Insensitive);
        assert!(pattern.matches(b"SHOP.example.com"));
        assert!(!Pattern::new("/Api", Case::Sensitive).matches(b"/api"));
    }

    #[test]
    fn what_texts_begin_with_is_known_up_to_the_first_star_or_question_mark() {
        for (pattern, bytes, is_all) in [
            ("", "", true),
            ("/Api", "/api", true),
            ("/api/*", "/api/", false),
            ("/v?/x", "/v", false),
            ("*.jpg", "", false),
            (r"/a\*b*c*d", "/a*b", false),
        ] {
            let start = Start { bytes: bytes.as_bytes().into(), is_all };
            assert_eq!(Pattern::new(pattern, Case::Insensitive).start(), start, "{pattern}");
        }
    }

    #[test]
    fn the_worst_text_for_backtracking_takes_no_longer_than_any_other() {
        let pattern = Pattern::new(&"*a".repeat(60), Case::Sensitive);
        assert!(!pattern.matches("a".repeat(59).as_bytes()));
        assert!(
            Pattern::new("*aaaaaaaaaaaaaaaab*", Case::Sensitive)
                .matches(("a".repeat(100_000) + "b").as_bytes())
        );
    }

    /// The definition, in its slowest and simplest form.
    fn reference(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                reference(rest, text) || text.split_first().is_some_and(|(_, text)| reference(pattern, text))
            }
            (Some((b'?', rest)), Some((_, text))) => reference(rest, text),
            (Some((want, rest)), Some((have, text))) => want == have && reference(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matches_what_the_definition_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let compiled = Pattern::new(&pattern, Case::Sensitive);
            prop_assert_eq!(compiled.matches(text.as_bytes()), reference(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
