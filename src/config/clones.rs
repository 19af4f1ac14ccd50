//! How clones of ZFS snapshots are made, and by which programs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command;
use super::given::{Entry, Given};
use crate::error::Result;

/// What was said of clones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clones {
    /// The dataset to make them in, where that is not the one that is shown.
    pub parent: Option<String>,
    /// What nobody used for so long is destroyed.
    pub idle: Duration,
    /// So many there may be at a time.
    pub most: usize,
    /// The words with which `zfs` is called; never empty.
    pub zfs: Vec<String>,
    /// The same of `mount`. With `umount` for its last word it unmounts.
    pub mount: Vec<String>,
}

impl Default for Clones {
    fn default() -> Self {
        Clones {
            parent: None,
            idle: Duration::from_secs(300),
            most: 32,
            zfs: vec!["zfs".to_owned()],
            mount: vec!["mount".to_owned()],
        }
    }
}

/// A number of clones.
pub fn most(entry: &Entry) -> Result<usize> {
    let number = match &entry.value {
        Given::Number(number) => usize::try_from(*number).ok(),
        _ => entry.text()?.parse().ok(),
    };
    let number = number.filter(|number| (1..=10_000).contains(number));
    number.ok_or_else(|| entry.wrong("must be a number from 1 to 10000"))
}

/// The words of a command.
pub fn program(entry: &Entry) -> Result<Vec<String>> {
    match command::words(entry.text()?) {
        Some(words) if !words.is_empty() => Ok(words),
        _ => Err(entry.wrong("must be a program, and what stands before it: \"sudo -n zfs\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: Given) -> Entry {
        Entry { key: "x".into(), place: "c.toml:3".into(), value }
    }

    fn text(text: &str) -> Entry {
        entry(Given::Text(text.to_owned()))
    }

    #[test]
    fn a_number_is_one_however_it_is_written() {
        assert_eq!(most(&text("20")).unwrap(), 20);
        assert_eq!(most(&entry(Given::Number(1))).unwrap(), 1);
        for wrong in [text("0"), text("many"), entry(Given::Number(-1)), entry(Given::Number(10_001))] {
            assert!(most(&wrong).unwrap_err().to_string().contains("from 1 to 10000"));
        }
    }

    #[test]
    fn a_program_may_have_others_before_it() {
        assert_eq!(program(&text("sudo -n '/sbin/zfs'")).unwrap(), ["sudo", "-n", "/sbin/zfs"]);
        for wrong in ["'zfs", "  "] {
            assert!(program(&text(wrong)).unwrap_err().to_string().contains("must be a program"));
        }
    }
}
