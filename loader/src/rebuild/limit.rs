//! Resource limits, set when nothing of the loader's is opened or mapped any more.

use crate::arena::Arena;
use crate::error::Result;
use binfmt::image::Image;
use binfmt::note::limit::Limit;
use binfmt::note::task::Task;
use binfmt::program::Program;
use binfmt::system_call;

/// Appends the calls that set the limits of the task. A hard limit above our own needs CAP_SYS_RESOURCE; what is equal
/// already is left alone, so that only a real difference can fail.
pub fn program(image: &Image, task: &Task, arena: &mut Arena, program: &mut Program) -> Result<()> {
    for limit in image.about::<Limit>(task.pid).flat_map(|note| &note.limits) {
        let current = current(limit.resource);
        if current == Some((limit.soft, limit.hard)) {
            continue;
        }
        let address = arena.put(&[limit.soft.to_le_bytes(), limit.hard.to_le_bytes()].concat())?;
        program.must(
            system_call!(SYS_prlimit64),
            &[0, limit.resource.into(), address, 0],
            format!("resource limit {}", limit.resource),
        );
    }
    Ok(())
}

fn current(resource: u32) -> Option<(u64, u64)> {
    let mut now = [0u64; 2];
    let args = [0, resource.into(), 0, now.as_mut_ptr().addr() as u64, 0, 0];
    crate::sys::call(libc::SYS_prlimit64, args).ok()?;
    let [soft, hard] = now;
    Some((soft, hard))
}

/// Raises the limits of open descriptors, so that the loader's own have room above the task's: the soft one to the hard one,
/// and that to `needed` where the right exists.
pub fn raise_descriptors(needed: u64) {
    let resource = nix::sys::resource::Resource::RLIMIT_NOFILE;
    if let Ok((_, hard)) = nix::sys::resource::getrlimit(resource) {
        // Without them the resume fails later, naming the descriptor, if there is not enough room.
        let _ = nix::sys::resource::setrlimit(resource, hard, hard);
        if hard < needed {
            let _ = nix::sys::resource::setrlimit(resource, needed, needed);
        }
    }
}
