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

/// The digest of two ranges that follow one another, from the digest of each and the length of the second. It takes as
/// long as to digest a megabyte (50 us), so it is for what several threads have read, not for every piece.
pub fn combine(first: u64, second: u64, second_len_bytes: u64) -> u64 {
    // A digest of 0 is neutral from the left, whatever it is the digest of: combining is linear.
    if first == EMPTY {
        return second;
    }
    crc_fast::checksum_combine(Crc64Nvme, first, second, second_len_bytes)
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
