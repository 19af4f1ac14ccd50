//! The one error type: classified where it is born, carrying what it was about.
//!
//! [`Kind`] says what happened in terms that every room understands; `fuse/errno.rs` is the only place that turns a
//! kind into an errno and `cli/exit.rs` the only one that turns it into an exit code.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What happened, in the few classes that a caller may act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// A complete, authenticated answer says that the name does not exist. Never used for a failure to find out.
    NotFound,
    /// It existed when the caller got hold of it and was removed since (a forgotten snapshot).
    Stale,
    /// Bytes arrived and are wrong: bad MAC, wrong id, malformed structure, truncated object, unknown blob.
    Corrupt,
    /// The bytes could not be had now: store down, I/O error. Trying again later may help.
    Unavailable,
    /// A deadline passed.
    TimedOut,
    /// The store or the host refused access.
    Denied,
    /// The password opens none of the keys.
    Password,
    /// Valid, but nothing this program reads: an unknown repository version, an unknown format.
    Unsupported,
    /// The node has no such extended attribute.
    NoAttribute,
    /// A directory operation on something else.
    NotDirectory,
    /// A file operation on a directory.
    IsDirectory,
    /// The caller's request makes no sense here: an offset beyond the end, a malformed argument.
    Invalid,
    /// What was typed or configured is wrong.
    Usage,
    /// The machine lacks something: no `/dev/fuse`, no memory, a system call failed.
    System,
    /// Ended by a signal or by the user.
    Interrupted,
    /// A bug in this program: a caught panic, a broken invariant.
    Internal,
}

/// Whether a request that failed is worth sending once more, as whoever met the failure knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    /// The same request gets the same answer.
    #[default]
    Never,
    /// It may pass by itself: a connection lost, a body cut short, an error inside the server, no answer in time.
    Soon,
    /// The server asks for fewer requests, and may have said how long it wants none.
    Slower(Option<Duration>),
    /// Nothing was sent, and the same request fares no better: what is wrong with it is on this side.
    Unsent,
    /// Nothing was sent, because the store is held to be down; it is tried again after so long.
    Down(Duration),
}

/// An error: its kind, what it was about (outermost context first), and the cause if another library reported one.
///
/// Cheap to clone, because one failed fetch may be answered to many waiting readers.
#[derive(Clone)]
pub struct Error {
    kind: Kind,
    again: Again,
    // Innermost message first; `context` pushes to the end.
    messages: Vec<Arc<str>>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` about `message`, which names the object (repository, snapshot, pack, key, option).
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, again: Again::Never, messages: vec![message.into().into()], source: None }
    }

    /// Like [`Error::new`], with the error that caused it.
    pub fn caused_by(
        kind: Kind,
        message: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Error { source: Some(Arc::new(source)), ..Error::new(kind, message) }
    }

    /// Classifies the error of a system call, or of a connection, on `what` (a path or an operation). What a network
    /// does is worth another try.
    pub fn io(what: impl Into<String>, error: std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        let kind = match error.kind() {
            E::NotFound => Kind::NotFound,
            E::PermissionDenied => Kind::Denied,
            E::TimedOut => Kind::TimedOut,
            E::NotADirectory => Kind::NotDirectory,
            E::IsADirectory => Kind::IsDirectory,
            E::StaleNetworkFileHandle => Kind::Stale,
            E::OutOfMemory => Kind::System,
            _ => Kind::Unavailable,
        };
        let again = match error.kind() {
            E::ConnectionRefused
            | E::ConnectionReset
            | E::ConnectionAborted
            | E::NotConnected
            | E::BrokenPipe
            | E::UnexpectedEof
            | E::HostUnreachable
            | E::NetworkUnreachable
            | E::NetworkDown
            | E::TimedOut => Again::Soon,
            _ => Again::Never,
        };
        Error::caused_by(kind, what, error).worth(again)
    }

    /// The class of this error.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the request is worth sending once more.
    pub fn again(&self) -> Again {
        self.again
    }

    /// Says whether the request is worth sending once more; without this it is not.
    #[must_use]
    pub fn worth(mut self, again: Again) -> Self {
        self.again = again;
        self
    }

    /// The same error seen as another kind: for the few places where a lower room's "not found" is the upper
    /// room's damage (a pack that an index promised).
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Puts what the caller was doing, or what it was about, in front.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        self.messages.push(message.into().into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, message) in self.messages.iter().rev().enumerate() {
            if i > 0 {
                f.write_str(": ")?;
            }
            f.write_str(message)?;
        }
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}] {self}", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as &(dyn std::error::Error + 'static))
    }
}

/// Adds context to a failing result: `.context(|| format!("snapshot {id}"))`.
pub trait Context<T> {
    /// Puts `message` in front of the error's own words; it is only built when there is an error.
    fn context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|e| e.context(message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_outermost_context_first_and_the_cause_last() {
        let cause = std::io::Error::other("disk on fire");
        let error = Error::io("pack ab12", cause).context("repository home");
        assert_eq!(error.to_string(), "repository home: pack ab12: disk on fire");
        assert_eq!(error.kind(), Kind::Unavailable);
    }

    #[test]
    fn classifies_system_errors_where_they_are_born() {
        for (code, kind) in [
            (2, Kind::NotFound),
            (13, Kind::Denied),
            (20, Kind::NotDirectory),
            (116, Kind::Stale),
            (5, Kind::Unavailable),
        ] {
            assert_eq!(Error::io("x", std::io::Error::from_raw_os_error(code)).kind(), kind, "errno {code}");
        }
    }

    #[test]
    fn only_what_a_network_does_is_worth_another_try() {
        use std::io::ErrorKind as E;
        for (kind, again) in [
            (E::ConnectionReset, Again::Soon),
            (E::ConnectionRefused, Again::Soon),
            (E::UnexpectedEof, Again::Soon),
            (E::TimedOut, Again::Soon),
            (E::NotFound, Again::Never),
            (E::PermissionDenied, Again::Never),
            (E::Other, Again::Never),
        ] {
            assert_eq!(Error::io("x", kind.into()).again(), again, "{kind}");
        }
    }

    #[test]
    fn what_is_worth_another_try_stays_so_under_other_names() {
        let error = Error::new(Kind::Unavailable, "x").worth(Again::Slower(Some(Duration::from_secs(3))));
        let told = error.context("pack y").with_kind(Kind::Corrupt);
        assert_eq!(told.again(), Again::Slower(Some(Duration::from_secs(3))));
        assert_eq!(Error::new(Kind::Unavailable, "x").again(), Again::Never);
    }

    #[test]
    fn context_on_a_result_is_only_built_on_failure() {
        let ok: Result<u8> = Ok(1);
        assert_eq!(ok.context(|| -> String { panic!("built for a success") }).unwrap(), 1);
        let failed: Result<u8> = Err(Error::new(Kind::Stale, "gone"));
        assert_eq!(failed.context(|| "snapshot x").unwrap_err().to_string(), "snapshot x: gone");
    }
}
