//! Each in turn, by weight.
//!
//! The turns of one round are laid out beforehand, a target's turns evenly spread over it, so a pick is one atomic
//! addition: exactly even over each round, however many threads pick.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The turns of a round, and whose turn is next.
#[derive(Debug, Default)]
pub struct RoundRobin {
    /// Indices of targets.
    turns: Box<[u16]>,
    cursor: AtomicUsize,
}

impl RoundRobin {
    /// A round over targets with these weights (0 counts as 1). The first turn is that of the target at `start`, or of the
    /// first one behind the last.
    pub fn new(weights: &[u16], start: usize) -> Self {
        let turns = turns(weights);
        let first = turns.iter().position(|turn| usize::from(*turn) == start).unwrap_or(0);
        Self { turns, cursor: AtomicUsize::new(first) }
    }

    /// Takes turns until one is not to be skipped. Ends after a whole round.
    #[inline]
    pub fn choose(&self, skip: impl Fn(usize) -> bool) -> Option<usize> {
        (0..self.turns.len()).find_map(|_| {
            let turn = self.cursor.fetch_add(1, Ordering::Relaxed);
            self.at(turn).filter(|index| !skip(*index))
        })
    }

    /// Whose turn is next.
    pub fn peek(&self) -> Option<usize> {
        self.at(self.cursor.load(Ordering::Relaxed))
    }

    #[inline]
    fn at(&self, turn: usize) -> Option<usize> {
        let place = turn.checked_rem(self.turns.len())?;
        self.turns.get(place).map(|index| usize::from(*index))
    }
}

/// The turns of one round: a target of weight w has w of them (divided by what all weights have in common), the k-th at
/// (k + ½) / w of the round.
fn turns(weights: &[u16]) -> Box<[u16]> {
    let weights: Vec<u64> = weights.iter().map(|weight| u64::from((*weight).max(1))).collect();
    let common = weights.iter().copied().reduce(common_divisor).unwrap_or(1);
    let mut turns: Vec<(u64, u16)> = Vec::new();
    for (index, weight) in (0_u16..).zip(&weights) {
        let weight = weight / common;
        // Places are compared as fractions of 2⁴⁸; ties go by index.
        turns.extend((0..weight).map(|turn| (((2 * turn + 1) << 47) / weight, index)));
    }
    turns.sort_unstable();
    turns.into_iter().map(|(_, index)| index).collect()
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn picks(round: &RoundRobin, count: usize) -> Vec<usize> {
        (0..count).filter_map(|_| round.choose(|_| false)).collect()
    }

    #[test]
    fn each_has_its_turn() {
        assert_eq!(picks(&RoundRobin::new(&[1, 1, 1], 0), 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(picks(&RoundRobin::new(&[7, 7], 1), 4), [1, 0, 1, 0]);
        assert_eq!(picks(&RoundRobin::new(&[], 0), 2), Vec::<usize>::new());
    }

    #[test]
    fn heavier_ones_have_more_turns_evenly_spread() {
        assert_eq!(picks(&RoundRobin::new(&[2, 1, 1], 0), 4), [0, 1, 2, 0]);
        let five_to_one = picks(&RoundRobin::new(&[5, 1], 0), 12);
        assert_eq!(five_to_one.iter().filter(|index| **index == 1).count(), 2);
        assert_eq!(five_to_one[..6].iter().filter(|index| **index == 1).count(), 1);
    }

    #[test]
    fn what_is_skipped_goes_to_the_next_and_all_skipped_is_nobody() {
        let round = RoundRobin::new(&[1, 1, 1], 0);
        assert_eq!(round.choose(|index| index == 0), Some(1));
        assert_eq!(round.choose(|_| true), None);
    }

    #[test]
    fn threads_that_pick_at_once_share_exactly() {
        let round = RoundRobin::new(&[1; 7], 3);
        let counts = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| picks(&round, 7 * 500))).collect();
            let mut counts = BTreeMap::<usize, usize>::new();
            for index in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
                *counts.entry(index).or_default() += 1;
            }
            counts
        });
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [4 * 500; 7]);
    }

    proptest! {
        #[test]
        fn a_round_gives_each_its_weight(weights in prop::collection::vec(1_u16..100, 1..20), start in 0_usize..20) {
            let round = RoundRobin::new(&weights, start);
            let total: u16 = weights.iter().sum();
            let mut counts = vec![0_u16; weights.len()];
            for index in picks(&round, usize::from(total)) {
                counts[index] += 1;
            }
            prop_assert_eq!(counts, weights);
        }
    }
}
