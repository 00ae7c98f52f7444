//! Contexts of asynchronous I/O (io_setup(2)): the id of one is the address at which its ring of events is mapped.

use crate::wire::record;

record! {
    /// A context of asynchronous I/O, to which a mapping with `Backing::AioRing` belongs. Nothing was under way in it.
    pub struct AioRing {
        /// The `Memory` whose it is.
        memory: u32,
        /// Its id: where the ring is mapped.
        start: u64,
        /// How long that mapping is in bytes.
        len_bytes: u64,
        /// The kernel's own number of it, which says in which order contexts are made.
        number: u32,
        /// At which slot of the ring the first event stands that the program has not taken.
        head: u32,
        /// At which slot the next one will stand.
        tail: u32,
        /// The events from `head` to `tail`.
        events: Vec<AioEvent>,
    }

    /// What has become of a request (struct io_event).
    pub struct AioEvent {
        /// What the program called it.
        data: u64,
        /// The address of its control block.
        request: u64,
        /// Its result.
        result: i64,
        /// A second result.
        second_result: i64,
    }
}

/// Bytes before the first slot of a ring (struct aio_ring in fs/aio.c).
pub const HEADER_BYTES: u64 = 32;
/// Bytes of a slot.
pub const EVENT_BYTES: u64 = 32;

/// How many slots a ring of so many bytes has.
pub fn slots(len_bytes: u64) -> u32 {
    u32::try_from(len_bytes.saturating_sub(HEADER_BYTES) / EVENT_BYTES).unwrap_or(0)
}

/// How many events stand in a ring.
pub fn count(head: u32, tail: u32, slots: u32) -> u32 {
    if head <= tail { tail - head } else { slots.saturating_sub(head - tail) }
}

/// Where the slot of this index begins, in bytes from the start of the ring.
pub fn slot_at(index: u32) -> u64 {
    HEADER_BYTES + u64::from(index) * EVENT_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_goes_round() {
        assert_eq!((slots(4096), slots(8192), slots(0)), (127, 255, 0));
        assert_eq!((count(3, 5, 127), count(5, 3, 127), count(4, 4, 127)), (2, 125, 0));
        assert_eq!(slot_at(126), 4096 - 32);
    }
}
