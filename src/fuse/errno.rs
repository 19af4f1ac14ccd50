//! The only table from kinds of error to errnos.

use fuser::Errno;

use crate::error::Kind;

/// What a caller of the kernel is told. Tools know `EIO`, `ESTALE` and `ETIMEDOUT` as failures; `ENOENT` they take for
/// a fact, so nothing but a fact becomes one. `ENOSYS` would switch an operation off for the whole mount.
pub(super) fn of(kind: Kind) -> Errno {
    match kind {
        Kind::NotFound => Errno::ENOENT,
        Kind::Stale => Errno::ESTALE,
        // The store may come back, but EAGAIN on a regular file makes callers spin.
        Kind::Corrupt | Kind::Unavailable => Errno::EIO,
        Kind::TimedOut => Errno::ETIMEDOUT,
        Kind::Denied => Errno::EACCES,
        // A member of a group opened on first use; the mount itself would not have come up.
        Kind::Password => Errno::EACCES,
        Kind::Unsupported => Errno::EIO,
        Kind::NoAttribute => Errno::ENODATA,
        Kind::NotDirectory => Errno::ENOTDIR,
        Kind::IsDirectory => Errno::EISDIR,
        Kind::Invalid => Errno::EINVAL,
        // Neither can come from looking at a file; whatever they mean, the caller got nothing.
        Kind::Usage | Kind::System => Errno::EIO,
        Kind::Interrupted => Errno::EINTR,
        Kind::Internal => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fact_is_enoent_and_an_outage_never_looks_like_one() {
        assert_eq!(of(Kind::NotFound), Errno::ENOENT);
        for kind in
            [Kind::Corrupt, Kind::Unavailable, Kind::Unsupported, Kind::System, Kind::Usage, Kind::Internal]
        {
            assert_eq!(of(kind), Errno::EIO, "{kind:?}");
        }
    }

    #[test]
    fn no_kind_switches_an_operation_off_or_makes_callers_spin() {
        for kind in [
            Kind::NotFound,
            Kind::Stale,
            Kind::Corrupt,
            Kind::Unavailable,
            Kind::TimedOut,
            Kind::Denied,
            Kind::Password,
            Kind::Unsupported,
            Kind::NoAttribute,
            Kind::NotDirectory,
            Kind::IsDirectory,
            Kind::Invalid,
            Kind::Usage,
            Kind::System,
            Kind::Interrupted,
            Kind::Internal,
        ] {
            assert!(![Errno::ENOSYS, Errno::EAGAIN, Errno::EOPNOTSUPP].contains(&of(kind)), "{kind:?}");
        }
    }

    #[test]
    fn deadlines_and_vanished_snapshots_have_errnos_of_their_own() {
        assert_eq!(of(Kind::TimedOut), Errno::ETIMEDOUT);
        assert_eq!(of(Kind::Stale), Errno::ESTALE);
        assert_eq!(of(Kind::NoAttribute), Errno::ENODATA);
    }
}
