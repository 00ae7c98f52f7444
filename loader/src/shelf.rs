//! The shelf: everything that has a descriptor and may be shared, opened once, before there is any process.
//!
//! Open file descriptions, pipes, memfds and files without a name are opened by the first start of the loader at numbers
//! above all of the image's, as far as the limit of open descriptors has such, and stay open over every fork and exec. Each process puts what is its own to its numbers and
//! closes the shelf. Which number is what stands in the control pages, in an order that the image gives.

use crate::control::Control;
use crate::error::{Error, Result};
use crate::rebuild::descriptor::{self, OwnStdio, dup_above, out_of_way};
use crate::rebuild::namespace::{self, Namespaces};
use crate::rebuild::{epoll, file, io_uring, lock, mapping};
use crate::stage::Identity;
use crate::sys;
use binfmt::image::Image;
use binfmt::note::descriptor::Description;
use binfmt::note::mapping::{MappedObject, ObjectKind};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// What stands at a place of the shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// The caller's descriptor 0, 1 or 2.
    Stdio(u32),
    /// A memfd, by the id of its object.
    Memfd(u32),
    /// A file without a name, by device and inode; see `file::nameless`.
    Deleted(u64, u64),
    /// An open file description, by its id.
    Description(u32),
    /// A namespace, by its number.
    Namespace(u32),
}

/// The shelf. Its descriptors belong to the process, not to the value: they are closed when all others are.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    numbers: BTreeMap<Item, RawFd>,
}

/// Everything that an image puts on the shelf, in the order of the control pages.
pub fn items(image: &Image) -> Vec<Item> {
    let memfds = image.all::<MappedObject>().filter(|object| object.kind == ObjectKind::Memfd);
    let deleted = file::without_name(image).map(|identity| Item::Deleted(identity.device, identity.inode));
    let mut items: Vec<Item> = (0..3).map(Item::Stdio).collect();
    items.extend(memfds.map(|object| Item::Memfd(object.id)));
    items.extend(deleted);
    items.extend(image.all::<Description>().map(|description| Item::Description(description.id)));
    items.extend(namespace::items(image));
    items
}

impl Shelf {
    /// Opens everything, at or above descriptor `above` if there is room, for a tree that gets these ids.
    pub fn fill(image: &Image, namespaces: &Namespaces, identity: Identity, above: RawFd) -> Result<Shelf> {
        let own = OwnStdio::keep(above)?;
        let mut shelf = Shelf::default();
        for (number, fd) in (0..).zip(own.all()) {
            shelf.put(Item::Stdio(number), dup_above(fd.as_raw_fd(), above), above)?;
        }
        for object in image.all::<MappedObject>().filter(|object| object.kind == ObjectKind::Memfd) {
            shelf.put(Item::Memfd(object.id), Ok(mapping::make_memfd(image, object)?), above)?;
        }
        for ((device, inode), fd) in file::nameless::make_all(image)? {
            shelf.put(Item::Deleted(device, inode), Ok(fd), above)?;
        }
        for (id, fd) in descriptor::open_all(image, identity, &shelf, &own, above)? {
            shelf.put(Item::Description(id), Ok(fd), above)?;
        }
        for (id, fd) in namespaces.descriptors() {
            shelf.put(Item::Namespace(id), dup_above(fd.as_raw_fd(), above), above)?;
        }
        io_uring::register_files(image, &shelf)?;
        epoll::fill_all(image, &shelf, above)?;
        lock::rebuild_on_the_way(image, &shelf)?;
        file::nameless::finish_all(image, &shelf)?;
        Ok(shelf)
    }

    /// Puts a descriptor out of the way of the image's numbers if there is room, where it stays open over exec.
    fn put(&mut self, item: Item, fd: nix::Result<OwnedFd>, above: RawFd) -> Result<()> {
        let failed = |error| Error::step("keep a descriptor out of the program's way", error);
        let fd = fd.map_err(failed)?;
        let fd = out_of_way(&fd, above).map_err(failed)?.unwrap_or(fd);
        fcntl(fd.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).map_err(failed)?;
        self.numbers.insert(item, sys::give_up(fd));
        Ok(())
    }

    /// Writes the numbers to the control pages.
    pub fn note(&self, image: &Image, control: Control) {
        for (index, item) in items(image).into_iter().enumerate() {
            let number = self.numbers.get(&item).copied().unwrap_or(-1);
            control.set_shelf(index, number.cast_unsigned());
        }
    }

    /// The shelf that an earlier start has filled.
    pub fn adopt(image: &Image, control: Control) -> Shelf {
        let items = items(image).into_iter().enumerate();
        let numbers = items.map(|(index, item)| (item, control.shelf(index).cast_signed()));
        Shelf { numbers: numbers.filter(|(_, number)| *number >= 0).collect() }
    }

    /// The numbers of its descriptors.
    pub fn numbers(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.numbers.values().copied()
    }

    /// Closes everything on it.
    pub fn close(self) {
        self.numbers.into_values().for_each(|number| drop(sys::adopt(number)));
    }

    fn get(&self, item: Item) -> Option<BorrowedFd<'_>> {
        self.numbers.get(&item).map(|number| sys::borrow(*number))
    }

    /// A memfd by the id of its object.
    pub fn memfd(&self, id: u32) -> Option<BorrowedFd<'_>> {
        self.get(Item::Memfd(id))
    }

    /// A file without a name.
    pub fn deleted(&self, device: u64, inode: u64) -> Option<BorrowedFd<'_>> {
        self.get(Item::Deleted(device, inode))
    }

    /// An open file description.
    pub fn description(&self, id: u32) -> Option<BorrowedFd<'_>> {
        self.get(Item::Description(id))
    }

    /// A namespace.
    pub fn namespace(&self, id: u32) -> Option<BorrowedFd<'_>> {
        self.get(Item::Namespace(id))
    }

    /// The caller's descriptor 0, 1 or 2; for any other number the first.
    pub fn stdio(&self, number: u32) -> Option<BorrowedFd<'_>> {
        self.get(Item::Stdio(if number < 3 { number } else { 0 }))
    }

    /// The first of the caller's that is a terminal.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        (0..3).filter_map(|number| self.stdio(number)).find(IsTerminal::is_terminal)
    }

    /// Seals memfds, when nobody of ours maps or writes them any more.
    pub fn seal(&self, image: &Image) -> Result<()> {
        for object in image.all::<MappedObject>() {
            let Some(fd) = self.memfd(object.id) else { continue };
            let seals = nix::fcntl::SealFlag::from_bits_retain(object.seals.cast_signed());
            if !seals.is_empty() {
                fcntl(fd, FcntlArg::F_ADD_SEALS(seals))
                    .map_err(|error| Error::step(format!("seal the memfd {}", object.file.path), error))?;
            }
        }
        Ok(())
    }
}
