//! The checksum of an image: CRC-64/NVME, in hardware about as fast as memory, and the digests of two neighbouring
//! ranges combine to that of both, so that segments are read by several threads.

use crc_fast::CrcAlgorithm::Crc64Nvme;

/// The digest of `bytes`.
pub fn digest(bytes: &[u8]) -> u64 {
    crc_fast::checksum(Crc64Nvme, bytes)
}

/// The digest of two ranges that follow one another, from the digest of each and the length of the second.
pub fn combine(first: u64, second: u64, second_len_bytes: u64) -> u64 {
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
    }

    #[test]
    fn the_algorithm_is_the_published_one() {
        assert_eq!(digest(b"123456789"), 0xae8b_1486_0a79_9888, "the catalogue's check value of CRC-64/NVME");
    }
}
