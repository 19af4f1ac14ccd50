//! The targets under libFuzzer. `FUZZ_TARGET` names one; with `FUZZ_SEEDS` the seeds of all are written below that
//! directory instead. `fuzz/run` does both.

#![no_main]

#[path = "../../tests/harness/walk.rs"]
mod walk;
#[path = "../../tests/harness/hostile/mod.rs"]
mod writer;

mod seeds;
mod targets;

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use targets::{TARGETS, Target};

static CHOSEN: OnceLock<&Target> = OnceLock::new();

fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
            write_seeds(folder.into());
            std::process::exit(0);
        }
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let target = TARGETS.iter().find(|target| target.name == name);
        let target = target.unwrap_or_else(|| panic!("FUZZ_TARGET={name} is none of the targets"));
        CHOSEN.set(target).unwrap_or_default();
    },
    |data: &[u8]| {
        if let Some(target) = CHOSEN.get() {
            (target.run)(data);
        }
    }
);

fn write_seeds(folder: PathBuf) {
    let plain = seeds::of_fixtures();
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).expect("a folder for seeds");
        for (nth, seed) in (target.seeds)(&plain).into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{nth}")), seed).expect("a seed");
        }
        println!("{}", target.name);
    }
}
