//! `backupfs demo`: a small repository that comes with the program, mounted to be tried.
//!
//! Everything lies in one private directory: `repository/` as restic made it, `password`, `backups/` where it is
//! mounted, and `home/`, which plays the home directory that files are restored to. Nothing else is ever removed.

mod check;
mod manifest;
mod place;
mod sample;

use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;

use super::exit::Code;
use super::print;
use crate::config::{self, Config, Typed};
use crate::daemon;
use crate::error::{Error, Kind, Result};
use place::Place;

/// Unpacks a small sample repository and mounts it, to be tried
///
/// Needs no backups of your own, and nothing but FUSE.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to put it [default: demo/ in the cache directory: /var/cache/backupfs for root, else ~/.cache/backupfs]
    dir: Option<PathBuf>,
    /// Mount, compare every file of every date with what was backed up, unmount and remove
    #[arg(long, conflicts_with = "end")]
    check: bool,
    /// Unmount and remove what the demo made
    #[arg(long)]
    end: bool,
}

impl Args {
    /// Starts, checks or ends the demo.
    pub fn run(self) -> Result<Code> {
        match (self.check, self.end) {
            (true, _) => self.check(),
            (_, true) => self.end(),
            _ => self.start(),
        }
    }

    fn start(&self) -> Result<Code> {
        let place = match &self.dir {
            Some(dir) => Place::at(dir)?,
            None => Place::usual("demo")?,
        };
        if !place.is_alive()? {
            place.prepare()?;
            if let Err(error) = mount(&place).and_then(|()| spoil(&place)) {
                // What went wrong is the news; leftovers would only hide it.
                let _ = end(&place);
                return Err(error);
            }
        }
        print::stdout(self.welcome(&place)?.as_bytes())?;
        Ok(Code::Ok)
    }

    fn end(&self) -> Result<Code> {
        let place = match &self.dir {
            Some(dir) => Place::at(dir)?,
            None => Place::usual("demo")?,
        };
        if !place.exists() {
            let dir = place.dir.display();
            return Err(Error::new(Kind::NotFound, format!("{dir}: no demo there")));
        }
        end(&place)?;
        Ok(Code::Ok)
    }

    /// Checks in a directory of its own, so that a demo that somebody is looking at stays.
    fn check(&self) -> Result<Code> {
        let place = match &self.dir {
            Some(dir) => Place::at(dir)?,
            None => Place::usual(&format!("demo-check-{}", std::process::id()))?,
        };
        if place.is_mounted()? {
            let dir = place.dir.display();
            let says = format!("{dir}: a demo is mounted there; end it first, or check without DIR");
            return Err(Error::new(Kind::Usage, says));
        }
        let _watching = end_when_interrupted(&place)?;
        place.prepare()?;
        let checked = mount(&place).and_then(|()| check::run(&place.mountpoint()));
        let ended = end(&place);
        let checked = checked?;
        ended?;
        print::stdout(checked.text().as_bytes())?;
        Ok(if checked.is_equal() { Code::Ok } else { Code::Failed })
    }

    fn welcome(&self, place: &Place) -> Result<String> {
        let word = |path: &Path| print::shell_word(path.as_os_str().as_encoded_bytes());
        let (backups, home) = (word(&place.mountpoint()), word(&place.home()));
        let dir = self.dir.as_ref().map(|_| format!(" {}", word(&place.dir))).unwrap_or_default();
        Ok(format!(
            "A sample repository is mounted at {backups}:\n\n{tree}\n\
             Three things to try:\n\n\
             Find a lost file. The recipe is gone since the last night; which dates still have it?\n  \
             ls -l {backups}/{LAPTOP}/*/recipes/plum-cake.md\n\n\
             Restore beside the original. {home}/thesis.tex was cut short; the day before it was whole.\n  \
             cp -a {backups}/{LAPTOP}/20260301_030000/{THESIS} {home}/thesis.restored.tex\n\n\
             Compare two dates.\n  \
             diff -r {backups}/server@+srv+www/20260222_013000 {backups}/server@+srv+www/20260301_013000\n\n\
             To unmount and remove it all:\n  {program} demo --end{dir}\n",
            tree = check::outline(&place.mountpoint())?,
            program = this_program(),
        ))
    }
}

/// The set that the first two things to try are about, and the file that was cut short.
const LAPTOP: &str = "laptop@+home+lab";
const THESIS: &str = "thesis/thesis.tex";

/// Puts the thesis as the accident left it into the home directory.
fn spoil(place: &Place) -> Result<()> {
    let spoilt = place.mountpoint().join(LAPTOP).join("latest").join(THESIS);
    let content = std::fs::read(&spoilt).map_err(|e| Error::io(spoilt.display().to_string(), e))?;
    sample::write(&place.home().join("thesis.tex"), &content)
}

/// How to call this program again: as it was called, or where it lies if it was called by a path.
fn this_program() -> String {
    let by_path = std::env::args_os().next().is_some_and(|name| name.as_encoded_bytes().contains(&b'/'));
    match std::env::current_exe() {
        Ok(path) if by_path => print::shell_word(path.as_os_str().as_encoded_bytes()),
        _ => "backupfs".to_owned(),
    }
}

fn mount(place: &Place) -> Result<()> {
    // What is worth a note to an administrator (only root can see it) goes without saying here.
    daemon::mount(config(place)?, None, &place.mountpoint(), false).map(drop)
}

fn config(place: &Place) -> Result<Config> {
    config::resolve(&Typed {
        repos: vec![place.repository().into_os_string()],
        password_file: Some(place.password()),
        // Nothing of a demo stays anywhere else.
        options: vec!["cache-dir=none".into()],
        ..Typed::default()
    })
}

/// Ends the demo and this process when the user interrupts, as long as the answer lives.
fn end_when_interrupted(place: &Place) -> Result<Runtime> {
    let runtime = daemon::runtime()?;
    let place = Place { dir: place.dir.clone() };
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            // Detached, because the walk itself keeps it busy. Whoever interrupts waits for no report.
            let _ = daemon::unmount(&place.mountpoint(), true);
            let _ = place.remove();
            std::process::exit(Code::Interrupted as i32);
        }
    });
    Ok(runtime)
}

/// Unmounts and removes; says what stays because somebody else put it there.
fn end(place: &Place) -> Result<()> {
    if place.is_mounted()? {
        daemon::unmount(&place.mountpoint(), false)?;
    }
    for kept in place.remove()? {
        eprintln!("backupfs: kept {}: not made by the demo, or holds what was not", kept.display());
    }
    Ok(())
}
