//! The syntax of `-o`: `key[=value]` separated by commas, as mount(8) hands it on.

use super::given::{Entry, Given};
use crate::error::{Error, Kind, Result};

/// Options of mount(8) that mean nothing here, or nothing that could change: the mount is always `ro,nosuid,nodev`.
const IGNORED: &[&str] = &[
    "auto",
    "noauto",
    "user",
    "users",
    "nouser",
    "owner",
    "group",
    "_netdev",
    "_rnetdev",
    "nofail",
    "defaults",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "exec",
    "atime",
    "noatime",
    "relatime",
    "diratime",
    "nodiratime",
    "sync",
    "async",
    "rw",
    "ro",
];

/// The entries of one `-o`, without those that mean nothing here. Errors: an option without a name.
pub fn entries(options: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for option in split_commas(options) {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Given::Text(value.to_owned())),
            None => (option.as_str(), Given::Nothing),
        };
        if key.is_empty() {
            return Err(Error::new(Kind::Usage, format!("-o: \"{option}\" has no name")));
        }
        if !is_ignored(key, &value) {
            entries.push(Entry { key: key.to_owned(), place: "-o".to_owned(), value });
        }
    }
    Ok(entries)
}

/// `owner` alone is mount(8)'s, `owner=…` is ours.
fn is_ignored(key: &str, value: &Given) -> bool {
    key.starts_with("x-") || key == "comment" || (*value == Given::Nothing && IGNORED.contains(&key))
}

/// The parts between commas; `\,` is a comma within a part and `\\` a backslash. Empty parts are left out.
fn split_commas(options: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = options.chars().peekable();
    while let Some(c) = chars.next() {
        let literal = match c {
            ',' => None,
            '\\' => Some(chars.next_if(|next| matches!(next, ',' | '\\')).unwrap_or('\\')),
            c => Some(c),
        };
        match (literal, parts.last_mut()) {
            (Some(c), Some(part)) => part.push(c),
            _ => parts.push(String::new()),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(options: &str) -> Vec<String> {
        entries(options).unwrap().into_iter().map(|e| e.key).collect()
    }

    #[test]
    fn commas_separate_unless_escaped() {
        assert_eq!(split_commas(r"a,b=c\,d,,e"), ["a", "b=c,d", "e"]);
        assert_eq!(split_commas(r"a\\,b\x,c\"), [r"a\", r"b\x", r"c\"]);
        assert!(split_commas("").is_empty());
    }

    #[test]
    fn options_of_mount_are_ignored() {
        assert!(
            keys("rw,_netdev,nofail,user,x-systemd.automount,x-foo=1,comment=hi,dev,suid,owner,defaults")
                .is_empty()
        );
        assert_eq!(keys("ro,owner=root,noexec"), ["owner", "noexec"]);
    }

    #[test]
    fn values_keep_further_equal_signs() {
        let entries = entries("time-format=a=b").unwrap();
        assert_eq!(entries[0].value, Given::Text("a=b".into()));
    }

    #[test]
    fn an_option_without_a_name_is_an_error() {
        assert_eq!(entries("=x").unwrap_err().kind(), Kind::Usage);
    }

    proptest! {
        #[test]
        fn escaping_every_comma_and_backslash_gives_the_text_back(texts in prop::collection::vec("[a,\\\\=é]{1,6}", 1..5)) {
            let escaped: Vec<String> = texts.iter().map(|t| t.replace('\\', r"\\").replace(',', r"\,")).collect();
            prop_assert_eq!(split_commas(&escaped.join(",")), texts);
        }
    }
}
