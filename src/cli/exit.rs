//! Exit codes: those of mount(8), so that mount, autofs and systemd understand them. The only table from kinds of
//! error to exit codes.

use crate::error::{Error, Kind};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Done.
    Ok,
    /// What was typed or configured is wrong.
    Usage,
    /// The machine lacks something: `/dev/fuse`, memory, a system call.
    System,
    /// A bug in this program.
    Internal,
    /// Ended by a signal or by the user.
    Interrupted,
    /// The mount or the command failed: wrong password, no repository, damage, busy, unreachable.
    Failed,
    /// A monitor is to warn: of `status --fail-older-than` alone, as Nagios has it.
    Warning,
    /// A monitor is to raise alarm.
    Critical,
    /// A monitor could not find out.
    Unknown,
}

/// What the help of every command says about exit codes.
pub const HELP: &str = "Exit codes: 0 done · 1 wrong usage or configuration · 2 the system lacks something (/dev/fuse, \
memory) · 4 a bug in backupfs · 8 interrupted · 32 failed (wrong password, no repository, damage, busy)";

impl Code {
    /// The number that the process ends with.
    pub fn number(self) -> u8 {
        match self {
            Code::Ok => 0,
            Code::Usage | Code::Warning => 1,
            Code::System | Code::Critical => 2,
            Code::Unknown => 3,
            Code::Internal => 4,
            Code::Interrupted => 8,
            Code::Failed => 32,
        }
    }

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
        std::process::ExitCode::from(code.number())
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
            assert_eq!(Code::of(&Error::new(kind, "x")).number(), code, "{kind:?}");
        }
    }

    #[test]
    fn help_names_every_code() {
        for code in [Code::Ok, Code::Usage, Code::System, Code::Internal, Code::Interrupted, Code::Failed] {
            let number = format!("{} ", code.number());
            assert!(HELP.contains(&number), "{code:?}");
        }
    }
}
