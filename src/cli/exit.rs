//! Exit codes: those of mount(8), so that mount, autofs and systemd understand them. The only table from kinds of
//! error to exit codes.

use crate::error::{Error, Kind};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// What was typed or configured is wrong.
    Usage = 1,
    /// The machine lacks something: `/dev/fuse`, memory, a system call.
    System = 2,
    /// A bug in this program.
    Internal = 4,
    /// Ended by a signal or by the user.
    Interrupted = 8,
    /// The mount or the command failed: wrong password, no repository, damage, busy, unreachable.
    Failed = 32,
}

/// What the help of every command says about exit codes.
pub const HELP: &str = "Exit codes: 0 done · 1 wrong usage or configuration · 2 the system lacks something (/dev/fuse, \
memory) · 4 a bug in backupfs · 8 interrupted · 32 failed (wrong password, no repository, damage, busy)";

impl Code {
    /// The exit code for a command that ended with `error`.
    pub fn of(error: &Error) -> Self {
        match error.kind() {
            Kind::Usage => Code::Usage,
            Kind::System => Code::System,
            Kind::Internal => Code::Internal,
            Kind::Interrupted => Code::Interrupted,
            Kind::NotFound
            | Kind::Stale
            | Kind::Corrupt
            | Kind::Unavailable
            | Kind::TimedOut
            | Kind::Denied
            | Kind::Password
            | Kind::Unsupported
            | Kind::NoAttribute
            | Kind::NotDirectory
            | Kind::IsDirectory
            | Kind::Invalid => Code::Failed,
        }
    }
}

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_map_to_the_codes_of_mount() {
        for (kind, code) in [
            (Kind::Usage, 1),
            (Kind::System, 2),
            (Kind::Internal, 4),
            (Kind::Interrupted, 8),
            (Kind::Password, 32),
            (Kind::NotFound, 32),
            (Kind::Unsupported, 32),
            (Kind::TimedOut, 32),
        ] {
            assert_eq!(Code::of(&Error::new(kind, "x")) as u8, code, "{kind:?}");
        }
    }

    #[test]
    fn help_names_every_code() {
        for code in [Code::Ok, Code::Usage, Code::System, Code::Internal, Code::Interrupted, Code::Failed] {
            let number = format!("{} ", code as u8);
            assert!(HELP.contains(&number), "{code:?}");
        }
    }
}
