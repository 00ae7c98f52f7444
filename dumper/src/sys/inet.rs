//! Asking IP sockets.

use super::Result;
use super::socket::answer;
use nix::errno::Errno;
use std::os::fd::BorrowedFd;

/// Which sources of a multicast group are heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceFilter {
    /// Whether those are heard, and not all others.
    pub(crate) include: bool,
    /// Their addresses.
    pub(crate) sources: Vec<Vec<u8>>,
}

/// How long a struct sockaddr_storage is.
const STORAGE_BYTES: usize = 128;
/// Where in a struct group_filter the group stands, then the mode, the count of sources and the sources.
const GROUP_AT: usize = 8;
const MODE_AT: usize = GROUP_AT + STORAGE_BYTES;
const COUNT_AT: usize = MODE_AT + 4;
const SOURCES_AT: usize = COUNT_AT + 4;

/// The sources of a multicast group that a socket hears; EADDRNOTAVAIL if it is no member.
pub(crate) fn source_filter(fd: BorrowedFd<'_>, interface: u32, group: &[u8]) -> Result<SourceFilter> {
    const MCAST_MSFILTER: i32 = 48;
    // IP_MAX_MEMBERSHIPS and its kin bound the kernel's lists far below.
    const SOURCES_MAX: u32 = 4096;
    const MCAST_INCLUDE: u32 = 1;
    let level = if group.len() == 4 { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
    // Most have none.
    let ask = |sources: u32| {
        let mut asked = vec![0; SOURCES_AT + sources as usize * STORAGE_BYTES];
        put(&mut asked, 0, &interface.to_ne_bytes());
        put(&mut asked, GROUP_AT, &socket_address(group));
        put(&mut asked, COUNT_AT, &sources.to_ne_bytes());
        answer(fd, level, MCAST_MSFILTER, asked)
    };
    let word_of = |answer: &[u8], at: usize| {
        answer.get(at..).and_then(|word| word.first_chunk()).map(|word| u32::from_ne_bytes(*word))
    };
    let mut answer = ask(0)?;
    if word_of(&answer, COUNT_AT) != Some(0) {
        answer = ask(SOURCES_MAX)?;
    }
    let (mode, count) = word_of(&answer, MODE_AT).zip(word_of(&answer, COUNT_AT)).ok_or(Errno::EBADMSG)?;
    let at = |index: usize| answer.get(SOURCES_AT + index * STORAGE_BYTES..);
    let source =
        |index| at(index).and_then(|bytes| bytes.get(address_range(group.len()))).map(<[u8]>::to_vec);
    let count = usize::try_from(count.min(SOURCES_MAX)).unwrap_or(0);
    Ok(SourceFilter { include: mode == MCAST_INCLUDE, sources: (0..count).filter_map(source).collect() })
}

/// Where an address of so many bytes stands in its struct sockaddr_in or sockaddr_in6.
fn address_range(len: usize) -> std::ops::Range<usize> {
    let start = if len == 4 { 4 } else { 8 };
    start..start + len
}

/// The start of a struct sockaddr_in or sockaddr_in6 with this address and port 0.
fn socket_address(address: &[u8]) -> Vec<u8> {
    let family = if address.len() == 4 { libc::AF_INET } else { libc::AF_INET6 };
    let mut bytes = vec![0; address_range(address.len()).end];
    put(&mut bytes, 0, &u16::try_from(family).unwrap_or(0).to_ne_bytes());
    put(&mut bytes, address_range(address.len()).start, address);
    bytes
}

fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    let place = into.get_mut(at..at + bytes.len());
    place.into_iter().for_each(|place| place.copy_from_slice(bytes));
}
