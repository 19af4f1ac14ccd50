//! The restic repository format: cryptography and parsing, pure functions over bytes. No I/O.
//!
//! Bytes go through three doors. [`crypto`] opens encrypted units; [`unpacked`] and [`blob`] add what surrounds a unit
//! (ids, compression); the others parse the JSON inside. Everything is treated as hostile even when it is authentic:
//! a bad entry costs that entry, a bad file that file, and every size is bounded before memory is taken for it.

pub mod blob;
pub mod config;
pub mod crypto;
mod frame;
pub mod index;
pub mod keys;
mod mode;
mod name;
pub mod snapshot;
mod time;
pub mod tree;
pub mod unpacked;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod seal;
