//! Resumes of one image that are started at the same moment take turns until it is clear who has the ids: else all but one
//! would find them free and fail later.

use binfmt::image::Image;
use std::fs::{File, TryLockError};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The turn of this resume. It ends with [`Turn::end`], or when nobody has the value any more, children included.
pub struct Turn(File);

impl Turn {
    /// Waits until it is this resume's turn, but not longer than any other should take: then there is none, and the kernel
    /// decides who has the ids. It is a lock on the image (flock(2)), of which nothing is left.
    pub fn wait(image: &Image) -> Option<Turn> {
        const PATIENCE: Duration = Duration::from_secs(10);
        const PAUSE: Duration = Duration::from_millis(1);
        // A description of its own: that of the image goes on to all tasks.
        let file = File::open(format!("/proc/self/fd/{}", image.file.as_raw_fd())).ok()?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Some(Turn(file)),
                Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
                Err(_) => return None,
            }
        }
    }

    /// Ends it, for the children that have a copy of the descriptor, too.
    pub fn end(self) {
        let _ = self.0.unlock();
    }
}
