//! What a reconciliation came to.

use std::time::Duration;

/// How a reconciliation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// All is done until something changes.
    Done,
    /// Look again after so long.
    Later(Duration),
    /// The object is invalid; nothing is done until it changes.
    Invalid,
}

impl Reconciled {
    /// The sooner of the two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Later(one), Self::Later(other)) => Self::Later(one.min(other)),
            (Self::Later(one), _) | (_, Self::Later(one)) => Self::Later(one),
            (Self::Invalid, _) | (_, Self::Invalid) => Self::Invalid,
            (Self::Done, Self::Done) => Self::Done,
        }
    }
}
