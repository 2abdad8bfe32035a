//! What the three kinds' `validate` share.
//!
//! The API server refuses most of what is refused here. It is checked again, because objects may be older than the
//! rules, and because what follows relies on it.

use std::ops::RangeInclusive;
use std::time::Duration;

use evenkeel_crds::v1alpha1 as api;

/// What is wrong with an object: each a sentence that begins with the field and says what to write instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Notes a problem of a field.
    pub fn add(&mut self, field: impl AsRef<str>, sentence: impl AsRef<str>) {
        self.0.push(format!("{}: {}", field.as_ref(), sentence.as_ref()));
    }

    /// Notes a problem of a field unless `holds`.
    pub fn require(&mut self, holds: bool, field: impl AsRef<str>, sentence: impl AsRef<str>) {
        if !holds {
            self.add(field, sentence);
        }
    }

    /// Notes a problem unless `value` is in `range`.
    pub fn range<T>(&mut self, field: impl AsRef<str>, value: T, range: RangeInclusive<T>)
    where
        T: PartialOrd + std::fmt::Display,
    {
        if !range.contains(&value) {
            self.add(field, format!("{value} is not from {} to {}", range.start(), range.end()));
        }
    }

    /// The duration; notes a problem unless it is in `range`.
    pub fn duration(
        &mut self,
        field: impl AsRef<str>,
        value: api::Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let duration = Duration::from(value);
        if value.is_negative() || !range.contains(&duration) {
            let sign = if value.is_negative() { "-" } else { "" };
            let [value, from, to] = [duration, *range.start(), *range.end()].map(text);
            self.add(field, format!("{sign}{value} is not from {from} to {to}"));
        }
        duration
    }

    /// Notes a problem for each value that appears twice.
    pub fn unique<T: PartialEq + std::fmt::Display>(
        &mut self,
        field: &str,
        values: impl IntoIterator<Item = T>,
    ) {
        let mut seen = Vec::new();
        for value in values {
            if seen.contains(&value) {
                self.add(field, format!("{value} appears twice"));
            }
            seen.push(value);
        }
    }

    /// `value`, if there are no problems.
    pub fn check<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// All of them in one message.
    pub fn message(&self) -> String {
        self.0.join("; ")
    }
}

/// As people write it.
fn text(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 { format!("{}s", duration.as_secs()) } else { format!("{duration:?}") }
}

/// Some seconds.
pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
