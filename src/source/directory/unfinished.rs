//! Trees that are still being written.

use std::fs;
use std::path::PathBuf;

/// How names begin that backup programs give to what is not done yet, or about to go.
const BEGINNINGS: &[&str] = &["incomplete", "in-progress", "inprogress", "partial", "_delete.", "lost+found"];

/// How such names end.
const ENDS: &[&str] =
    &["incomplete", "inprogress", "in-progress", "in_progress", "partial", "part", "tmp", "sync"];

/// Whether a directory of that name is not done: `incomplete-2026-03-01`, `2026-03-01.partial`.
pub(super) fn is_named(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    let ends = |end: &&str| {
        let before = lower.strip_suffix(end.as_bytes());
        before.is_some_and(|before| before.last().is_some_and(|last| !last.is_ascii_alphanumeric()))
    };
    BEGINNINGS.iter().any(|word| lower.starts_with(word.as_bytes())) || ENDS.iter().any(ends)
}

/// The directories into which rsync may be writing on this machine now: those in which its processes stand, as far as
/// they may be looked at. One that only reads stands in what it reads, too.
pub fn under_way() -> Vec<PathBuf> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let standing = processes.flatten().filter_map(|process| {
        let process = process.path();
        let command = fs::read(process.join("comm")).ok()?;
        (command == b"rsync\n").then(|| fs::read_link(process.join("cwd")).ok())?
    });
    standing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_trees_are_known_by_their_names() {
        for name in [
            "incomplete",
            "incomplete_20260301",
            "2026-03-01.partial",
            "20260301_030000-incomplete",
            "20260301.tmp",
            "in-progress-5",
            "_delete.1234",
            ".sync",
            "2026.IN_PROGRESS",
            "lost+found",
        ] {
            assert!(is_named(name.as_bytes()), "{name}");
        }
        for name in
            ["20260301", "daily.0", "party", "rsync", "async", "stmp", "", "tmp", "before-partial-upgrade"]
        {
            assert!(!is_named(name.as_bytes()), "{name}");
        }
    }
}
