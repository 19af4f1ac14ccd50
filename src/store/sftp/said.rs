//! What ssh's own words mean: it tells why it failed in no other way.

use crate::error::{Again, Kind};

/// Whether ssh may succeed another time, by what it said last.
pub(super) fn classify(said: &str) -> (Kind, Again) {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["Permission denied", "Too many authentication failures", "No supported authentication"]) {
        return (Kind::Denied, Again::Never);
    }
    if has(&["Host key verification failed", "REMOTE HOST IDENTIFICATION", "no matching host key type"]) {
        return (Kind::Denied, Again::Never);
    }
    if has(&[
        "subsystem request failed",
        "Bad configuration option",
        "no matching",
        "Bad owner or permissions",
    ]) {
        return (Kind::Unsupported, Again::Never);
    }
    (Kind::Unavailable, Again::Soon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_pass_is_not_tried_again() {
        for (said, kind, again) in [
            ("u@h: Permission denied (publickey).", Kind::Denied, Again::Never),
            (
                "No ED25519 host key is known for h and you have requested strict checking.; \
                 Host key verification failed.",
                Kind::Denied,
                Again::Never,
            ),
            ("subsystem request failed on channel 0", Kind::Unsupported, Again::Never),
            ("/root/.ssh/config: line 3: Bad configuration option: x", Kind::Unsupported, Again::Never),
            ("ssh: connect to host h port 22: Connection refused", Kind::Unavailable, Again::Soon),
            ("ssh: Could not resolve hostname h: Name or service not known", Kind::Unavailable, Again::Soon),
            ("kex_exchange_identification: Connection closed by remote host", Kind::Unavailable, Again::Soon),
        ] {
            assert_eq!(classify(said), (kind, again), "{said}");
        }
    }
}
