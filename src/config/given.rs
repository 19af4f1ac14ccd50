//! What was said, key by key, whichever way it was said: `-o` and the configuration file become the same [`Entry`]s,
//! and a table of [`Key`]s says what each may be and where it goes.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::nearest::nearest;
use super::values;
use crate::error::{Error, Kind, Result};

/// One key with its value, and the place to name when it is wrong (`-o`, `/etc/backupfs/config.toml:12`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The key as typed.
    pub key: String,
    /// Where it was said.
    pub place: String,
    /// What was said.
    pub value: Given,
}

/// A value as typed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Given {
    /// The key alone: `-o allow_other`.
    Nothing,
    /// Text; every value of `-o`.
    Text(String),
    /// `true` or `false` in a file.
    Flag(bool),
    /// A whole number in a file.
    Number(i64),
    /// Several texts.
    List(Vec<String>),
    /// Keys of their own.
    Table(Vec<Entry>),
    /// Several of those.
    Tables(Vec<Vec<Entry>>),
}

/// What a key is called and what it does to a `T`.
pub struct Key<T> {
    /// Its name; `_` and `-` are the same.
    pub name: &'static str,
    /// Takes the value.
    pub set: fn(&mut T, &Entry) -> Result<()>,
}

/// Puts every entry where its key belongs, the last one winning. Errors: an unknown key, with the nearest known one.
pub fn apply<T>(keys: &[Key<T>], into: &mut T, entries: &[Entry]) -> Result<()> {
    for entry in entries {
        let Some(key) = find(keys, entry) else {
            return Err(entry.unknown(keys.iter().map(|key| key.name)));
        };
        (key.set)(into, entry)?;
    }
    Ok(())
}

/// The key that an entry is for.
pub fn find<'a, T>(keys: &'a [Key<T>], entry: &Entry) -> Option<&'a Key<T>> {
    keys.iter().find(|key| same(key.name, &entry.key))
}

/// Whether two keys are the same but for `_` and `-`.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .all(|(a, b)| a == b || (matches!(a, b'_' | b'-') && matches!(b, b'_' | b'-')))
}

impl Entry {
    /// The key as documentation has it.
    pub fn name(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The error that this value is wrong, and why.
    pub fn wrong(&self, why: impl std::fmt::Display) -> Error {
        Error::new(Kind::Usage, format!("{}: {}: {why}", self.place, self.key))
    }

    /// The error that this key is none of `known`.
    pub(super) fn unknown(&self, known: impl Iterator<Item = &'static str>) -> Error {
        if is_secret(&self.key) {
            return self.wrong(
                "a password does not belong here, where others can read it; \
                 use password-file or password-command",
            );
        }
        let hint =
            nearest(&self.key, known).map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
        let what = if self.place == "-o" { "option" } else { "key" };
        Error::new(Kind::Usage, format!("{}: unknown {what} \"{}\"{hint}", self.place, self.key))
    }

    /// One text that is not empty.
    pub fn text(&self) -> Result<&str> {
        match &self.value {
            Given::Text(text) if text.is_empty() => Err(self.wrong("is empty")),
            Given::Text(text) => Ok(text),
            Given::Nothing => Err(self.wrong(format_args!("needs a value ({}=…)", self.key))),
            _ => Err(self.wrong("must be a text in quotes")),
        }
    }

    /// One text or several.
    pub fn list(&self) -> Result<Vec<String>> {
        match &self.value {
            Given::List(list) => Ok(list.clone()),
            _ => Ok(vec![self.text()?.to_owned()]),
        }
    }

    /// Yes or no; the key alone is yes.
    pub fn flag(&self) -> Result<bool> {
        match &self.value {
            Given::Nothing => Ok(true),
            Given::Flag(flag) => Ok(*flag),
            Given::Text(text) if text == "true" => Ok(true),
            Given::Text(text) if text == "false" => Ok(false),
            _ => Err(self.wrong("must be true or false")),
        }
    }

    /// A length of time of a second at least.
    pub fn duration(&self) -> Result<Duration> {
        let duration = match &self.value {
            Given::Number(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
            _ => values::duration(self.text()?),
        };
        match duration {
            None => Err(self.wrong("must be a length of time such as 60s, 10min or 1h")),
            Some(short) if short < Duration::from_secs(1) => Err(self.wrong("must be one second or more")),
            Some(duration) => Ok(duration),
        }
    }

    /// A number of bytes.
    pub fn size(&self) -> Result<u64> {
        let size = match &self.value {
            Given::Number(bytes) => u64::try_from(*bytes).ok(),
            _ => values::size(self.text()?),
        };
        size.ok_or_else(|| self.wrong("must be a size such as 48M or 1G"))
    }

    /// A path that does not depend on where the command runs.
    pub fn absolute_path(&self) -> Result<PathBuf> {
        let path = PathBuf::from(self.text()?);
        if path.is_absolute() { Ok(path) } else { Err(self.wrong("must be an absolute path")) }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Result<T> {
        let text = self.text()?;
        choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.wrong(format_args!("\"{text}\" is not one of {}", names.join(", ")))
        })
    }

    /// Keys of its own.
    pub fn table(&self) -> Result<&[Entry]> {
        match &self.value {
            Given::Table(entries) => Ok(entries),
            _ => Err(self.wrong("must be a table ({ key = value, … })")),
        }
    }

    /// Tables of its own (`[[key]]`), which only a file can hold.
    pub fn tables(&self) -> Result<&[Vec<Entry>]> {
        match &self.value {
            Given::Tables(tables) => Ok(tables),
            _ => Err(self.wrong(format_args!("belongs into a configuration file, as [[{}]]", self.key))),
        }
    }
}

/// Whether a key asks for a password to be written where it does not belong.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret"].iter().any(|word| key.ends_with(word)) || key == "pass"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: Given) -> Entry {
        Entry { key: key.into(), place: "-o".into(), value }
    }

    const KEYS: &[Key<Vec<String>>] = &[
        Key { name: "time-format", set: |seen, e| e.text().map(|v| seen.push(v.into())) },
        Key { name: "allow_other", set: |seen, e| e.flag().map(|v| seen.push(v.to_string())) },
    ];

    fn applied(entries: &[Entry]) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        apply(KEYS, &mut seen, entries)?;
        Ok(seen)
    }

    #[test]
    fn keys_are_found_with_either_spelling() {
        let entries = [entry("time_format", Given::Text("%Y".into())), entry("allow-other", Given::Nothing)];
        assert_eq!(applied(&entries).unwrap(), ["%Y", "true"]);
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = applied(&[entry("alow_other", Given::Nothing)]).unwrap_err();
        assert_eq!(error.to_string(), "-o: unknown option \"alow_other\"; did you mean \"allow_other\"?");
        assert_eq!(error.kind(), Kind::Usage);
        let error = applied(&[entry("zzz", Given::Nothing)]).unwrap_err();
        assert_eq!(error.to_string(), "-o: unknown option \"zzz\"");
    }

    #[test]
    fn passwords_are_refused_without_repeating_them() {
        for key in ["password", "pass", "RESTIC_PASSWORD", "passphrase"] {
            let error = applied(&[entry(key, Given::Text("hunter2".into()))]).unwrap_err().to_string();
            assert!(error.contains("others can read it") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn values_of_the_wrong_shape_say_what_they_must_be() {
        let wrong = |value, read: fn(&Entry) -> Option<Error>, says: &str| {
            let error = read(&entry("k", value)).unwrap().to_string();
            assert!(error.contains(says), "{error}");
        };
        wrong(Given::Nothing, |e| e.text().err(), "needs a value");
        wrong(Given::Text(String::new()), |e| e.text().err(), "is empty");
        wrong(Given::Text("maybe".into()), |e| e.flag().err(), "true or false");
        wrong(Given::Text("0".into()), |e| e.duration().err(), "one second or more");
        wrong(Given::Number(-1), |e| e.duration().err(), "length of time");
        wrong(Given::Text("many".into()), |e| e.size().err(), "such as 48M");
        wrong(Given::Text("a/b".into()), |e| e.absolute_path().err(), "absolute");
        wrong(
            Given::Text("x".into()),
            |e| e.choice(&[("all", 1), ("none", 2)]).err(),
            "not one of all, none",
        );
        wrong(Given::Text("x".into()), |e| e.tables().map(|_| ()).err(), "as [[k]]");
    }
}
