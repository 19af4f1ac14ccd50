//! Why no answer came: what stands in the chain of errors below a connector, in words that say what to do.

use std::error::Error as StdError;
use std::io;

use crate::error::{Again, Kind};

/// A request that was not answered.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub kind: Kind,
    pub again: Again,
    /// Cause and remedy.
    pub says: String,
}

impl Unanswered {
    /// Reads a chain of errors; `endpoint` is where the request went, `timed_out` whether the connector gave up.
    pub(super) fn of(error: &(dyn StdError + 'static), endpoint: &str, timed_out: bool) -> Self {
        let chain: Vec<String> = sources(error).map(|e| e.to_string()).collect();
        let last = chain.last().map(String::as_str).unwrap_or_default();
        let within = |word: &str| chain.iter().any(|text| text.contains(word));
        let says = |kind, again, says: String| Unanswered { kind, again, says };
        if timed_out {
            return says(Kind::TimedOut, Again::Soon, format!("{endpoint} does not answer"));
        }
        if within("dns error") || within("failed to lookup address") {
            return name_unknown(endpoint, last);
        }
        if let Some(trouble) = tls_trouble(&chain) {
            return says(Kind::Unavailable, Again::Never, format!("{endpoint}: {trouble}"));
        }
        let io = sources(error).filter_map(|e| e.downcast_ref::<io::Error>()).last();
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => {
                let refused =
                    format!("{endpoint} refuses connections: is the server up, and the port right?");
                says(Kind::Unavailable, Again::Soon, refused)
            }
            Some(io::ErrorKind::TimedOut) => {
                says(Kind::TimedOut, Again::Soon, format!("{endpoint} does not answer"))
            }
            _ => says(Kind::Unavailable, Again::Soon, format!("{endpoint}: {last}")),
        }
    }
}

/// The error and those that caused it.
pub(super) fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let this = next?;
        next = this.source();
        Some(this)
    })
}

/// No address for the host. That there is none is an answer; that nobody could be asked passes.
fn name_unknown(endpoint: &str, last: &str) -> Unanswered {
    let passing = last.contains("emporary");
    let again = if passing { Again::Soon } else { Again::Never };
    let remedy = if passing { "is the network up?" } else { "is it spelled right?" };
    Unanswered {
        kind: Kind::Unavailable,
        again,
        says: format!("no address is known for {endpoint} ({last}); {remedy}"),
    }
}

/// What keeps TLS from coming about. The words are those of the TLS library, which tests of this room hold it to.
fn tls_trouble(chain: &[String]) -> Option<&'static str> {
    let found = |word: &str| chain.iter().any(|text| text.contains(word));
    if !found("invalid peer certificate") {
        let plain = found("InvalidContentType") || found("corrupt message");
        return plain.then_some("no TLS is spoken there; if that is meant, write s3:http://…");
    }
    Some(if found("CaUsedAsEndEntity") {
        "its certificate is an authority's own (CA:TRUE); a server needs one with CA:FALSE, which may be signed by that"
    } else if found("UnknownIssuer") || found("BadSignature") {
        "its certificate is signed by nobody known here; if it is right, name its authority with ca-file (PEM)"
    } else if found("xpired") || found("NotValidYet") || found("not valid yet") {
        "its certificate is not valid now; is this machine's clock right?"
    } else if found("not valid for name") || found("NotValidForName") {
        "its certificate is for another name; is the host spelled right?"
    } else {
        "its certificate is not valid"
    })
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// An error around another one.
    #[derive(Debug)]
    struct Around(&'static str, Option<Box<dyn StdError + 'static>>);

    impl fmt::Display for Around {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Around {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref()
        }
    }

    fn seen(inner: impl StdError + 'static) -> Unanswered {
        let error = Around("dispatch failure", Some(Box::new(Around("io error", Some(Box::new(inner))))));
        Unanswered::of(&error, "https://s3.example.org", false)
    }

    #[test]
    fn what_passes_by_itself_is_worth_another_try_and_what_does_not_is_not() {
        for (kind, expected) in [
            (io::ErrorKind::ConnectionRefused, Kind::Unavailable),
            (io::ErrorKind::ConnectionReset, Kind::Unavailable),
            (io::ErrorKind::TimedOut, Kind::TimedOut),
        ] {
            let found = seen(io::Error::from(kind));
            assert_eq!((found.kind, found.again), (expected, Again::Soon), "{kind}");
        }
        let late = Unanswered::of(&Around("timeout", None), "https://h", true);
        assert_eq!((late.kind, late.again), (Kind::TimedOut, Again::Soon));
    }

    #[test]
    fn a_name_that_nobody_knows_is_told_from_a_network_that_is_down() {
        let lookup = |text| Around("dns error", Some(Box::new(Around(text, None))));
        let typo = seen(lookup("failed to lookup address information: Name or service not known"));
        assert_eq!(typo.again, Again::Never);
        assert!(typo.says.ends_with("is it spelled right?"), "{}", typo.says);
        let down = seen(lookup("failed to lookup address information: Temporary failure in name resolution"));
        assert_eq!(down.again, Again::Soon);
        assert!(down.says.ends_with("is the network up?"), "{}", down.says);
    }

    #[test]
    fn each_trouble_with_tls_has_its_remedy() {
        for (text, remedy) in [
            ("invalid peer certificate: UnknownIssuer", "ca-file"),
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "CA:FALSE"),
            ("invalid peer certificate: certificate expired: verification time", "clock"),
            ("invalid peer certificate: certificate not valid for name \"x\"", "spelled"),
            ("invalid peer certificate: Revoked", "not valid"),
            ("received corrupt message of type InvalidContentType", "s3:http://"),
        ] {
            let found = seen(Around(text, None));
            assert_eq!(found.again, Again::Never, "{text}");
            assert!(found.says.contains(remedy) && found.says.contains("s3.example.org"), "{}", found.says);
        }
    }
}
