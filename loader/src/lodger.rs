//! Lodgers: threads of a task that exist before the others, because they have children.
//!
//! A child is its parent's thread's that forked it: that thread may wait for it alone (`__WNOTHREAD`), and its end is what the
//! child is told by its signal (PR_SET_PDEATHSIG). So such a thread is started as soon as it has to fork, runs Rust on a stack
//! of its own while the main thread waits, and becomes its program when the main thread starts all the others.

use crate::error::{Error, Result};
use crate::sys;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What a lodger is to do.
type Job<'a> = Box<dyn FnOnce() + 'a>;

/// Where the main thread leaves what is to be done. Only who has the baton looks at it.
#[derive(Default)]
struct Slot<'a> {
    job: RefCell<Option<Job<'a>>>,
    done: Cell<bool>,
}

/// The lodgers of a task, by their thread ids.
#[derive(Default)]
pub struct Lodgers<'a>(BTreeMap<u32, Rc<Slot<'a>>>);

impl std::fmt::Debug for Lodgers<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

impl<'a> Lodgers<'a> {
    /// Starts the lodger `tid`, if it has not been started, with these ids, the innermost first, and what else than a
    /// thread's all it shares (CLONE_IO).
    pub fn start(&mut self, tid: u32, ids: &[i32], flags: u64) -> Result<()> {
        if self.0.contains_key(&tid) {
            return Ok(());
        }
        let slot = Rc::new(Slot::default());
        let own = Rc::clone(&slot);
        let life = move || {
            loop {
                let job = own.job.borrow_mut().take();
                match job {
                    Some(job) => {
                        job();
                        own.done.set(true);
                    }
                    None => pause(),
                }
            }
        };
        sys::fork_sharing(ids, 0, flags | sys::thread_flags(), Box::new(life))
            .map_err(|error| Error::step(format!("make thread {tid}, which has children"), error))?;
        self.0.insert(tid, slot);
        Ok(())
    }

    /// Has the lodger `tid` do something, and waits until it has.
    pub fn have_done(&self, tid: u32, job: impl FnOnce() + 'a) -> Result<()> {
        let slot = self.0.get(&tid).ok_or(Error::Internal("a thread that has children was not made"))?;
        slot.done.set(false);
        *slot.job.borrow_mut() = Some(Box::new(job));
        while !slot.done.get() {
            pause();
        }
        Ok(())
    }

    /// Has the lodger `tid` become the program at `program`, with the stub at `run`; whether there is such a lodger.
    pub fn become_program(&self, tid: u32, run: u64, program: u64) -> Result<bool> {
        let Some(slot) = self.0.get(&tid) else { return Ok(false) };
        let own = Rc::clone(slot);
        self.have_done(tid, move || {
            own.done.set(true);
            sys::become_program(run, program)
        })?;
        Ok(true)
    }
}

/// Lets others have the baton for a moment.
fn pause() {
    const MOMENT: std::time::Duration = std::time::Duration::from_micros(50);
    sys::while_waiting(|| std::thread::sleep(MOMENT));
}
