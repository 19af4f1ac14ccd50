//! The fuzz targets on a fixed sequence of changed seeds: quick, the same on every run, and without a fuzzer to build.
//!
//! `fuzz/run` sends the same targets through libFuzzer, which looks for new paths.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may stop where it fails"
)]

#[path = "../fuzz/src/seeds.rs"]
mod seeds;
#[path = "../fuzz/src/targets.rs"]
mod targets;
#[allow(dead_code, reason = "other targets use the rest")]
#[path = "harness/walk.rs"]
mod walk;
#[path = "harness/hostile/mod.rs"]
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};

use targets::TARGETS;

/// Numbers that look random and are the same on every run (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"4294967295",
    b"\\\\x00",
    b"\\\\",
    b"\\u0000",
    b"\xff",
    b"\0",
    b"true",
    b"\"nodes\"",
    b"\"packs\"",
    b"\"..\"",
    b"T24:00:00Z",
];

/// A seed with a few of its places changed.
fn changed(seed: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(data.len() + 1);
        let end = (at + dice.below(40)).min(data.len());
        match dice.below(7) {
            0 => drop(data.drain(at..end)),
            1 => data.truncate(at),
            2 => drop(data.splice(at..at, dice.of(TOKENS).iter().copied())),
            3 => drop(data.splice(at..end, dice.of(TOKENS).iter().copied())),
            4 => {
                let repeated = data[at..end].repeat(1 + dice.below(20));
                drop(data.splice(at..at, repeated));
            }
            5 => {
                let from = dice.below(other.len() + 1);
                data.truncate(at);
                data.extend(&other[from..]);
            }
            _ => {
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
        }
    }
    data
}

/// How many inputs of a target take about a second.
fn inputs(target: &str) -> usize {
    match target {
        "repository" => 100,
        "key" => 200,
        "index" | "tree" => 1000,
        _ => 4000,
    }
}

#[test]
fn no_target_breaks_on_changed_seeds() {
    let plain = seeds::of_fixtures();
    for target in TARGETS {
        let seeds = (target.seeds)(&plain);
        assert!(!seeds.is_empty(), "{}: no seeds", target.name);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for nth in 0..inputs(target.name) {
            let seed = &seeds[nth % seeds.len()];
            let data = match nth / seeds.len() {
                0 => seed.clone(),
                _ => changed(seed, &seeds[dice.below(seeds.len())], &mut dice),
            };
            let run = catch_unwind(AssertUnwindSafe(|| (target.run)(&data)));
            assert!(run.is_ok(), "{} breaks on:\n{}", target.name, data.escape_ascii());
        }
    }
}
