//! Random moments that come again with the same seed.

use std::time::Duration;

/// A sequence of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Moments {
    /// What it started from.
    pub seed: u64,
    state: u64,
}

impl Moments {
    /// The sequence for a test of this name. `CKPT_SEED`, a number, gives others.
    pub fn new(name: &str) -> Moments {
        let chosen: u64 =
            std::env::var("CKPT_SEED").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        // FNV-1a: the same in every build.
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ chosen, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Moments { seed, state: seed }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A time below `limit`, which is some minutes at most.
    pub fn below(&mut self, limit: Duration) -> Duration {
        let limit_us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.draw() % limit_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_own_moments_and_keeps_them() {
        let draw = |name: &str| Moments::new(name).draw();
        assert_eq!(draw("xz::killed"), draw("xz::killed"));
        assert_ne!(draw("xz::killed"), draw("xz::running"));
    }

    #[test]
    fn moments_keep_their_limit() {
        let mut moments = Moments::new("any");
        let limit = Duration::from_millis(3);
        assert!((0..1000).all(|_| moments.below(limit) < limit));
        assert_eq!(moments.below(Duration::ZERO), Duration::ZERO);
    }
}
