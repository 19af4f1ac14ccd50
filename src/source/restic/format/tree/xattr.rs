//! Extended attributes of a node: from JSON to bytes in the arena, and back.
//!
//! In the arena: their number (u16), then for each the name's length (u8), the value's (u32), name, value; numbers
//! little-endian.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::parse::Text;
use crate::source::chunked::acl;

/// Linux's limits: one name, one value, all names of a node together (each with its NUL).
const MAX_NAME: usize = 255;
const MAX_VALUE: usize = 64 << 10;
const MAX_NAMES: usize = 64 << 10;

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    value: Option<Text<'a>>,
}

/// The attributes of one node that can be shown.
#[derive(Default)]
pub struct Attributes<'a> {
    list: Vec<(Cow<'a, str>, Vec<u8>)>,
    /// Whether an access ACL was recorded, or may have been, and is not among them.
    pub access_acl_lost: bool,
}

impl<'a> Attributes<'a> {
    /// Reads the list in `json`. Attributes that cannot be shown are passed to `hidden`, each with the reason.
    pub fn read(json: &'a RawValue, hidden: &mut dyn FnMut(String)) -> Self {
        let mut found = Attributes::default();
        let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(json.get()) else {
            hidden("extended attributes hidden: malformed list".into());
            return Attributes { access_acl_lost: true, ..found };
        };
        for raw in list {
            match serde_json::from_str::<Raw>(raw.get()) {
                Ok(raw) => found.take(raw, hidden),
                Err(_) => hidden("extended attribute hidden: malformed".into()),
            }
        }
        // Of equal names the last stays, as with everything that is restored in order.
        found.list.reverse();
        found.list.sort_by(|a, b| a.0.cmp(&b.0));
        found.list.dedup_by(|later, first| later.0 == first.0);
        found.cut_names(hidden);
        found
    }

    fn take(&mut self, raw: Raw<'a>, hidden: &mut dyn FnMut(String)) {
        let name = raw.name.0;
        let value = STANDARD.decode(raw.value.as_ref().map_or("", |value| &value.0));
        let is_acl = [acl::ACCESS, acl::DEFAULT].contains(&name.as_bytes());
        let reason = match value {
            _ if name.is_empty() || name.contains('\0') => "not a name",
            _ if name.len() > MAX_NAME => "its name is longer than 255 bytes",
            Err(_) => "malformed base64",
            Ok(value) if value.len() > MAX_VALUE => "its value is longer than 64 KiB",
            Ok(value) if is_acl && !acl::is_valid(&value) => "malformed ACL",
            Ok(value) => {
                self.list.push((name, value));
                return;
            }
        };
        self.access_acl_lost |= name.as_bytes() == acl::ACCESS;
        let name: String = name.chars().take(MAX_NAME).collect();
        hidden(format!("extended attribute {name:?} hidden: {reason}"));
    }

    /// Leaves out what does not fit into the one list that the kernel takes.
    fn cut_names(&mut self, hidden: &mut dyn FnMut(String)) {
        let mut left = MAX_NAMES;
        let fitting = self.list.iter().take_while(|(name, _)| {
            let fits = left.checked_sub(name.len() + 1);
            left = fits.unwrap_or(0);
            fits.is_some()
        });
        let fitting = fitting.count();
        let cut = self.list.split_off(fitting);
        if !cut.is_empty() {
            self.access_acl_lost |= cut.iter().any(|(name, _)| name.as_bytes() == acl::ACCESS);
            hidden(format!("{} extended attributes hidden: their names do not fit into 64 KiB", cut.len()));
        }
    }

    /// The form for the arena; `None` when there are none.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let count = u16::try_from(self.list.len()).ok().filter(|&count| count > 0)?;
        let mut bytes = count.to_le_bytes().to_vec();
        for (name, value) in &self.list {
            bytes.push(u8::try_from(name.len()).ok()?);
            bytes.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(value);
        }
        Some(bytes)
    }
}

/// The attributes encoded at the beginning of `bytes`.
pub fn decode(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (count, mut rest) = match bytes.split_first_chunk() {
        Some((&count, rest)) => (u16::from_le_bytes(count), rest),
        None => (0, bytes),
    };
    (0..count).map_while(move |_| {
        let (&[name_len], after) = rest.split_first_chunk()?;
        let (&value_len, after) = after.split_first_chunk()?;
        let (name, after) = after.split_at_checked(name_len.into())?;
        let (value, after) = after.split_at_checked(u32::from_le_bytes(value_len) as usize)?;
        rest = after;
        Some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    struct Read {
        shown: Vec<(Vec<u8>, Vec<u8>)>,
        hidden: Vec<String>,
        access_acl_lost: bool,
    }

    fn read(json: &Value) -> Read {
        let raw = RawValue::from_string(json.to_string()).unwrap();
        let mut hidden = Vec::new();
        let attributes = Attributes::read(&raw, &mut |reason| hidden.push(reason));
        let mut bytes = attributes.encode().unwrap_or_default();
        bytes.extend_from_slice(b"what follows in the arena");
        let encoded = attributes.encode().is_some();
        let shown = decode(if encoded { &bytes } else { &[] });
        Read {
            shown: shown.map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
            hidden,
            access_acl_lost: attributes.access_acl_lost,
        }
    }

    fn attribute(name: &str, value: &[u8]) -> Value {
        json!({"name": name, "value": STANDARD.encode(value)})
    }

    const VALID_ACL: [u8; 28] =
        *b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x04\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";

    #[test]
    fn values_may_be_binary_empty_null_or_missing() {
        let read = read(&json!([
            attribute("user.binary", &[0, 255, 10]),
            {"name": "user.empty", "value": ""},
            {"name": "user.missing"},
            {"name": "user.null", "value": null},
        ]));
        let expected: [(&[u8], &[u8]); 4] = [
            (b"user.binary", &[0, 255, 10]),
            (b"user.empty", b""),
            (b"user.missing", b""),
            (b"user.null", b""),
        ];
        assert!(read.shown.iter().map(|(name, value)| (&name[..], &value[..])).eq(expected));
        assert_eq!(read.hidden, [""; 0]);
    }

    #[test]
    fn what_cannot_be_shown_is_hidden_alone() {
        for (bad, why) in [
            (attribute("", b"x"), "not a name"),
            (attribute("user.a\0b", b"x"), "not a name"),
            (attribute(&"n".repeat(256), b"x"), "longer than 255"),
            (json!({"name": "user.bad", "value": "*"}), "malformed base64"),
            (attribute("user.big", &[0; (64 << 10) + 1]), "longer than 64 KiB"),
            (attribute("system.posix_acl_default", b"junk"), "malformed ACL"),
            (json!({"name": 5}), "malformed"),
            (json!({"value": ""}), "malformed"),
            (json!({"name": "user.list", "value": [1]}), "malformed"),
            (json!(null), "malformed"),
            (json!("user.x"), "malformed"),
        ] {
            let read = read(&json!([attribute("user.a", b"1"), bad, attribute("user.z", b"2")]));
            let names: Vec<_> = read.shown.iter().map(|(name, _)| &name[..]).collect();
            assert_eq!(names, [b"user.a", b"user.z"], "{why}");
            assert!(matches!(&read.hidden[..], [reason] if reason.contains(why)), "{why}: {:?}", read.hidden);
            assert!(!read.access_acl_lost);
        }
    }

    #[test]
    fn limits_are_those_of_the_kernel() {
        let long_name = "n".repeat(255);
        let read = read(&json!([attribute(&long_name, &[7; 64 << 10])]));
        assert_eq!(read.shown, [(long_name.into_bytes(), vec![7; 64 << 10])]);
    }

    #[test]
    fn a_lost_access_acl_is_remembered() {
        let acl = |value: &[u8]| read(&json!([attribute("system.posix_acl_access", value)]));
        let good = acl(&VALID_ACL);
        assert_eq!(good.shown, [(acl::ACCESS.to_vec(), VALID_ACL.to_vec())]);
        assert!(!good.access_acl_lost);
        assert!(acl(&VALID_ACL[1..]).access_acl_lost);
        assert!(read(&json!({"not": "a list"})).access_acl_lost);
        assert_eq!(read(&json!(5)).hidden.len(), 1);
        assert!(!read(&json!([])).access_acl_lost);
    }

    #[test]
    fn of_equal_names_the_last_stays() {
        let read =
            read(&json!([attribute("user.b", b"1"), attribute("user.a", b"2"), attribute("user.b", b"3")]));
        assert_eq!(read.shown, [(b"user.a".to_vec(), b"2".to_vec()), (b"user.b".to_vec(), b"3".to_vec())]);
    }

    #[test]
    fn names_fit_into_one_list_of_the_kernel() {
        let many: Vec<_> = (0..300).map(|n| attribute(&format!("user.{n:0>250}"), b"")).collect();
        let read = read(&many.into());
        assert_eq!(read.shown.len(), 256);
        assert!(matches!(&read.hidden[..], [reason] if reason.starts_with("44 ")), "{:?}", read.hidden);
    }

    proptest! {
        #[test]
        fn what_is_recorded_is_shown(
            recorded in proptest::collection::btree_map("[a-z.ä]{1,20}", any::<Vec<u8>>(), 0..8),
        ) {
            let list: Vec<_> = recorded.iter().map(|(name, value)| attribute(name, value)).collect();
            let expected: Vec<_> =
                recorded.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
            prop_assert_eq!(read(&list.into()).shown, expected);
        }

        #[test]
        fn decoding_junk_does_not_panic(junk: Vec<u8>) {
            prop_assert!(decode(&junk).map(|(name, value)| name.len() + value.len()).sum::<usize>() <= junk.len());
        }
    }
}
