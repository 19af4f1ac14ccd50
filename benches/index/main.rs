//! What the index of a large repository costs: `cargo bench --bench index [-- BLOBS]`, ten million by default.
//!
//! Makes a repository of one small snapshot whose index files name so many blobs, mounts it with an empty cache and again
//! with what the first mount left there, and looks blobs up in memory and on disk. The key costs nothing to derive.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a benchmark may stop where it fails"
)]

mod lookups;
#[path = "../../tests/harness/machine.rs"]
mod machine;
mod mounts;
mod synthetic;
#[path = "../../tests/harness/hostile/mod.rs"]
mod writer;

use std::time::Instant;

/// How many blobs unless the command says otherwise.
const BLOBS: u64 = 10_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` starts benchmarks without it.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let blobs = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(BLOBS);
    let place = tempfile::tempdir().unwrap();
    let (repository, cache) = (place.path().join("repository"), place.path().join("cache"));

    let started = Instant::now();
    let files = synthetic::write(&repository, blobs);
    let size = bytes_below(&repository.join("index"));
    println!(
        "{blobs} blobs in {files} index files of {} MB, made in {:.1} s",
        size / 1_000_000,
        seconds(started)
    );
    println!();

    mounts::table(&repository, &cache);
    let segments = bytes_below(&cache);
    println!("on disk: {} MB, {:.1} bytes a blob", segments / 1_000_000, segments as f64 / blobs as f64);
    println!();

    lookups::table(place.path(), blobs);
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

/// The sizes of all files below a directory.
fn bytes_below(directory: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let size = |entry: std::fs::DirEntry| match entry.metadata().unwrap() {
        meta if meta.is_dir() => bytes_below(&entry.path()),
        meta => meta.len(),
    };
    entries.map(size).sum()
}
