//! A small general writer of restic repositories: the cryptography is valid, the content is whatever a test likes.
//!
//! ```ignore
//! let mut repository = Repository::new(2);
//! let blob = repository.data(b"content");
//! let tree = repository.tree(&[node::file("a", &[&blob]), node::with(node::file("b", &[]), json!({"size": -1}))]);
//! repository.snapshot("/src", &tree);
//! let store: Arc<Memory> = repository.into_store();   // or repository.write(directory)
//! ```
//!
//! Every level can be overridden: what a blob is stored as and what the index says of it ([`Blob`]), the text of a tree,
//! of an index file or of a snapshot, the bytes of any object. It shares no code with the reader, so that a mistake in
//! one does not hide in the other.

#![allow(dead_code, unused_imports, reason = "each target uses its part")]

pub mod frame;
pub mod node;
mod repository;
mod seal;

pub use repository::{Blob, Repository, Stored, id};
pub use seal::{Key, Scrypt};

/// What opens every repository written here.
pub const PASSWORD: &str = "hostile";
