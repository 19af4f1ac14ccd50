//! Which object of a repository a name of the REST protocol is.
//!
//! The protocol knows `config` and five types of objects by name, nothing else, and data without directories: how the
//! server keeps them is its own affair. Above this store every repository has restic's default layout, so the key of the
//! object `ab12…` of type `data` is `data/ab/ab12…`. A key that is none of these cannot exist.

/// The types, which are also the first components of keys.
const TYPES: [&str; 5] = ["data", "index", "keys", "locks", "snapshots"];

/// The type of which every repository has one.
pub(super) const KEYS: &str = "keys";

/// The one object without a type.
pub(super) const CONFIG: &str = "config";

/// Where a key's object is on the server, relative to the repository; `None` when there can be none.
pub(super) fn path(key: &str) -> Option<String> {
    if key == CONFIG {
        return Some(CONFIG.to_owned());
    }
    let (kind, rest) = key.split_once('/')?;
    let kind = TYPES.iter().find(|known| **known == kind)?;
    let name = match (*kind, rest.split_once('/')) {
        ("data", Some((folder, name))) if name.get(..2) == Some(folder) => name,
        ("data", _) | (_, Some(_)) => return None,
        (_, None) => rest,
    };
    (!name.contains('/')).then(|| format!("{kind}/{}", escaped(name)))
}

/// The key of an object; `None` when it could have none.
pub(super) fn key(kind: &str, name: &str) -> Option<String> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return None;
    }
    match kind {
        "data" => {
            name.get(..2).filter(|folder| *folder != "..").map(|folder| format!("data/{folder}/{name}"))
        }
        _ => Some(format!("{kind}/{name}")),
    }
}

/// The type of a key's object.
pub(super) fn kind(key: &str) -> Option<&'static str> {
    let kind = key.split('/').next()?;
    TYPES.into_iter().find(|known| *known == kind)
}

/// The types of which some keys begin with `prefix`.
pub(super) fn types(prefix: &str) -> impl Iterator<Item = &'static str> {
    let kind = prefix.split('/').next().unwrap_or_default();
    TYPES.into_iter().filter(move |known| kind.is_empty() || *known == kind)
}

/// A name as a URL has it.
fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'~' => {
                text.push(char::from(byte))
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_names_of_the_protocol() {
        for (key, on_server) in [
            ("config", "config"),
            ("keys/00ff", "keys/00ff"),
            ("snapshots/a b%é", "snapshots/a%20b%25%C3%A9"),
            ("data/00/00ff", "data/00ff"),
            ("data/éé/éé".get(..).unwrap(), ""),
        ] {
            assert_eq!(path(key).unwrap_or_default(), on_server, "{key}");
        }
        for none in [
            "data",
            "data/00ff",
            "data/01/00ff",
            "data/00/00/ff",
            "key/00",
            "config/x",
            "index/a/b",
            "Keys/0",
        ] {
            assert_eq!(path(none), None, "{none}");
        }
    }

    #[test]
    fn names_become_keys_that_lead_back_to_them() {
        for (kind, name) in [("data", "00ff"), ("keys", "x"), ("index", "a b"), ("data", "x日")] {
            let back = key(kind, name).and_then(|key| path(&key));
            let expected = (name != "x日").then(|| format!("{kind}/{}", escaped(name)));
            assert_eq!(back, expected, "{kind} {name}");
        }
        for bad in ["", ".", "..", "a/b", "a\0b", "/etc"] {
            assert_eq!(key("index", bad), None, "{bad:?}");
        }
        assert_eq!(key("data", "a"), None);
        assert_eq!(key("data", "..x"), None);
    }

    #[test]
    fn a_prefix_tells_what_to_list() {
        assert_eq!(types("").count(), 5);
        assert_eq!(types("data/").collect::<Vec<_>>(), ["data"]);
        assert_eq!(types("data/00/").collect::<Vec<_>>(), ["data"]);
        assert_eq!(types("key/").count(), 0);
        assert_eq!(types("config/").count(), 0);
    }
}
