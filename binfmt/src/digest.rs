//! The checksum of an image: CRC-64/NVME, in hardware about as fast as memory, and the digests of two neighbouring
//! ranges combine to that of both, so that segments are read by several threads.

use crc_fast::CrcAlgorithm::Crc64Nvme;

/// The digest of `bytes`.
pub fn digest(bytes: &[u8]) -> u64 {
    crc_fast::checksum(Crc64Nvme, bytes)
}

/// The digest of bytes that come piece by piece.
#[derive(Debug)]
pub struct Digester(crc_fast::Digest);

impl Default for Digester {
    fn default() -> Self {
        Digester(crc_fast::Digest::new(Crc64Nvme))
    }
}

impl Digester {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes that were taken.
    pub fn finish(self) -> u64 {
        self.0.finalize()
    }
}

/// The digest of two ranges that follow one another, from the digest of each and the length of the second: a tenth of a
/// microsecond for every bit that is set in that length.
///
/// A digest is a polynomial over GF(2), and bytes that follow multiply it by x^8 each.
pub fn combine(first: u64, second: u64, second_len_bytes: u64) -> u64 {
    let bits = (0..64).map(|bit| second_len_bytes >> bit & 1 == 1);
    let powers = POWERS.iter().zip(bits).filter(|(_, set)| *set);
    powers.fold(first, |product, (power, _)| times(product, *power)) ^ second
}

/// x^8, then the square of each before it, modulo the algorithm's polynomial.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, which would refuse a wrong index")]
static POWERS: [u64; 64] = {
    let mut powers = [0; 64];
    let (mut at, mut power) = (0, ONE >> 8);
    while at < powers.len() {
        powers[at] = power;
        power = times(power, power);
        at += 1;
    }
    powers
};

/// The polynomial 1: coefficients stand with the lowest power in the highest bit.
const ONE: u64 = 1 << 63;
/// That of CRC-64/NVME, without its highest power.
const POLYNOMIAL: u64 = 0x9a6c_9329_ac4b_c9b5;

/// The product of two polynomials modulo that of the algorithm.
const fn times(first: u64, mut second: u64) -> u64 {
    let (mut product, mut coefficient) = (0, ONE);
    while coefficient != 0 {
        if first & coefficient != 0 {
            product ^= second;
        }
        second = (second >> 1) ^ ((second & 1) * POLYNOMIAL);
        coefficient >>= 1;
    }
    product
}

/// The digest of no bytes, neutral in [`combine`] from the left.
pub const EMPTY: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_combine() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
        let (head, tail) = bytes.split_at(33_333);
        assert_eq!(combine(digest(head), digest(tail), tail.len() as u64), digest(&bytes));
        for len in [0, 1, 4096, 65_536, 99_999] {
            let (head, tail) = bytes.split_at(bytes.len() - len);
            assert_eq!(combine(digest(head), digest(tail), tail.len() as u64), digest(&bytes), "{len}");
        }
        assert_eq!(combine(EMPTY, digest(&bytes), bytes.len() as u64), digest(&bytes));
        assert_eq!(digest(&[]), EMPTY);
        let mut digester = Digester::default();
        bytes.chunks(777).for_each(|piece| digester.update(piece));
        assert_eq!(digester.finish(), digest(&bytes));
    }

    #[test]
    fn the_algorithm_is_the_published_one() {
        assert_eq!(digest(b"123456789"), 0xae8b_1486_0a79_9888, "the catalogue's check value of CRC-64/NVME");
    }
}
