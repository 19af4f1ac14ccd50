//! Which room may import which, and that no test file is forgotten: the tables here are the law.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop where it fails"
)]

#[path = "layers/reach.rs"]
mod reach;
#[path = "layers/rooms.rs"]
mod rooms;
#[path = "layers/rust.rs"]
mod rust;

use std::fs;
use std::path::{Path, PathBuf};

/// Every file below `folder` of this repository whose name ends in `ending`, relative to the repository, in order.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => walk(&path, ending, found),
                _ if path.to_string_lossy().ends_with(ending) => found.push(path),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(folder), ending, &mut found);
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}
