//! What waits behind urgent data that was read already.
//!
//! A look into a connection (MSG_PEEK) and FIONREAD stop at the place of the urgent byte. Where that is taken for one of the others
//! (SO_OOBINLINE) FIONREAD does not; and a look that begins at it (SO_PEEK_OFF, for TCP since Linux 6.9) goes on behind it. Both
//! are set for a moment, by the hand of a process that nobody else knows; should that one be ended, this one sets them back.

use super::hand::by_another_hand;
use super::repair::set;
use super::{Result, share_memory};
use nix::errno::Errno;
use std::os::fd::RawFd;

/// What waits in a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Behind {
    /// How many bytes wait up to the place of the urgent byte.
    pub(crate) before: usize,
    /// What waits behind it.
    pub(crate) bytes: Vec<u8>,
}

fn waiting(fd: RawFd) -> Result<i32> {
    let mut count = 0;
    // SAFETY: the kernel writes one int.
    Errno::result(unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) })?;
    Ok(count)
}

/// How many bytes wait at and behind the place of urgent data. `inline`: the SO_OOBINLINE that the connection has.
pub(super) fn waits_behind(fd: RawFd, inline: i32) -> Result<u32> {
    let before = waiting(fd)?;
    set(fd, libc::SOL_SOCKET, libc::SO_OOBINLINE, 1)?;
    let all = waiting(fd);
    set(fd, libc::SOL_SOCKET, libc::SO_OOBINLINE, inline)?;
    Ok(u32::try_from(all? - before).unwrap_or(0))
}

/// Looks behind the place of urgent data. EOPNOTSUPP: this kernel cannot.
pub(crate) fn look_behind(fd: RawFd, inline: i32) -> Result<Behind> {
    /// More than any buffer holds; what is not written to takes nothing.
    const ROOM_BYTES: usize = 256 << 20;
    const HEAD_BYTES: usize = 16;
    let memory = share_memory(HEAD_BYTES + ROOM_BYTES)?;
    let at = memory.at();
    let leave = || {
        let _ = set(fd, libc::SOL_SOCKET, libc::SO_OOBINLINE, inline);
        let _ = set(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, -1);
    };
    let status = by_another_hand(|| {
        let told = look(fd, inline, at.wrapping_add(HEAD_BYTES), ROOM_BYTES);
        leave();
        match told {
            Ok(told) => {
                // SAFETY: the head is mapped, begins a page, and nobody else writes there.
                unsafe { at.cast::<[u64; 2]>().write(told) };
                0
            }
            Err(error) => u8::try_from(error as i32).unwrap_or(u8::MAX),
        }
    });
    // Should that one be ended, this one does it.
    let status = status.inspect_err(|_| leave())?;
    if status != 0 {
        return Err(Errno::from_raw(status.into()));
    }
    let (head, rest) = memory.bytes().split_at(HEAD_BYTES);
    let mut told =
        head.chunks_exact(8).filter_map(|word| word.first_chunk().copied()).map(u64::from_ne_bytes);
    let mut next = || told.next().and_then(|word| usize::try_from(word).ok()).ok_or(Errno::EMSGSIZE);
    let (before, len) = (next()?, next()?);
    Ok(Behind { before, bytes: rest.get(..len).ok_or(Errno::EMSGSIZE)?.to_vec() })
}

/// How many bytes wait before the place, and how many were read behind it.
fn look(fd: RawFd, inline: i32, room: *mut u8, room_bytes: usize) -> Result<[u64; 2]> {
    let before = waiting(fd)?;
    let behind = usize::try_from(waits_behind(fd, inline)?.saturating_sub(1)).map_err(|_| Errno::EMSGSIZE)?;
    let mut len = 0;
    if behind > 0 {
        set(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, before)?;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: there is room for so many bytes, in memory that lives as long as the call.
        let read = unsafe { libc::recv(fd, room.cast(), room_bytes, flags) };
        len = usize::try_from(Errno::result(read)?).map_err(|_| Errno::EMSGSIZE)?;
    }
    // What has come meanwhile is looked at once more.
    if len < behind {
        return Err(Errno::EAGAIN);
    }
    Ok([u64::try_from(before).map_err(|_| Errno::EMSGSIZE)?, len as u64])
}
