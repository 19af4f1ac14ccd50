//! What a mount gives up, given up by a command that says so: the front of `backupfs check --sandbox`.

use serde::Serialize;

use crate::config::{Config, Typed};
use crate::daemon::{self, Confined, Files};
use crate::error::Result;
use crate::locked;

/// What nobody who serves backups has to read.
const SECRET: &str = "/etc/shadow";

/// What is in force from here on.
#[derive(Serialize)]
pub struct Sandbox {
    /// `None` where nothing is given up.
    #[serde(flatten)]
    confined: Option<Confined>,
    /// Why nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_confined: Option<&'static str>,
    /// Whether [`SECRET`] could be opened by root before, and now cannot.
    shadow_refused: bool,
    /// What memory keys lie in.
    keys: locked::State,
}

impl Sandbox {
    /// Gives up what a mount of `config`, which `typed` led to, would give up, after passwords are read as then.
    pub fn enter(config: &mut Config, typed: &Typed) -> Result<Self> {
        let limits = daemon::sandbox_limits(config, typed);
        // What cannot be read is told of the source that needs it.
        config.sources.iter_mut().for_each(|source| drop(source.read_secrets()));
        config.groups.iter_mut().for_each(|group| drop(group.read_secrets()));
        let confined = limits.as_ref().map(daemon::confine).transpose()?;
        let not_confined = confined.is_none().then(|| match rustix::process::geteuid().is_root() {
            true => {
                "with ZFS a mount leaves its rights to a process that this command does not start, or there are none"
            }
            false => "an ordinary user has no rights to give up, and fusermount3 could not unmount",
        });
        let shadow_refused = std::fs::File::open(SECRET).is_err();
        Ok(Sandbox { confined, not_confined, shadow_refused, keys: locked::state() })
    }

    /// With what is known of keys now that all were read.
    pub fn with_keys(self) -> Self {
        Sandbox { keys: locked::state(), ..self }
    }

    fn keys(&self) -> String {
        match self.keys {
            locked::State { unlocked: 0, .. } => "in memory that is never swapped".to_owned(),
            locked::State { mapped, unlocked } => format!(
                "{} of {} KiB in memory that can be swapped (raise RLIMIT_MEMLOCK, LimitMEMLOCK= of a unit)",
                unlocked >> 10,
                mapped >> 10
            ),
        }
    }

    /// For people, with an empty line after it.
    pub fn text(&self) -> String {
        let Some(confined) = &self.confined else {
            let why = self.not_confined.unwrap_or_default();
            return format!("sandbox: none: {why}\n  keys: {}\n\n", self.keys());
        };
        let capabilities = match confined.capabilities.join(" ") {
            none if none.is_empty() => "none".to_owned(),
            some => some,
        };
        let files = match &confined.files {
            Files::Landlock => "Landlock, in full".to_owned(),
            Files::OldLandlock => "Landlock, as far as this kernel knows it".to_owned(),
            Files::NoLandlock => "all: this kernel has no Landlock (lsm=…,landlock)".to_owned(),
            Files::Open(why) => format!("all: {why}"),
        };
        let shown = |paths: &[std::path::PathBuf]| {
            paths.iter().map(|path| format!("    {}\n", path.display())).collect::<String>()
        };
        let refused = if self.shadow_refused { "refused" } else { "opened" };
        format!(
            "sandbox:\n  capabilities: {capabilities}\n  no new privileges: yes\n  core dumps: none\n  keys: {}\n  \
             files: {files}\n  {SECRET}: {refused}\n  reads:\n{}  writes:\n{}\n",
            self.keys(),
            shown(&confined.reads),
            shown(&confined.writes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_is_said_line_by_line() {
        let confined = Confined {
            capabilities: vec!["dac_read_search"],
            no_new_privs: true,
            files: Files::Landlock,
            reads: vec!["/srv/a".into()],
            writes: vec!["/var/cache/backupfs".into()],
        };
        let keys = locked::State { mapped: 32 << 10, unlocked: 0 };
        let sandbox =
            Sandbox { confined: Some(confined.clone()), not_confined: None, shadow_refused: true, keys };
        let text = sandbox.text();
        for line in [
            "  capabilities: dac_read_search\n",
            "  /etc/shadow: refused\n",
            "  reads:\n    /srv/a\n",
            "Landlock, in full",
            "  keys: in memory that is never swapped\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let open = Confined { capabilities: Vec::new(), files: Files::Open("why".into()), ..confined };
        let text = Sandbox { confined: Some(open), ..sandbox }.text();
        assert!(text.contains("capabilities: none") && text.contains("files: all: why"), "{text}");
        let none = Sandbox {
            confined: None,
            not_confined: Some("because"),
            shadow_refused: true,
            keys: locked::State { unlocked: 16 << 10, ..keys },
        };
        let none = none.text();
        assert!(
            none.starts_with("sandbox: none: because\n  keys: 16 of 32 KiB in memory that can"),
            "{none}"
        );
    }
}
