//! What was typed: one file per verb.
//!
//! A verb is a `struct Args` (its doc comment is the help) with `run(self) -> Result<Code>`. Verbs print data to stdout;
//! messages and logs go to stderr; an error is one line there, and decides the exit code.

mod args;
mod automap;
mod broker;
mod browse;
mod cache;
mod check;
mod completions;
mod demo;
mod doctor;
pub mod exit;
mod ls;
mod mount;
mod print;
mod progress;
mod sandbox;
mod serve;
mod snapshots;
mod status;
mod steward;
mod umount;
mod verify;
mod versions;
mod warden;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Level;
use crate::error::{Error, Result};
use crate::observe::logging::{self, LogTarget};
use crate::observe::printable;
use exit::Code;

/// Shows every backup snapshot as ordinary directories, read-only.
#[derive(Debug, Parser)]
#[command(name = "backupfs", version, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Say more on stderr (repeat for more still)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
// There is only ever one, for a moment.
#[allow(clippy::large_enum_variant)]
enum Verb {
    Mount(mount::Args),
    Umount(umount::Args),
    Snapshots(snapshots::Args),
    Ls(ls::Args),
    Versions(versions::Args),
    Status(status::Args),
    Check(check::Args),
    Doctor(doctor::Args),
    Verify(verify::Args),
    Cache(cache::Args),
    Automap(automap::Args),
    Demo(demo::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Broker(broker::Args),
    #[command(hide = true)]
    Steward(steward::Args),
    #[command(hide = true)]
    Warden(warden::Args),
    #[command(hide = true)]
    Serve(serve::Args),
}

impl Verb {
    fn run(self, level: Level) -> Result<Code> {
        match self {
            Verb::Mount(args) => args.run(level),
            Verb::Umount(args) => args.run(),
            Verb::Snapshots(args) => args.run(),
            Verb::Ls(args) => args.run(),
            Verb::Versions(args) => args.run(),
            Verb::Status(args) => args.run(),
            Verb::Check(args) => args.run(),
            Verb::Doctor(args) => args.run(),
            Verb::Verify(args) => args.run(),
            Verb::Cache(args) => args.run(),
            Verb::Automap(args) => args.run(),
            Verb::Demo(args) => args.run(),
            Verb::Completions(args) => args.run(),
            Verb::Broker(args) => args.run(),
            Verb::Steward(args) => args.run(),
            Verb::Warden(args) => args.run(),
            Verb::Serve(args) => args.run(),
        }
    }
}

/// The whole command line, with the exit codes in the help of every command.
pub fn command() -> clap::Command {
    Cli::command().after_help(exit::HELP).mut_subcommands(|verb| verb.after_help(exit::HELP))
}

/// Runs the command line and returns the exit code.
pub fn main() -> ExitCode {
    let typed = command()
        .try_get_matches_from(as_a_verb(std::env::args_os().collect()))
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match typed {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error),
    };
    // The panic's own message is on stderr already.
    let Ok(ran) = std::panic::catch_unwind(AssertUnwindSafe(|| run(cli))) else {
        return Code::Internal.into();
    };
    match ran {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("backupfs: {}", one_line(&error));
            Code::of(&error).into()
        }
    }
}

/// The arguments with the verb that they lack when they are mount(8)'s: `backupfs SPEC DIR [-o OPTIONS]`, by which
/// mount.fuse3 calls a file system. DIR is absolute then, so that a mistyped verb is still told of as one.
fn as_a_verb(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let is_spec = |word: &OsString| {
        let is_verb = word.to_str().is_some_and(|word| Cli::command().find_subcommand(word).is_some());
        !is_verb && !word.as_bytes().starts_with(b"-")
    };
    let is_by_mount = arguments.get(1).is_some_and(is_spec)
        && arguments.get(2).is_some_and(|place| place.as_bytes().starts_with(b"/"));
    if is_by_mount {
        arguments.splice(1..1, ["mount".into(), "--spec".into()]);
    }
    arguments
}

fn run(cli: Cli) -> Result<Code> {
    let level = match cli.verbose {
        0 => Level::Warn,
        1 => Level::Info,
        2 => Level::Debug,
        _ => Level::Trace,
    };
    // The serving process sends its log where its orders say.
    if !matches!(cli.verb, Verb::Serve(_) | Verb::Broker(_) | Verb::Steward(_) | Verb::Warden(_)) {
        logging::start(LogTarget::Stderr, level.into())?;
    }
    cli.verb.run(level)
}

/// Prints clap's message: help and version are no errors, the rest is wrong usage.
fn misunderstood(error: &clap::Error) -> ExitCode {
    // A closed stdout (`backupfs --help | head -1`) is no reason to complain.
    let _ = error.print();
    if error.use_stderr() { Code::Usage.into() } else { Code::Ok.into() }
}

/// An error's whole chain on one line; names in it cannot break the line or colour the terminal.
fn one_line(error: &Error) -> String {
    let mut line = error.to_string();
    // `Display` shows the first cause already.
    let mut cause = std::error::Error::source(error).and_then(std::error::Error::source);
    while let Some(deeper) = cause {
        line = format!("{line}: {deeper}");
        cause = deeper.source();
    }
    printable(line.trim_end()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_lists_the_exit_codes() {
        for verb in command().get_subcommands_mut() {
            let name = verb.get_name().to_owned();
            assert!(verb.render_long_help().to_string().contains("Exit codes:"), "{name}");
        }
    }

    #[test]
    fn what_mount_says_is_a_verb_too() {
        let said = |words: &str| {
            let words = words.split(' ').map(OsString::from).collect();
            as_a_verb(words).join(std::ffi::OsStr::new(" ")).into_string().unwrap()
        };
        assert_eq!(said("backupfs home /mnt -o ro"), "backupfs mount --spec home /mnt -o ro");
        assert_eq!(said("backupfs s3:h/b /mnt"), "backupfs mount --spec s3:h/b /mnt");
        for other in
            ["backupfs mount /mnt", "backupfs moutn mnt", "backupfs -v /mnt", "backupfs moutn", "backupfs"]
        {
            assert_eq!(said(other), other);
        }
    }

    #[test]
    fn an_error_is_one_line_with_control_characters_escaped() {
        let error = Error::io("file \"a\nb\x1b\"", std::io::Error::other("bad")).context("mount");
        assert_eq!(one_line(&error), "mount: file \"a\\nb\\u{1b}\": bad");
        assert_eq!(one_line(&Error::new(Kind::Usage, "tail\n")), "tail");
    }
}
