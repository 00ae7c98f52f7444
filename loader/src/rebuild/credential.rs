//! Who a thread is: set by the thread itself, because the kernel keeps credentials for each.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::index::Threads;
use binfmt::note::credential::Credential;
use binfmt::program::Program;
use binfmt::system_call;

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// SECBIT_NO_SETUID_FIXUP: ids change without touching capabilities; and SECBIT_KEEP_CAPS is not needed then.
const NO_SETUID_FIXUP: u64 = 1 << 2;
/// SECBIT_KEEP_CAPS
const KEEP_CAPS: u32 = 1 << 4;
/// Number of capabilities that the format has bits for.
const CAPABILITIES: u64 = 64;

/// Who the loader is.
#[derive(Debug)]
pub struct Own {
    /// Its credentials.
    pub credential: Credential,
    /// Whether its supplementary groups cannot be changed, and stay.
    pub keeps_groups: bool,
}

/// Appends the calls that make the thread who it was. What is so already is left alone: an ordinary user then needs no
/// right at all.
pub fn program(
    threads: &Threads<'_>,
    saved_tid: u32,
    own: &Own,
    arena: &mut Arena,
    program: &mut Program,
) -> Result<()> {
    let Some(wanted) = threads.credential(saved_tid) else { return Ok(()) };
    let mut wanted = Credential::clone(wanted);
    if own.keeps_groups {
        wanted.groups.clone_from(&own.credential.groups);
    }
    let (wanted, own) = (&wanted, &own.credential);
    let who = format!("thread {saved_tid}");
    let ids_differ = own.user != wanted.user || own.group != wanted.group || own.groups != wanted.groups;
    let caps_differ = own.permitted != wanted.permitted
        || own.effective != wanted.effective
        || own.inheritable != wanted.inheritable
        || own.bounding != wanted.bounding
        || own.ambient != wanted.ambient
        || own.secure_bits != wanted.secure_bits;
    if ids_differ || caps_differ {
        let option = |option: i32| u64::from(option.unsigned_abs());
        for capability in (0..CAPABILITIES).filter(|bit| (own.bounding & !wanted.bounding) >> bit & 1 == 1) {
            let purpose = format!("capability {capability} out of the bounding set of {who}");
            program.must(system_call!(SYS_prctl), &[option(libc::PR_CAPBSET_DROP), capability], purpose);
        }
        if ids_differ {
            program.must(
                system_call!(SYS_prctl),
                &[option(libc::PR_SET_SECUREBITS), NO_SETUID_FIXUP],
                who.clone(),
            );
            set_ids(wanted, own, &who, arena, program)?;
        }
        let clear = [option(libc::PR_CAP_AMBIENT), u64::from(libc::PR_CAP_AMBIENT_CLEAR_ALL.unsigned_abs())];
        program.must(system_call!(SYS_prctl), &clear, format!("ambient capabilities of {who}"));
        // Inheritable first while the effective set still permits it, secure bits next, the final sets last.
        let effective = own.permitted & (wanted.permitted | 1 << 8);
        set_capabilities((effective, own.permitted, wanted.inheritable), &who, arena, program)?;
        let guarded = |bits: u32| bits & !KEEP_CAPS;
        if guarded(own.secure_bits) != guarded(wanted.secure_bits) || ids_differ {
            let bits = [option(libc::PR_SET_SECUREBITS), wanted.secure_bits.into()];
            program.must(system_call!(SYS_prctl), &bits, format!("secure bits of {who}"));
        } else if own.secure_bits != wanted.secure_bits {
            // The one bit that anybody may set.
            let keep = [option(libc::PR_SET_KEEPCAPS), u64::from(wanted.secure_bits & KEEP_CAPS != 0)];
            program.must(system_call!(SYS_prctl), &keep, format!("PR_SET_KEEPCAPS of {who}"));
        }
        set_capabilities((wanted.effective, wanted.permitted, wanted.inheritable), &who, arena, program)?;
        for capability in (0..CAPABILITIES).filter(|bit| wanted.ambient >> bit & 1 == 1) {
            let raise = u64::from(libc::PR_CAP_AMBIENT_RAISE.unsigned_abs());
            let purpose = format!("ambient capability {capability} of {who}");
            program.must(
                system_call!(SYS_prctl),
                &[option(libc::PR_CAP_AMBIENT), raise, capability],
                purpose,
            );
        }
    }
    if wanted.no_new_privileges {
        let option = u64::from(libc::PR_SET_NO_NEW_PRIVS.unsigned_abs());
        program.must(system_call!(SYS_prctl), &[option, 1], format!("no_new_privs of {who}"));
    }
    Ok(())
}

fn set_ids(
    wanted: &Credential,
    own: &Credential,
    who: &str,
    arena: &mut Arena,
    program: &mut Program,
) -> Result<()> {
    if own.groups != wanted.groups {
        let groups: Vec<u8> = wanted.groups.iter().flat_map(|group| group.to_le_bytes()).collect();
        let address = arena.put(&groups)?;
        let args = [wanted.groups.len() as u64, address];
        program.must(system_call!(SYS_setgroups), &args, format!("groups of {who}"));
    }
    let ids = |identity: &binfmt::note::credential::Identity| {
        [identity.real, identity.effective, identity.saved].map(u64::from)
    };
    let (group, user) = (&wanted.group, &wanted.user);
    program.must(system_call!(SYS_setresgid), &ids(group), format!("group ids of {who}"));
    program.ask(system_call!(SYS_setfsgid), &[group.filesystem.into()], format!("filesystem group of {who}"));
    program.must(system_call!(SYS_setresuid), &ids(user), format!("user ids of {who}"));
    program.ask(system_call!(SYS_setfsuid), &[user.filesystem.into()], format!("filesystem user of {who}"));
    Ok(())
}

fn set_capabilities(
    sets: (u64, u64, u64),
    who: &str,
    arena: &mut Arena,
    program: &mut Program,
) -> Result<()> {
    let (effective, permitted, inheritable) = sets;
    let header = arena.put(&[CAPABILITY_VERSION_3.to_le_bytes(), [0; 4]].concat())?;
    let halves =
        [0, 32].into_iter().flat_map(|shift| [effective, permitted, inheritable].map(|set| set >> shift));
    let data: Vec<u8> =
        halves.flat_map(|half| (half & 0xffff_ffff).to_le_bytes().into_iter().take(4)).collect();
    let data = arena.put(&data)?;
    program.must(system_call!(SYS_capset), &[header, data], format!("capabilities of {who}"));
    Ok(())
}

/// Gives this process these capabilities in all three sets.
pub fn set_own_capabilities(set: u64) -> nix::Result<()> {
    let header = [CAPABILITY_VERSION_3, 0];
    let halves = [set & 0xffff_ffff, set >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    let data: Vec<u32> = halves.into_iter().flat_map(|half| [half; 3]).collect();
    let args = [header.as_ptr().addr() as u64, data.as_ptr().addr() as u64, 0, 0, 0, 0];
    crate::sys::call(libc::SYS_capset, args).map(drop)
}

/// Who this process is, in the words of the image, from `/proc/self/status` and prctl.
pub fn own() -> Result<Credential> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|error| Error::io("read /proc/self/status", &error))?;
    let bits = super::prctl(libc::PR_GET_SECUREBITS, [0; 4])
        .map_err(|error| Error::step("read the loader's own securebits", error))?;
    Ok(Credential { secure_bits: u32::try_from(bits).unwrap_or(0), ..parse(&status) })
}

fn parse(status: &str) -> Credential {
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let numbers = |name: &str| {
        value(name).split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u32>>()
    };
    let set = |name: &str| u64::from_str_radix(value(name).trim(), 16).unwrap_or(0);
    let identity = |name: &str| {
        let ids = numbers(name);
        let id = |index: usize| ids.get(index).copied().unwrap_or(0);
        binfmt::note::credential::Identity { real: id(0), effective: id(1), saved: id(2), filesystem: id(3) }
    };
    Credential {
        user: identity("Uid:"),
        group: identity("Gid:"),
        groups: numbers("Groups:"),
        inheritable: set("CapInh:"),
        permitted: set("CapPrm:"),
        effective: set("CapEff:"),
        bounding: set("CapBnd:"),
        ambient: set("CapAmb:"),
        ..Credential::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read() {
        let own = parse("Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nCapPrm:\t00000000000000ff\n");
        assert_eq!((own.user.saved, own.group.filesystem, own.permitted), (3, 8, 0xff));
        assert_eq!(own.groups, [9, 10]);
    }
}
