//! What the status of an HTTP answer means, for every store that speaks HTTP.

use std::fmt::Display;
use std::time::Duration;

use crate::error::{Again, Error, Kind};

/// A server that asks to be left alone for longer is asked again after this all the same.
const LONGEST_AFTER: Duration = Duration::from_secs(300);

/// The error of an answer about `what` (the object and the store) that is no success. `retry_after` is the value of its
/// header of that name.
///
/// 404 and 410 are `NotFound`: whoever asks where that may mean something else (a bucket, a proxy) has to look first.
pub fn refusal(what: impl Display, status: u16, retry_after: Option<&str>) -> Error {
    let (kind, again) = match status {
        // No refusal at all: what came with it was another's, or was damaged on its way.
        200..=299 => (Kind::Unavailable, Again::Soon),
        401 | 403 | 407 => (Kind::Denied, Again::Never),
        404 | 410 => (Kind::NotFound, Again::Never),
        408 => (Kind::TimedOut, Again::Soon),
        // If-Match: it is another object by now.
        412 => (Kind::Stale, Again::Never),
        // The range lies beyond the end.
        416 => (Kind::Corrupt, Again::Never),
        429 | 503 => (Kind::Unavailable, Again::Slower(retry_after.and_then(seconds))),
        // What the server will never do.
        501 | 505 | 511 => (Kind::Unavailable, Again::Never),
        500..=599 => (Kind::Unavailable, Again::Soon),
        _ => (Kind::Unavailable, Again::Never),
    };
    Error::new(kind, format!("{what}: the server answered {status}{}", words(status))).worth(again)
}

/// A Retry-After in seconds. The other form, a date, would need the server's clock; it counts as none.
fn seconds(value: &str) -> Option<Duration> {
    let seconds = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_AFTER))
}

/// What the statuses that people meet are called.
fn words(status: u16) -> &'static str {
    match status {
        400 => " (bad request)",
        401 => " (credentials missing or refused)",
        403 => " (forbidden)",
        404 => " (not found)",
        412 => " (it has changed)",
        416 => " (no such range)",
        429 => " (too many requests)",
        500 => " (internal error)",
        502 => " (bad gateway)",
        503 => " (unavailable)",
        504 => " (gateway timeout)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(status: u16, retry_after: Option<&str>) -> (Kind, Again) {
        let error = refusal("data/x of rest:h", status, retry_after);
        assert!(
            error.to_string().contains("data/x of rest:h") && error.to_string().contains(&status.to_string())
        );
        (error.kind(), error.again())
    }

    #[test]
    fn only_an_answer_about_the_object_is_not_found() {
        for status in 100..=599 {
            let (kind, _) = seen(status, None);
            assert_eq!(kind == Kind::NotFound, matches!(status, 404 | 410), "{status}");
        }
    }

    #[test]
    fn what_may_pass_is_worth_another_try() {
        for status in [200, 408, 500, 502, 504, 520] {
            assert_eq!(seen(status, None).1, Again::Soon, "{status}");
        }
        for status in [301, 400, 401, 403, 404, 412, 416, 501] {
            assert_eq!(seen(status, Some("1")).1, Again::Never, "{status}");
        }
    }

    #[test]
    fn a_server_may_say_for_how_long_it_wants_no_requests() {
        for (value, after) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("99999999999", Some(300)),
            ("-1", None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
            ("", None),
        ] {
            let after = after.map(Duration::from_secs);
            assert_eq!(seen(503, Some(value)), (Kind::Unavailable, Again::Slower(after)), "{value}");
            assert_eq!(seen(429, Some(value)).1, Again::Slower(after), "{value}");
        }
        assert_eq!(seen(503, None).1, Again::Slower(None));
    }
}
