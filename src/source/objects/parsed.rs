//! A directory at a moment, as keys make it.
//!
//! Below a directory's prefix, what stands before the next slash is a name in it. Names that no file can have (empty, as in
//! `a//b`, `.`, `..`, with a NUL, too long) are left out; of `a` beside `a/b` the directory is shown.

use super::labels::Attributes;
use super::rows::{Content, Past};
use super::table::Cursor;
use crate::error::Result;
use crate::store::bucket::Pinned;

/// The longest name that Linux takes.
const LONGEST: usize = 255;

/// The names of a directory, in order.
#[derive(Default)]
pub(super) struct Parsed {
    items: Vec<Item>,
    /// Names, ETags and version ids.
    text: String,
    /// Beside `items`, once they were asked for.
    pub attributes: Vec<Option<Box<Attributes>>>,
    /// Names that could not be shown.
    pub omitted: Vec<String>,
}

/// Where a piece of text lies.
#[derive(Clone, Copy, Default)]
struct Span {
    at: u32,
    length: u16,
}

/// One name.
#[derive(Clone, Copy)]
struct Item {
    name: Span,
    etag: Span,
    version: Span,
    is_dir: bool,
    /// Whether there is an object of it: always of a file, of a directory where somebody wrote `name/`.
    is_object: bool,
    size: u64,
    changed: i64,
}

/// One name, to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub name: &'a str,
    pub is_dir: bool,
    pub is_object: bool,
    pub size: u64,
    /// Milliseconds since 1970.
    pub changed: i64,
    pub etag: &'a str,
    /// Empty where the bucket keeps none.
    pub version: &'a str,
    pub attributes: Option<&'a Attributes>,
}

impl Parsed {
    /// The directory whose keys begin with `prefix` (which ends in a slash, or is empty) at `moment`. May read from disk.
    pub(super) fn new(cursor: &mut Cursor<'_>, prefix: &str, moment: Option<i64>) -> Result<Self> {
        let mut parsed = Parsed::default();
        cursor.seek(prefix)?;
        loop {
            let Some(row) = cursor.next()? else { break };
            let Some(rest) = row.key.strip_prefix(prefix) else { break };
            match rest.split_once('/') {
                // The directory's own object.
                None if rest.is_empty() => {}
                None => {
                    if let Some((past, content)) = row.at(moment) {
                        parsed.add(rest, false, Some((past, content)));
                    }
                }
                Some((name, behind)) => {
                    let name = name.to_owned();
                    let own = row.at(moment).filter(|_| behind.is_empty());
                    let (is_alive, has_own) = (row.at(moment).is_some(), own.is_some());
                    if has_own {
                        parsed.add(&name, true, own);
                    }
                    let below = format!("{prefix}{name}/");
                    if !has_own && (is_alive || any_below(cursor, &below, moment)?) {
                        parsed.add(&name, true, None);
                    }
                    // '0' follows the slash.
                    cursor.seek(&format!("{prefix}{name}0"))?;
                }
            }
        }
        parsed.settle();
        Ok(parsed)
    }

    fn add(&mut self, name: &str, is_dir: bool, object: Option<(Past<'_>, Content<'_>)>) {
        if !shows(name) {
            self.omitted.push(name.chars().take(LONGEST).collect());
            return;
        }
        let spans =
            (self.put(name), object.map(|(past, content)| (self.put(content.etag), self.put(past.id))));
        let (Some(name), object_text) = spans else { return };
        let (etag, version) = object_text.unwrap_or_default();
        let (changed, size) = object.map_or((0, 0), |(past, content)| (past.changed, content.size));
        let (etag, version) = (etag.unwrap_or_default(), version.unwrap_or_default());
        let is_object = object.is_some();
        self.items.push(Item { name, etag, version, is_dir, is_object, size, changed });
    }

    /// Appends a text; nothing when it is longer than any that a server gives, or there is no more room.
    fn put(&mut self, text: &str) -> Option<Span> {
        let span = Span { at: u32::try_from(self.text.len()).ok()?, length: u16::try_from(text.len()).ok()? };
        self.text.push_str(text);
        Some(span)
    }

    /// Brings names in order, each once.
    fn settle(&mut self) {
        let text = std::mem::take(&mut self.text);
        let name = |item: &Item| part(&text, item.name);
        // Keys come in order, but a slash is not the end of a name.
        self.items.sort_by(|a, b| name(a).cmp(name(b)).then(b.is_dir.cmp(&a.is_dir)));
        let mut omitted = Vec::new();
        self.items.dedup_by(|item, kept| {
            let is_same = name(item) == name(kept);
            if is_same {
                omitted.push(name(item).to_owned());
            }
            is_same
        });
        self.omitted.append(&mut omitted);
        self.text = text;
        self.items.shrink_to_fit();
        self.text.shrink_to_fit();
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The entry at a place.
    pub(super) fn get(&self, at: usize) -> Option<Entry<'_>> {
        let item = self.items.get(at)?;
        Some(Entry {
            name: part(&self.text, item.name),
            is_dir: item.is_dir,
            is_object: item.is_object,
            size: item.size,
            changed: item.changed,
            etag: part(&self.text, item.etag),
            version: part(&self.text, item.version),
            attributes: self.attributes.get(at).and_then(|found| found.as_deref()),
        })
    }

    /// Where a name is.
    pub(super) fn find(&self, name: &[u8]) -> Option<usize> {
        self.items.binary_search_by(|item| part(&self.text, item.name).as_bytes().cmp(name)).ok()
    }

    /// What it takes in memory.
    pub(super) fn weight(&self) -> u64 {
        let known: usize = self.attributes.iter().flatten().map(|_| size_of::<Attributes>() + 64).sum();
        (self.text.len() + size_of_val(&*self.items) + size_of_val(&*self.attributes) + known) as u64
    }
}

impl Entry<'_> {
    /// The object in the directory at `prefix`.
    pub(super) fn pinned(&self, prefix: &str) -> Pinned {
        let slash = if self.is_dir { "/" } else { "" };
        Pinned {
            key: format!("{prefix}{}{slash}", self.name),
            version: (!self.version.is_empty()).then(|| self.version.to_owned()),
            etag: self.etag.to_owned(),
        }
    }
}

fn part(text: &str, span: Span) -> &str {
    let at = span.at as usize;
    text.get(at..at + usize::from(span.length)).unwrap_or_default()
}

fn shows(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= LONGEST && !name.contains('\0')
}

/// Whether there is an object below `prefix`, where the cursor is.
fn any_below(cursor: &mut Cursor<'_>, prefix: &str, moment: Option<i64>) -> Result<bool> {
    while let Some(row) = cursor.next()?.filter(|row| row.key.starts_with(prefix)) {
        if row.at(moment).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::rows;
    use super::super::table::{Packer, Table};
    use super::*;
    use crate::cache::Budget;
    use crate::source::chunked::Shared;
    use crate::store::bucket::{Stored, Version};

    /// A key with the moments at which it was written (a size) or deleted.
    type Key<'a> = (&'a str, &'a [(i64, Option<u64>)]);

    fn table(keys: &[Key<'_>]) -> Table {
        let mut keys = keys.to_vec();
        keys.sort();
        let mut packer = Packer::default();
        for (key, past) in keys {
            let version = |(changed, size): &(i64, Option<u64>)| Version {
                key: key.into(),
                id: Some(format!("v{changed}")),
                changed: *changed,
                is_latest: false,
                stored: size.map(|size| Stored { size, etag: "\"e\"".into() }),
            };
            packer.row(key, |to| rows::put(to, &mut past.iter().map(version).collect())).unwrap();
        }
        packer.end().unwrap();
        Table::new(packer.blocks, Vec::new(), 0, 0)
    }

    fn parsed(table: &Table, prefix: &str, moment: Option<i64>) -> Parsed {
        let shared = Shared::new(Budget::of(8 << 20));
        Parsed::new(&mut Cursor::new(table, &shared, 0), prefix, moment).unwrap()
    }

    fn names(parsed: &Parsed) -> Vec<String> {
        let entries = (0..parsed.len()).filter_map(|at| parsed.get(at));
        entries.map(|entry| format!("{}{}", entry.name, if entry.is_dir { "/" } else { "" })).collect()
    }

    const NOW: &[(i64, Option<u64>)] = &[(1, Some(5))];

    #[test]
    fn names_are_what_stands_between_slashes() {
        let table = table(&[
            ("a/x", NOW),
            ("a/b/c", NOW),
            ("a-b/z", NOW),
            ("a.d", NOW),
            ("a0", NOW),
            ("b", NOW),
            ("e/", NOW),
        ]);
        assert_eq!(names(&parsed(&table, "", None)), ["a/", "a-b/", "a.d", "a0", "b", "e/"]);
        assert_eq!(names(&parsed(&table, "a/", None)), ["b/", "x"]);
        assert_eq!(names(&parsed(&table, "a/b/", None)), ["c"]);
        let root = parsed(&table, "", None);
        assert!(root.find(b"a.d").is_some_and(|at| root.get(at).unwrap().size == 5));
        assert_eq!((root.find(b"a."), root.find(b"a/"), root.find(b"")), (None, None, None));
        let of = |name: &str| root.get(root.find(name.as_bytes()).unwrap()).unwrap().pinned("p/");
        let pinned = |key: &str, version: Option<&str>, etag: &str| Pinned {
            key: key.into(),
            version: version.map(Into::into),
            etag: etag.into(),
        };
        assert_eq!(of("e"), pinned("p/e/", Some("v1"), "\"e\""), "its own object");
        assert_eq!(of("a0"), pinned("p/a0", Some("v1"), "\"e\""));
        assert!(names(&parsed(&table, "e/", None)).is_empty());
    }

    #[test]
    fn what_is_no_name_is_left_out_and_costs_nothing_else() {
        let long = "n".repeat(256);
        let table = table(&[
            ("/lead", NOW),
            ("a//b", NOW),
            ("a/./c", NOW),
            ("a/..", NOW),
            ("a/ok", NOW),
            (&long, NOW),
            (&long[..255], NOW),
            ("nul\0", NOW),
            ("dir/x", NOW),
            ("dir", NOW),
            ("dir!", NOW),
        ]);
        let root = parsed(&table, "", None);
        assert_eq!(names(&root), ["a/", "dir/", "dir!", &long[..255]]);
        assert_eq!(root.omitted, ["", &long[..255], "nul\0", "dir"]);
        let a = parsed(&table, "a/", None);
        assert_eq!((names(&a), a.omitted.len()), (vec!["ok".to_owned()], 3));
    }

    #[test]
    fn each_moment_has_its_own_directory() {
        let table = table(&[
            ("new", &[(30, Some(1))]),
            ("gone", &[(10, Some(1)), (20, None)]),
            ("sub/gone", &[(10, Some(1)), (20, None)]),
            ("sub/later", &[(30, Some(1))]),
            ("kept", &[(10, Some(1)), (25, Some(2))]),
        ]);
        assert!(names(&parsed(&table, "", Some(9))).is_empty());
        assert_eq!(names(&parsed(&table, "", Some(10))), ["gone", "kept", "sub/"]);
        assert_eq!(names(&parsed(&table, "", Some(20))), ["kept"]);
        assert_eq!(names(&parsed(&table, "", Some(30))), ["kept", "new", "sub/"]);
        assert_eq!(names(&parsed(&table, "sub/", None)), ["later"]);
        let kept = |moment| {
            let root = parsed(&table, "", Some(moment));
            let entry = root.get(root.find(b"kept").unwrap()).unwrap();
            (entry.size, entry.version.to_owned(), entry.changed)
        };
        assert_eq!((kept(24), kept(25)), ((1, "v10".into(), 10), (2, "v25".into(), 25)));
    }
}
