//! Holds the mounted sample against its manifest, with the calls that any program makes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::manifest::{self, Entry};
use crate::cli::{print, progress};
use crate::error::{Error, Result};

/// What the comparison found.
pub struct Checked {
    sets: usize,
    dates: usize,
    entries: usize,
    differences: Vec<String>,
}

impl Checked {
    /// Whether everything is as it was backed up.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }

    /// The lines for the screen.
    pub fn text(&self) -> String {
        let Checked { sets, dates, entries, differences } = self;
        let mut text: String = differences.iter().map(|line| format!("{line}\n")).collect();
        let verdict = match differences.len() {
            0 => "all as they were backed up: names, contents, times, modes, owners, links, attributes"
                .to_owned(),
            n => print::count(n, "difference"),
        };
        let (sets, dates) = (print::count(*sets, "set"), print::count(*dates, "date"));
        text.push_str(&format!("{sets}, {dates}, {entries} files and directories: {verdict}\n"));
        text
    }
}

/// Walks every date of every set below `mountpoint`.
pub fn run(mountpoint: &Path) -> Result<Checked> {
    let expected = manifest::expected()?;
    let bar = progress::bar("comparing");
    bar.at(0, expected.len());
    let mut found = Vec::new();
    let (mut sets, mut dates) = (0, 0);
    let mut differences = Vec::new();
    for set in sets_in(mountpoint)? {
        sets += 1;
        let (dir, set) =
            (mountpoint.join(OsStr::from_bytes(&set)), String::from_utf8_lossy(&set).into_owned());
        let of_set = dates_in(&dir)?;
        dates += of_set.len();
        for date in &of_set {
            found.extend(manifest::read(&dir.join(date), &format!("{set}/{date}"), &|| bar.one_more())?);
        }
        let latest = latest(&dir)?;
        if of_set.last() != Some(&latest) {
            differences.push(format!("{set}/latest: leads to {latest}"));
        }
    }
    differences.extend(compare(&expected, &found));
    Ok(Checked { sets, dates, entries: found.len(), differences })
}

/// A line for every path that is missing, too much, or not the same; both lists in order of path within their dates.
fn compare(expected: &[Entry], found: &[Entry]) -> Vec<String> {
    let by_path =
        |entries: &[Entry]| entries.iter().map(|entry| (entry.path.clone(), entry.clone())).collect();
    let expected: BTreeMap<String, Entry> = by_path(expected);
    let mut found: BTreeMap<String, Entry> = by_path(found);
    let mut differences = Vec::new();
    for (path, wanted) in &expected {
        match found.remove(path) {
            None => differences.push(format!("{path}: is missing")),
            Some(got) => differences.extend(wanted.unlike(&got).map(|how| format!("{path}: {how}"))),
        }
    }
    differences.extend(found.into_keys().map(|path| format!("{path}: was not backed up")));
    differences
}

fn sets_in(mountpoint: &Path) -> Result<Vec<Vec<u8>>> {
    let mut names = manifest::names(mountpoint)?;
    names.retain(|name| name.windows(2).any(|pair| pair == b"@+"));
    Ok(names)
}

/// The dates of a set of the sample, in order; their names are all plain.
fn dates_in(set: &Path) -> Result<Vec<String>> {
    let names = manifest::names(set)?;
    Ok(names
        .into_iter()
        .map(|name| String::from_utf8_lossy(&name).into_owned())
        .filter(|name| name != "latest")
        .collect())
}

fn latest(set: &Path) -> Result<String> {
    let link = set.join("latest");
    let target = fs::read_link(&link).map_err(|e| Error::io(link.display().to_string(), e))?;
    Ok(target.to_string_lossy().into_owned())
}

/// The upper levels of the mounted tree, drawn.
pub fn outline(mountpoint: &Path) -> Result<String> {
    let mut text = String::new();
    for set in sets_in(mountpoint)? {
        let dir = mountpoint.join(OsStr::from_bytes(&set));
        text.push_str(&format!("├── {}/\n", print::visible(&set)));
        for date in dates_in(&dir)? {
            text.push_str(&format!("│   ├── {date}/\n"));
        }
        text.push_str(&format!("│   └── latest -> {}\n", latest(&dir)?));
    }
    text.push_str("├── current/   the newest date of every set, as real directories\n");
    text.push_str("└── at/        every set as it was on a day: at/2026-03-01/\n");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_one_a_line() {
        let expected = manifest::expected().unwrap();
        assert!(compare(&expected, &expected).is_empty());
        let mut found = expected.clone();
        let gone = found.remove(3).path;
        found[0].path = "somewhere/else".into();
        let lines = compare(&expected, &found);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], format!("{}: is missing", expected[0].path));
        assert_eq!(lines[1], format!("{gone}: is missing"));
        assert_eq!(lines[2], "somewhere/else: was not backed up");
    }

    #[test]
    fn a_changed_attribute_is_a_difference() {
        let expected = manifest::expected().unwrap();
        let text = serde_json::to_string(&expected[5]).unwrap();
        let mut found = expected.clone();
        found[5] = serde_json::from_str(&text.replace("\"uid\":", "\"uid\":1")).unwrap();
        let lines = compare(&expected, &found);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0], format!("{}: uid is 11000, was 1000", expected[5].path));
    }

    #[test]
    fn the_summary_counts() {
        let checked = Checked { sets: 3, dates: 1, entries: 127, differences: Vec::new() };
        assert!(
            checked.is_equal()
                && checked.text().starts_with("3 sets, 1 date, 127 files and directories: all as")
        );
        let checked = Checked { differences: vec!["a: is missing".into()], ..checked };
        assert!(!checked.is_equal());
        assert_eq!(
            checked.text(),
            "a: is missing\n3 sets, 1 date, 127 files and directories: 1 difference\n"
        );
    }
}
