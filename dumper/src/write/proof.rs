//! Whether what is written can be resumed: it is read as the loader reads it, before the program may be killed for it.

use binfmt::consistency;
use binfmt::image::{Image, Layout};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Why no loader would take an image of this layout.
pub(super) fn objection(layout: &Layout) -> Option<String> {
    let read = || -> Result<Vec<String>, String> {
        let head = memfd_create(c"ckpt-head", MFdFlags::MFD_CLOEXEC).map_err(|error| error.to_string())?;
        let head = File::from(head);
        head.write_all_at(&layout.head, 0).map_err(|error| error.to_string())?;
        let image = Image::planned(head, layout.total_bytes).map_err(|error| error.to_string())?;
        Ok(consistency::check(&image))
    };
    match read() {
        Ok(wrong) => wrong.into_iter().next(),
        Err(cause) => Some(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use binfmt::image::{Owner, Segment};

    #[test]
    fn an_image_that_no_loader_takes_is_found() {
        let segment = |start, len_bytes| Segment { owner: Owner::Memory(1), start, len_bytes, flags: 6 };
        let objection = |segments: &[Segment]| {
            objection(&Layout::new(&[], &[], segments).expect("it fits")).expect("there is no task in it")
        };
        let twice = objection(&[segment(0x10_000, 0x2000), segment(0x11_000, 0x1000)]);
        assert!(twice.ends_with("a segment holds bytes that another one holds too"), "{twice}");
        assert_eq!(objection(&[]), "it does not say once where it was made");
    }
}
