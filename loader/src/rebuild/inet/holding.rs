//! The loader's own hold on the peers outside of the tree: from before the first socket of a connection is made, which would
//! answer their segments when it is half built, until all go on. What ckpt-dump has left for that may have expired, or somebody
//! may have removed it.
//!
//! The table belongs to this hold's netlink socket, so that nothing of it outlives the processes that resume the tree. The one that
//! ckpt-dump left is not touched: a resume that failed can be tried again.

use super::{Saved, all, objection};
use crate::error::Refusal;
use binfmt::hold::{Flow, Link, Until};
use binfmt::image::Image;
use binfmt::note::inet::InetAddress;
use nix::errno::Errno;
use std::net::SocketAddr;

/// Whom it holds back.
#[derive(Debug, Default)]
pub enum Holding {
    /// There is nobody to hold back.
    #[default]
    Nobody,
    /// All, in the table of this name.
    All(Link, String),
    /// Nobody: it cannot be done.
    Failed(Errno),
}

impl Holding {
    /// Holds back the peers of all connections of an image that go on.
    pub fn of(image: &Image) -> Holding {
        let flows: Vec<Flow> = outside(image).filter_map(|saved| flow(&saved)).collect();
        if flows.is_empty() {
            return Holding::Nobody;
        }
        let name = format!("{}-load", Link::new_name());
        let held = Link::open().and_then(|link| link.hold(&name, &flows, Until::Closed).map(|()| link));
        match held {
            Ok(link) => Holding::All(link, name),
            Err(error) => Holding::Failed(error),
        }
    }

    /// What stands against holding them back.
    pub fn refusals(&self, image: &Image) -> Vec<Refusal> {
        match self {
            // Who may not do this may not make connections, which is told of them.
            Holding::Nobody | Holding::All(..) | Holding::Failed(Errno::EPERM) => Vec::new(),
            Holding::Failed(error) => {
                outside(image).map(|saved| objection::not_held(&saved, *error)).collect()
            }
        }
    }

    /// Lets the peers' segments come, whoever else still has the socket.
    pub(super) fn release(&self) -> nix::Result<()> {
        match self {
            Holding::All(link, name) => link.release(name),
            Holding::Nobody | Holding::Failed(_) => Ok(()),
        }
    }
}

/// The connections that go on with a peer outside of the tree.
fn outside(image: &Image) -> impl Iterator<Item = Saved<'_>> {
    all(image).filter(|saved| saved.connection().is_some_and(|connection| !connection.within))
}

fn flow(saved: &Saved<'_>) -> Option<Flow> {
    let end = |address: &InetAddress| Some(SocketAddr::new(address.ip()?.to_canonical(), address.port));
    Some(Flow { own: end(&saved.note.local)?, peer: end(&saved.note.peer)? })
}
