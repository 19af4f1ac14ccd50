//! What chunk repositories share: the blob index, the loader of blobs, files made of blobs, the pool for decoding.
//!
//! A repository says how to read a pack, how to decode a blob and how to list its index again ([`Packs`]); the
//! [`Loader`] does the rest: it plans ranged reads, fetches each blob once however many want it, decodes on the [`Pool`],
//! keeps what was decoded, and looks for another place when one fails.

pub mod acl;
mod damage;
mod filemap;
mod flight;
mod hash;
mod id;
mod index;
mod loader;
mod near;
mod plan;
mod pool;
mod reader;
mod shared;
mod tuning;
#[cfg(test)]
mod vault;
mod window;
mod zeros;

pub use damage::Damage;
pub use filemap::FileMap;
pub use flight::{Boarding, Flights, Landing, Waiter};
pub use hash::hash;
pub use id::Id;
pub use index::{
    BlobIndex, BlobKind, Gathering, IndexFile, NewSegments, Pages, Place, Shelf, Standing, Tender,
};
pub use loader::{Loader, Packs};
pub use pool::Pool;
pub use reader::ChunkReader;
pub use shared::{Directory, Key, Part, Room, Shared, Stream};
