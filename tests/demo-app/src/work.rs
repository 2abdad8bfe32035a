//! Work that costs CPU time.

use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Keeps this thread busy until it has used so much CPU time. Measured by the thread's own clock: on a busy machine it
/// takes longer, but it costs what was asked for.
pub(crate) fn burn(amount: Duration) {
    let end = thread_cpu_time() + amount;
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    while thread_cpu_time() < end {
        for _ in 0..2_000 {
            x = black_box(x.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(17));
        }
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burns_what_was_asked_for() {
        let before = thread_cpu_time();
        burn(Duration::from_millis(5));
        let used = thread_cpu_time().saturating_sub(before);
        assert!((5..50).contains(&used.as_millis()), "used {used:?}");
    }
}
