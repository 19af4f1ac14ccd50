//! `backupfs versions`: which dates hold a file, and how to get each version back.

mod history;
mod mounted;
mod opened;
mod place;
mod report;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::args::Repositories;
use super::browse::{Browser, components};
use super::exit::Code;
use super::{print, progress};
use crate::daemon;
use crate::error::{Context, Error, Kind, Result};
use crate::tree::FileType;
use history::{Archive, Set};
use mounted::Mounted;
use opened::Opened;
use report::Report;

/// Shows which dates hold a file, which differ, and the command that restores each beside the original
///
/// FILE is a path on this host (which need not exist any more), a path inside a mounted tree, or SET/…/file.
/// Backups are looked for in the mounted tree that FILE lies in, else in those named by -r or -c, else in what is
/// mounted, else in those of the configuration. Content is compared byte for byte where sizes are equal.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file; for one of another host give --host too
    #[arg(value_name = "FILE")]
    file: OsString,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repositories: Repositories,
}

/// Backups to look in.
struct Place {
    archive: Box<dyn Archive>,
    /// Where they are mounted.
    mountpoint: Option<PathBuf>,
    /// How the command ends when all goes well.
    code: Code,
}

/// A path in a set of an archive.
struct Wanted {
    set: Set,
    path: Vec<Vec<u8>>,
    /// The directory of the original, where restored versions go.
    beside: PathBuf,
}

impl Args {
    /// Prints the history of FILE in every set that holds its path.
    pub fn run(self) -> Result<Code> {
        let here = std::env::current_dir().map_err(|e| Error::io("the current directory", e))?;
        let file = place::cleaned(Path::new(&self.file), &here);
        let mut reports = Vec::new();
        let mut code = Code::Ok;
        let places = self.places(&file)?;
        let several = places.len() > 1;
        for place in places {
            code = if place.code == Code::Ok { code } else { place.code };
            match self.reports(&place, &file) {
                Ok(found) => reports.extend(found),
                // One mount of several that is dead or foreign hides nothing of the others.
                Err(error) if several => {
                    eprintln!("backupfs: {}", print::visible(error.to_string().as_bytes()));
                    code = Code::Failed;
                }
                Err(error) => return Err(error),
            }
        }
        if reports.is_empty() {
            return Err(self.in_no_set(&file));
        }
        let found = reports.iter().any(Report::found);
        if self.json {
            print::json(&reports)?;
        } else {
            let to_mount = self.mount_command();
            let text: Vec<String> = reports.iter().map(|report| report.text(&to_mount)).collect();
            print::stdout(text.join("\n").as_bytes())?;
        }
        let complete = reports.iter().all(Report::complete);
        Ok(if found && complete { code } else { Code::Failed })
    }

    /// The backups to look in, by the rule in the help.
    fn places(&self, file: &Path) -> Result<Vec<Place>> {
        let mounted = |mountpoint: PathBuf| Place {
            archive: Box::new(Mounted(mountpoint.clone())),
            mountpoint: Some(mountpoint),
            code: Code::Ok,
        };
        let mut mountpoints: Vec<PathBuf> =
            daemon::mounts()?.into_iter().map(|mount| mount.mountpoint).collect();
        let around = mountpoints.iter().filter(|mountpoint| file.starts_with(mountpoint)).max();
        if let Some(around) = around {
            return Ok(vec![mounted(around.clone())]);
        }
        let named = !self.repositories.repo.is_empty() || self.repositories.config.is_some();
        if !named && !mountpoints.is_empty() {
            mountpoints.sort();
            mountpoints.dedup();
            return Ok(mountpoints.into_iter().map(mounted).collect());
        }
        let browser = Browser::open(&self.repositories)?;
        let code = browser.code();
        Ok(vec![Place { archive: Box::new(Opened(browser)), mountpoint: None, code }])
    }

    fn reports(&self, place: &Place, file: &Path) -> Result<Vec<Report>> {
        self.wanted(place, file)?.into_iter().map(|wanted| self.follow(place, wanted)).collect()
    }

    /// What FILE means in these backups: one path of the tree, or a path of this host in every set that holds it.
    fn wanted(&self, place: &Place, file: &Path) -> Result<Vec<Wanted>> {
        let inside = place.mountpoint.as_ref().and_then(|mountpoint| file.strip_prefix(mountpoint).ok());
        let names = components(inside.unwrap_or(Path::new(&self.file)).as_os_str().as_bytes());
        let of_tree = inside.is_some() || (Path::new(&self.file).is_relative() && !file.exists());
        if let Some(in_tree) = place::in_tree(&names).filter(|_| of_tree) {
            return Ok(self.in_tree(place, in_tree, inside.is_some())?.into_iter().collect());
        }
        if inside.is_some() {
            let shown = print::visible(self.file.as_bytes());
            return Err(Error::new(Kind::Usage, format!("{shown}: names no set (MOUNTPOINT/SET/DATE/file)")));
        }
        let mut wanted = Vec::new();
        let real = without_links(file);
        for set in place.archive.sets()?.into_iter().filter(|set| self.is_of_host(set)) {
            if let Some(path) = place::below(&set, file).or_else(|| place::below(&set, &real)) {
                let path =
                    if path.is_empty() { as_a_file(place.archive.as_ref(), &set, file)? } else { path };
                wanted.push(Wanted { set, path, beside: file.parent().unwrap_or(file).to_owned() });
            }
        }
        Ok(wanted)
    }

    /// A path of the tree. The set is taken at its word where FILE lies in a mount, and looked for elsewhere.
    fn in_tree(&self, place: &Place, in_tree: place::InTree, is_inside: bool) -> Result<Option<Wanted>> {
        let shown = print::visible(&in_tree.set.join(&b'/'));
        let set = match place::set(in_tree.set.clone()).filter(|_| is_inside) {
            Some(set) => Some(set),
            None => place.archive.sets()?.into_iter().find(|set| set.place == in_tree.set),
        };
        let Some(set) = set else { return Ok(None) };
        let mut path = in_tree.rest;
        if let Some(first) = path.first().filter(|_| in_tree.dated)
            && place.archive.find(&set, first, &[])?.is_some()
        {
            path.remove(0);
        }
        if path.is_empty() {
            return Err(Error::new(Kind::Usage, format!("{shown}: name a file in it ({shown}/FILE)")));
        }
        let original = Path::new(std::ffi::OsStr::from_bytes(&set.path));
        let above = path.iter().take(path.len() - 1).map(|name| std::ffi::OsStr::from_bytes(name));
        let beside = if place::same_host(&set.host, &this_host()) {
            above.fold(original.to_owned(), |dir, name| dir.join(name))
        } else {
            PathBuf::from(".")
        };
        Ok(Some(Wanted { set, path, beside }))
    }

    /// Whether a set is of the hosts that `--host` chose, or else of this one.
    fn is_of_host(&self, set: &Set) -> bool {
        match self.repositories.host.as_slice() {
            [] => place::same_host(&set.host, &this_host()),
            patterns => patterns.iter().any(|pattern| place::matches(pattern, &set.host)),
        }
    }

    fn follow(&self, place: &Place, wanted: Wanted) -> Result<Report> {
        let bar = progress::bar("comparing versions");
        let archive = place.archive.as_ref();
        let history = history::follow(archive, &wanted.set, &wanted.path, &mut |done, all| bar.at(done, all));
        let history = history.context(|| print::visible(&wanted.set.place.join(&b'/')))?;
        let mountpoint = place.mountpoint.clone();
        Ok(Report::new(&wanted.set, &wanted.path, &wanted.beside, mountpoint.as_deref(), history))
    }

    fn in_no_set(&self, file: &Path) -> Error {
        let typed = Path::new(&self.file);
        if typed.is_relative() && place::in_tree(&components(self.file.as_bytes())).is_some() {
            let typed = print::visible(self.file.as_bytes());
            return Error::new(
                Kind::NotFound,
                format!("{typed}: no such set (backupfs snapshots lists them)"),
            );
        }
        let shown = print::visible(file.as_os_str().as_bytes());
        let of = match self.repositories.host.as_slice() {
            [] => format!("{} (this host; --host names another)", print::visible(&this_host())),
            hosts => hosts.join(", "),
        };
        Error::new(Kind::NotFound, format!("{shown}: lies in no backup of host {of}"))
    }

    /// What to type so that restoring with cp is possible.
    fn mount_command(&self) -> String {
        let mut command = "backupfs mount /mnt/backups".to_owned();
        let mut add = |option: &str, value: &[u8]| {
            command.push_str(&format!(" {option} {}", print::shell_word(value)));
        };
        self.repositories.repo.iter().for_each(|repo| add("-r", repo.as_bytes()));
        if let Some(config) = &self.repositories.config {
            add("-c", config.as_os_str().as_bytes());
        }
        if let Some(file) = &self.repositories.password_file {
            add("--password-file", file.as_os_str().as_bytes());
        }
        command
    }
}

/// A set's own path as a file in its dates, where a single file was backed up; otherwise the dates themselves.
fn as_a_file(archive: &dyn Archive, set: &Set, file: &Path) -> Result<Vec<Vec<u8>>> {
    let name: Vec<Vec<u8>> = file.file_name().map(|name| name.as_bytes().to_vec()).into_iter().collect();
    if name.is_empty() {
        return Ok(name);
    }
    for date in archive.dates(set)?.iter().rev() {
        if let Some(version) = archive.find(set, date, &name)? {
            return Ok(if version.kind == FileType::Dir { Vec::new() } else { name });
        }
    }
    Ok(Vec::new())
}

/// `file` in the directory that its directory really is: backup programs record that one.
fn without_links(file: &Path) -> PathBuf {
    let real = file.parent().and_then(|above| std::fs::canonicalize(above).ok());
    match real.zip(file.file_name()) {
        Some((above, name)) => above.join(name),
        None => file.to_owned(),
    }
}

fn this_host() -> Vec<u8> {
    rustix::system::uname().nodename().to_bytes().to_vec()
}
