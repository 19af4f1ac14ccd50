//! What rclone reaches: `rclone serve restic --stdio` speaks the REST protocol on a pipe.

use std::ffi::OsString;
use std::path::Path;

use super::program::Program;
use super::rest::{Rest, Server, Settings, Trust};
use crate::error::{Again, Kind, Result};

/// The store at `remote` (`name:path`, as rclone has it), called `name` in messages. `program`, or the `rclone` of the
/// search path, finds its configuration by `environment`, is started when something is first asked for, and ends with
/// the store.
pub fn rclone(
    remote: &str,
    name: &str,
    program: Option<&Path>,
    environment: Vec<(OsString, OsString)>,
) -> Result<Rest> {
    // Nothing here writes; rclone is told not to either, as far as it can be.
    let words = ["serve", "restic", "--stdio", "--append-only", "--ask-password=false", "--", remote];
    let program = Program {
        name: program.map_or_else(|| "rclone".into(), |path| path.as_os_str().to_owned()),
        arguments: words.into_iter().map(OsString::from).collect(),
        environment,
    };
    Rest::new(Settings {
        server: Server::Program { program, classify },
        path: "/".to_owned(),
        login: None,
        trust: Trust::default(),
        name: name.to_owned(),
    })
}

/// Whether rclone may succeed another time, by what it said last.
fn classify(said: &str) -> (Kind, Again) {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["didn't find section in config file", "didn't find backend", "unknown command", "unknown flag"])
    {
        return (Kind::Invalid, Again::Never);
    }
    if has(&["unable to decrypt configuration", "Couldn't decrypt configuration", "using RCLONE_CONFIG_PASS"])
    {
        return (Kind::Denied, Again::Never);
    }
    (Kind::Unavailable, Again::Soon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_pass_is_not_tried_again() {
        for (said, kind, again) in [
            (
                "2026/11/21 15:00:00 Failed to create file system for \"x:\": didn't find section in config file",
                Kind::Invalid,
                Again::Never,
            ),
            ("Error: unknown flag: --stdio", Kind::Invalid, Again::Never),
            ("Failed to load config: unable to decrypt configuration: x", Kind::Denied, Again::Never),
            ("connection reset by peer", Kind::Unavailable, Again::Soon),
        ] {
            assert_eq!(classify(said), (kind, again), "{said}");
        }
    }
}
