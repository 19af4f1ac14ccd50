//! Extended attributes of a node: from JSON to bytes in the arena, and back.
//!
//! In the arena: their number (u16), then for each the name's length (u8), the value's (u32), name, value; numbers
//! little-endian.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::acl;
use super::parse::Text;

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
        let reason = match &value {
            _ if name.is_empty() || name.contains('\0') => "not a name",
            _ if name.len() > MAX_NAME => "its name is longer than 255 bytes",
            Err(_) => "malformed base64",
            Ok(value) if value.len() > MAX_VALUE => "its value is longer than 64 KiB",
            Ok(value) if is_acl && !acl::is_valid(value) => "malformed ACL",
            Ok(value) => {
                self.list.push((name, value.clone()));
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
