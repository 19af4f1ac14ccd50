//! The shown tree without a mount: what verbs walk that only look.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::runtime::{Handle, Runtime};

use super::args::Repositories;
use super::exit::Code;
use super::print;
use crate::daemon;
use crate::error::{Error, Kind, Result};
use crate::tree::{Content, Cookie, Dir, Entry, Node, Step};

/// An opened tree, with what it needs to answer.
pub struct Browser {
    // Before the runtime that its end needs.
    tree: daemon::Tree,
    // No source shows a listing that is older than it may be.
    is_new: bool,
    runtime: Handle,
    _end: End,
}

/// So many links may be followed on the way to one path, as in the kernel.
const MAX_LINKS: usize = 40;

/// Ends a runtime without waiting for what may hang.
struct End(Option<Runtime>);

impl Drop for End {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Browser {
    /// Opens what was asked for. A source of several that cannot be opened costs a line on stderr.
    pub fn open(repositories: &Repositories) -> Result<Browser> {
        let config = repositories.config()?;
        let runtime = daemon::runtime()?;
        let tree = daemon::open(&config, runtime.handle())?;
        let is_new = runtime.block_on(tree.namespace.refresh_old());
        for error in &tree.failed {
            eprintln!("backupfs: left out: {}", print::visible(error.to_string().as_bytes()));
        }
        Ok(Browser { runtime: runtime.handle().clone(), _end: End(Some(runtime)), tree, is_new })
    }

    /// The tree.
    pub fn tree(&self) -> &daemon::Tree {
        &self.tree
    }

    /// How a command ends that showed all it could: failed when a source is missing from what it showed, or was shown as
    /// it was listed too long ago.
    pub fn code(&self) -> Code {
        if self.tree.failed.is_empty() && self.is_new { Code::Ok } else { Code::Failed }
    }

    /// Waits for an answer.
    pub fn wait<T: Send + 'static>(&self, step: Step<T>) -> Result<T> {
        match step {
            Step::Ready(result) => result,
            Step::Wait(wait) => self.runtime.block_on(wait),
        }
    }

    /// The node at `path` (names from the root), following links inside the tree on the way and, if `follow`, at its
    /// end. `None` when there is none. Errors: `Invalid` for a link that leaves the tree or never ends.
    pub fn find(&self, path: &[Vec<u8>], follow: bool) -> Result<Option<Node>> {
        let mut ahead: Vec<Vec<u8>> = path.iter().rev().cloned().collect();
        let mut behind: Vec<Node> = vec![self.tree.namespace.root()];
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." if behind.len() > 1 => {
                    behind.pop();
                    continue;
                }
                b".." => continue,
                _ => {}
            }
            let Some(Content::Dir(dir)) = behind.last().map(|node| node.content.clone()) else {
                return Ok(None);
            };
            let Some(node) = self.wait(dir.lookup(&name))? else { return Ok(None) };
            match &node.content {
                Content::Symlink(target) if follow || !ahead.is_empty() => {
                    links += 1;
                    if target.starts_with(b"/") || links > MAX_LINKS {
                        let why = if links > MAX_LINKS { "one of too many" } else { "out of the backup" };
                        let (name, target) = (print::visible(&name), print::visible(target));
                        let message = format!("{name} is a link to {target}, {why}");
                        return Err(Error::new(Kind::Invalid, message));
                    }
                    ahead.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
                }
                _ => behind.push(node),
            }
        }
        Ok(behind.pop())
    }

    /// The names in a directory, in its own order.
    pub fn names(&self, dir: &Arc<dyn Dir>) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        self.wait(dir.listing())?.visit(0, &mut |entry: &Entry<'_>| {
            names.push(entry.name.to_vec());
            ControlFlow::Continue(())
        });
        Ok(names)
    }

    /// The entries of a directory in its own order, each with its node. An entry that cannot be had is given with its
    /// error, so that one damaged date does not hide the others.
    pub fn children(&self, dir: &Arc<dyn Dir>) -> Result<Vec<(Vec<u8>, Result<Node>)>> {
        let listing = self.wait(dir.listing())?;
        let mut entries = Vec::new();
        listing.visit(0, &mut |entry: &Entry<'_>| {
            entries.push((entry.at, entry.name.to_vec()));
            ControlFlow::Continue(())
        });
        let child = |(at, name): (Cookie, Vec<u8>)| {
            let node = match listing.node(at) {
                Some(node) => Ok(node),
                None => self.wait(dir.lookup(&name)).and_then(|found| {
                    found.ok_or_else(|| Error::new(Kind::Stale, "listed, but gone when it was looked up"))
                }),
            };
            (name, node)
        };
        Ok(entries.into_iter().map(child).collect())
    }
}

/// The names of a path; slashes at its ends and between names count once.
pub fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::FileType;

    fn browser() -> Browser {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/restic-v2");
        Browser::open(&Repositories {
            repo: vec![format!("{fixture}/repo").into()],
            password_file: Some(format!("{fixture}/password").into()),
            ..Repositories::default()
        })
        .unwrap()
    }

    fn kind(browser: &Browser, path: &str, follow: bool) -> Option<FileType> {
        browser.find(&components(path.as_bytes()), follow).unwrap().map(|node| node.meta.kind)
    }

    #[test]
    fn paths_lead_through_links_and_back_up() {
        let browser = browser();
        for (path, follow, found) in [
            ("", true, Some(FileType::Dir)),
            ("../..", true, Some(FileType::Dir)),
            ("alpha@+srv+data/latest", false, Some(FileType::Symlink)),
            ("alpha@+srv+data/latest", true, Some(FileType::Dir)),
            ("alpha@+srv+data/latest/special/null", true, Some(FileType::Char)),
            ("alpha@+srv+data/latest/../20240115_030000/./special/fifo", true, Some(FileType::Fifo)),
            ("alpha@+srv+data/latest/special/null/x", true, None),
            ("alpha@+srv+data/latest/absent", true, None),
            ("absent/../alpha@+srv+data", true, None),
        ] {
            assert_eq!(kind(&browser, path, follow), found, "{path}");
        }
    }

    #[test]
    fn listing_and_lookup_agree() {
        let browser = browser();
        let Some(Node { content: Content::Dir(dir), .. }) =
            browser.find(&components(b"alpha@+srv+data/latest/names"), true).unwrap()
        else {
            panic!("not a directory")
        };
        let names = browser.names(&dir).unwrap();
        let children = browser.children(&dir).unwrap();
        assert!(names.len() > 10);
        assert_eq!(children.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), names);
        for (name, node) in children {
            let looked_up = browser.wait(dir.lookup(&name)).unwrap().unwrap();
            assert_eq!(node.unwrap().meta, looked_up.meta);
        }
    }

    #[test]
    fn a_link_out_of_the_backup_is_not_followed() {
        let browser = browser();
        let Some(Node { content: Content::Dir(links), .. }) =
            browser.find(&components(b"alpha@+srv+data/latest/links"), true).unwrap()
        else {
            panic!("not a directory")
        };
        let mut outward = 0;
        for (name, node) in browser.children(&links).unwrap() {
            if matches!(node.unwrap().content, Content::Symlink(target) if target.starts_with(b"/")) {
                outward += 1;
                let mut path = components(b"alpha@+srv+data/latest/links");
                path.push(name);
                let error = browser.find(&path, true).err().unwrap();
                assert_eq!(error.kind(), Kind::Invalid, "{error}");
            }
        }
        assert!(outward > 0);
    }
}
