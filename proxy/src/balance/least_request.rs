//! The one with the fewest requests in flight in relation to its weight.
//!
//! Up to [`SCANNED`] targets all are looked at, so the choice is the least loaded one; ties go to each in turn. Beyond,
//! the better of two drawn ones is taken, as looking at all would cost more than it gains: with many targets the better of
//! two is nearly as good, and proxies that cannot see each other's requests do not all rush to the same one.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Up to so many targets all are looked at.
pub const SCANNED: usize = 64;

/// Whose turn it is among equals.
#[derive(Debug, Default)]
pub struct LeastRequest {
    turn: AtomicUsize,
}

impl LeastRequest {
    /// Chooses among `count` targets, of which some are to be skipped, by requests in flight and weight of each.
    #[inline]
    pub fn choose(
        &self,
        count: usize,
        skip: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> (u32, u16),
    ) -> Option<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if count > SCANNED {
            let drawn = [draw(turn, 0, count), draw(turn, 1, count)];
            let better = least(drawn.into_iter().filter(|index| !skip(*index)), &load);
            if better.is_some() {
                return better;
            }
        }
        let start = turn.checked_rem(count)?;
        least((start..count).chain(0..start).filter(|index| !skip(*index)), &load)
    }
}

/// The first of those with the least load.
#[inline]
fn least(indices: impl Iterator<Item = usize>, load: &impl Fn(usize) -> (u32, u16)) -> Option<usize> {
    let mut best: Option<(usize, (u32, u16))> = None;
    for index in indices {
        let candidate = load(index);
        if best.is_none_or(|(_, best)| is_less(candidate, best)) {
            best = Some((index, candidate));
        }
    }
    best.map(|(index, _)| index)
}

/// Compares as fractions what the load would be with one request more.
#[inline]
fn is_less((flight_a, weight_a): (u32, u16), (flight_b, weight_b): (u32, u16)) -> bool {
    (u64::from(flight_a) + 1) * u64::from(weight_b.max(1))
        < (u64::from(flight_b) + 1) * u64::from(weight_a.max(1))
}

/// Spreads turns over the targets as if at random (the finaliser of SplitMix64).
fn draw(turn: usize, which: u64, count: usize) -> usize {
    let mut bits = (turn as u64).wrapping_mul(2).wrapping_add(which).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    ((u128::from(bits) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(least: &LeastRequest, loads: &[(u32, u16)]) -> Option<usize> {
        least.choose(loads.len(), |_| false, |index| loads[index])
    }

    #[test]
    fn the_least_loaded_is_chosen() {
        for (loads, expected) in [
            (vec![(3, 1), (1, 1), (2, 1)], Some(1)),
            (vec![(3, 4), (1, 1)], Some(0)),
            (vec![(0, 1), (0, 2)], Some(1)),
            (vec![], None),
            (vec![(u32::MAX, 100), (u32::MAX - 1, 100)], Some(1)),
        ] {
            assert_eq!(choose(&LeastRequest::default(), &loads), expected, "{loads:?}");
        }
    }

    #[test]
    fn equals_are_chosen_in_turn() {
        let least = LeastRequest::default();
        let chosen: Vec<_> = (0..6).filter_map(|_| choose(&least, &[(1, 1), (1, 1), (1, 1)])).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn what_is_skipped_is_not_chosen() {
        let least = LeastRequest::default();
        assert_eq!(least.choose(2, |index| index == 0, |index| (index as u32, 1)), Some(1));
        assert_eq!(least.choose(2, |_| true, |_| (0, 1)), None);
        assert_eq!(least.choose(SCANNED * 2, |index| index != 99, |_| (0, 1)), Some(99));
    }

    #[test]
    fn among_many_load_stays_nearly_even() {
        let least = LeastRequest::default();
        let mut loads = vec![0_u32; SCANNED * 4];
        for _ in 0..loads.len() * 20 {
            let index = least.choose(loads.len(), |_| false, |index| (loads[index], 1)).unwrap();
            loads[index] += 1;
        }
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        assert!(*least >= 15 && *most <= 25, "{least}..{most}");
    }
}
