//! Kernel requests to node calls and back.
//!
//! [`mount`] makes the kernel's side of a mount, [`serve`] answers for it. A request finds its inode ([`inodes`]), asks
//! the node ([`state`]) and shapes the reply ([`filesystem`]); what is not ready is waited for elsewhere ([`answer`]).
//! The kernel keeps what it was told for as long as it is valid and is told what changed ([`notify`]).
//!
//! All that is known here of backups is [`crate::tree`].

mod acl;
mod answer;
mod attr;
mod directory;
mod errno;
mod failures;
mod filesystem;
mod forgotten;
mod fusermount;
mod inodes;
mod mount;
mod mountinfo;
mod notify;
mod offered;
mod options;
mod owner;
mod passthrough;
mod polling;
mod push;
mod readers;
mod replies;
mod rights;
mod session;
mod state;
mod told;
mod trails;
mod xattrs;

pub use fusermount::PLACES as FUSERMOUNT;
pub use mount::{Device, mount, unmount};
pub use mountinfo::{
    FSTYPE, MountEntry, is_dead, mount_of, mounted_at, mounts, parse as parse_mounts, unescape,
};
pub use offered::{Offered, offered};
pub use options::{IdMap, IdRange, MountSpec, Options, Owner, XattrPolicy};
pub use rights::{OwnRights, Rights};
pub use session::{Session, serve};
