//! Which datasets hold backups of which host and path.
//!
//! Either one dataset, whose snapshots hold directories called `host@+path` or are themselves one backup; or a dataset for
//! each host and path, told by a pattern: `pool/backup/{host}/{path}`.

use std::sync::Arc;

use super::name::Dataset;
use crate::error::{Error, Kind, Result};

/// A dataset, or a pattern of datasets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    above: Dataset,
    /// Of a pattern, what follows below `above`; never empty then.
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Fixed(Box<str>),
    /// One component.
    Named(Arc<str>),
}

/// The part that stands for all components that follow, and for none.
const PATH: &str = "path";
const HOST: &str = "host";

/// Names, and what they stand for.
type Parts = Arc<[(Arc<str>, Arc<[u8]>)]>;

/// What the place of a dataset says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub host: Option<Arc<str>>,
    pub path: Arc<[u8]>,
    /// Other named parts.
    pub parts: Parts,
}

impl Layout {
    /// Reads `pool/backup/current`, or `pool/backup/{host}/{path}`. Errors: `Usage`.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| Err(Error::new(Kind::Usage, format!("\"{text}\": {why}")));
        let components: Vec<&str> = text.split('/').collect();
        let fixed = components.iter().take_while(|part| !part.contains(['{', '}'])).count();
        let (above, below) = components.split_at(fixed);
        let above = Dataset::new(&above.join("/"))?;
        let parts = below.iter().map(|component| Part::parse(component)).collect::<Option<Vec<_>>>();
        let Some(parts) = parts else {
            return refuse("a named part is a whole component, such as {host}");
        };
        let names: Vec<&str> = parts.iter().filter_map(Part::name).collect();
        if let Some(twice) = names.iter().find(|name| names.iter().filter(|other| other == name).count() > 1)
        {
            return refuse(&format!("two parts are called {{{twice}}}"));
        }
        let last = parts.len().saturating_sub(1);
        if parts.iter().take(last).any(|part| part.name() == Some(PATH)) {
            return refuse("{path} stands for all that follows, and nothing can");
        }
        Ok(Layout { above, parts })
    }

    /// The dataset that holds all of it.
    pub(super) fn above(&self) -> &Dataset {
        &self.above
    }

    /// It is a pattern, of datasets at any depth.
    pub(super) fn is_pattern(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Whether `dataset` is one of those that hold backups.
    pub fn shows(&self, dataset: &Dataset) -> bool {
        self.of(dataset).is_some()
    }

    /// The names of its parts besides host and path.
    pub fn names(&self) -> Vec<String> {
        let names = self.parts.iter().filter_map(Part::name);
        names.filter(|name| ![HOST, PATH].contains(name)).map(str::to_owned).collect()
    }

    /// What the place of `dataset` says; `None` when it is none of them.
    pub(super) fn of(&self, dataset: &Dataset) -> Option<Told> {
        if !self.is_pattern() {
            let path = format!("/{dataset}").into_bytes().into();
            return (*dataset == self.above).then(|| Told { host: None, path, parts: Arc::default() });
        }
        let mut rest = dataset.below(&self.above)?.split('/');
        let mut told = Told { host: None, path: b"/".as_slice().into(), parts: Arc::default() };
        let mut named = Vec::new();
        for part in &self.parts {
            match part {
                Part::Fixed(fixed) => drop(rest.next().filter(|found| **found == **fixed)?),
                Part::Named(name) if **name == *PATH => {
                    let components: Vec<&str> = rest.by_ref().collect();
                    told.path = format!("/{}", components.join("/")).into_bytes().into();
                }
                Part::Named(name) if **name == *HOST => told.host = Some(rest.next()?.into()),
                Part::Named(name) => named.push((Arc::clone(name), rest.next()?.as_bytes().into())),
            }
        }
        told.parts = named.into();
        rest.next().is_none().then_some(told)
    }
}

impl Part {
    fn parse(component: &str) -> Option<Self> {
        match component.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase()) => {
                Some(Part::Named(name.into()))
            }
            // What no dataset can be called matches none.
            None if !component.contains(['{', '}']) => Some(Part::Fixed(component.into())),
            _ => None,
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Part::Fixed(_) => None,
            Part::Named(name) => Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(layout: &str, dataset: &str) -> Option<(String, String)> {
        let told = Layout::parse(layout).unwrap().of(&Dataset::new(dataset).unwrap())?;
        let host = told.host.as_deref().unwrap_or("-").to_owned();
        Some((host, String::from_utf8(told.path.to_vec()).unwrap()))
    }

    fn some(host: &str, path: &str) -> Option<(String, String)> {
        Some((host.to_owned(), path.to_owned()))
    }

    #[test]
    fn one_dataset_is_itself_alone() {
        assert_eq!(told("pool/b", "pool/b"), some("-", "/pool/b"));
        assert_eq!(told("pool/b", "pool/b/c"), None);
        assert!(!Layout::parse("pool").unwrap().is_pattern());
    }

    #[test]
    fn a_pattern_tells_host_and_path() {
        let pattern = "pool/backup/{host}/{path}";
        assert_eq!(told(pattern, "pool/backup/lab/home/me"), some("lab", "/home/me"));
        assert_eq!(told(pattern, "pool/backup/lab"), some("lab", "/"));
        for none in ["pool/backup", "pool/backup2/lab/home", "other/backup/lab"] {
            assert_eq!(told(pattern, none), None, "{none}");
        }
        assert_eq!(told("pool/{host}", "pool/lab"), some("lab", "/"));
        assert_eq!(told("pool/{host}", "pool/lab/home"), None);
        assert_eq!(told("pool/{host}/root", "pool/lab/root"), some("lab", "/"));
        assert_eq!(told("pool/{host}/root", "pool/lab/home"), None);
    }

    #[test]
    fn other_parts_are_for_templates() {
        let layout = Layout::parse("pool/{site}/{host}/{path}").unwrap();
        assert_eq!(layout.names(), ["site"]);
        let told = layout.of(&Dataset::new("pool/zrh/lab/home").unwrap()).unwrap();
        assert_eq!(*told.parts, [(Arc::from("site"), Arc::from(&b"zrh"[..]))]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (text, says) in [
            ("{host}/x", "no name of a ZFS dataset"),
            ("pool/x-{host}", "a whole component"),
            ("pool/{}", "a whole component"),
            ("pool/{host", "a whole component"),
            ("pool/{host}/{host}", "two parts are called {host}"),
            ("pool/{path}/{host}", "stands for all that follows"),
            ("pool//x", "no name of a ZFS dataset"),
            ("", "no name of a ZFS dataset"),
        ] {
            let error = Layout::parse(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }
}
