//! What went wrong with a request, taken out of the SDK's error once, and what that means.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

use super::transport::{Unanswered, sources};
use crate::error::{Again, Error, Kind};
use crate::observe::printable;
use crate::store::http::refusal;

/// A clock that is off by less is none that a server refuses.
const TOLERATED: Duration = Duration::from_secs(240);

/// Most of what a server says is repeated, not all.
const LONGEST_WORDS: usize = 200;

/// A request that failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server said no.
    Refused(Refused),
    /// Nobody answered.
    Unanswered(Unanswered),
    /// Something answered that was not understood: why.
    Garbled(String),
    /// It could not even be built: why.
    Unbuilt(String),
    /// There was nothing to sign the request with: why.
    NoCredentials(String),
    /// Whoever has the credentials did not give them now: why.
    CredentialsLate(String),
}

/// A server's no.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub status: u16,
    /// `NoSuchKey` and the like; empty where the answer has no body, as to HEAD.
    pub code: String,
    /// What the server says about it.
    pub words: String,
    /// Where the bucket is, if the server says so.
    pub region: Option<String>,
    /// The server's clock.
    pub date: Option<SystemTime>,
    pub retry_after: Option<String>,
    /// The storage class that keeps the object from being read.
    pub class: Option<String>,
}

/// What a request was about, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The object in the bucket, or the prefix that was listed.
    pub key: &'a str,
    pub bucket: &'a str,
    /// Where requests go: a URL.
    pub endpoint: &'a str,
    /// Whether requests are signed.
    pub signed: bool,
}

impl Failure {
    /// Reads an error of the SDK; requests went to `endpoint`.
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>, endpoint: &str) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        match error {
            SdkError::ServiceError(refused) => {
                let meta = refused.err().meta();
                Failure::Refused(Refused::of(refused.raw(), meta.code(), meta.message()))
            }
            SdkError::ResponseError(garbled) if garbled.raw().status().is_success() => {
                Failure::Garbled(innermost(error))
            }
            SdkError::ResponseError(garbled) => Failure::Refused(Refused::of(garbled.raw(), None, None)),
            SdkError::DispatchFailure(failure) => Failure::unsigned(error).unwrap_or_else(|| {
                Failure::Unanswered(Unanswered::of(error, endpoint, failure.is_timeout()))
            }),
            SdkError::TimeoutError(_) => Failure::Unanswered(Unanswered::of(error, endpoint, true)),
            _ => Failure::Unbuilt(innermost(error)),
        }
    }

    /// Whether a request was not sent because nothing could sign it. The words are the SDK's, which tests hold to it.
    fn unsigned(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut chain = sources(error).map(ToString::to_string);
        let found = chain.find(|text| text.contains("credential") || text.contains("identity"))?;
        let why = innermost(error);
        // The last of the chain is asked for a machine's metadata; what it answers instead has nothing to do with us.
        let nobody = |text: &str| {
            ["not enabled", "no providers in chain", "IMDS"].iter().any(|word| text.contains(word))
        };
        Some(match nobody(&found) || nobody(&why) {
            true => Failure::NoCredentials(why),
            false => Failure::CredentialsLate(why),
        })
    }

    /// The error to tell.
    pub(super) fn error(self, asked: Asked<'_>) -> Error {
        let Asked { key, bucket, endpoint, .. } = asked;
        match self {
            Failure::Refused(refused) => refused.error(asked),
            Failure::Unanswered(Unanswered { kind, again, says }) => Error::new(kind, says).worth(again),
            Failure::Garbled(why) => {
                let says =
                    format!("{key}: {endpoint} answers what no S3 server does ({why}); is the URL right?");
                // A body that was cut short looks the same.
                Error::new(Kind::Unavailable, says).worth(Again::Soon)
            }
            Failure::Unbuilt(why) => {
                Error::new(Kind::Invalid, format!("{key} of bucket {bucket}: {why}")).worth(Again::Unsent)
            }
            Failure::CredentialsLate(why) => {
                let says = format!("the credentials for bucket {bucket} could not be had: {why}");
                Error::new(Kind::Unavailable, says).worth(Again::Soon)
            }
            Failure::NoCredentials(why) => {
                let says = format!(
                    "no credentials for bucket {bucket} ({why}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
                     name a profile (AWS_PROFILE), or say s3-anonymous if it is public"
                );
                Error::new(Kind::Denied, says).worth(Again::Unsent)
            }
        }
    }
}

impl Refused {
    fn of(answer: &HttpResponse, code: Option<&str>, words: Option<&str>) -> Self {
        let header = |name: &str| answer.headers().get(name).map(str::to_owned);
        let body = answer.body().bytes().and_then(|body| std::str::from_utf8(body).ok()).unwrap_or_default();
        let date = header("date").and_then(|date| DateTime::from_str(&date, DateTimeFormat::HttpDate).ok());
        Refused {
            status: answer.status().as_u16(),
            code: code.unwrap_or_default().to_owned(),
            words: words.unwrap_or_default().chars().take(LONGEST_WORDS).collect(),
            region: header("x-amz-bucket-region").or_else(|| element(body, "Region")),
            date: date.and_then(|date| SystemTime::try_from(date).ok()),
            retry_after: header("retry-after"),
            class: header("x-amz-storage-class").or_else(|| element(body, "StorageClass")),
        }
    }

    /// The bucket is in another region than the request was signed for.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self.status, 301 | 307 | 400 | 403) && self.region.is_some()
    }

    /// How far this machine's clock is from the server's, when that may be why the request was refused: minutes, and in
    /// which direction.
    pub(super) fn clock_is_off(&self, now: SystemTime) -> Option<String> {
        let date = self.date.filter(|_| matches!(self.status, 400 | 401 | 403))?;
        let (by, direction) = match now.duration_since(date) {
            Ok(by) => (by, "fast"),
            Err(earlier) => (earlier.duration(), "slow"),
        };
        (by > TOLERATED).then(|| format!("{} min {direction}", by.as_secs().div_ceil(60)))
    }

    /// What the request was signed with is no longer valid.
    pub(super) fn is_expired(&self) -> bool {
        matches!(self.code.as_str(), "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired")
    }

    /// The server does not know what it was asked for.
    pub(super) fn is_unknown_request(&self) -> bool {
        self.status == 501 || matches!(self.code.as_str(), "NotImplemented" | "MethodNotAllowed")
    }

    /// Whether the answer says what was refused. An answer to HEAD has no body for it, and the SDK calls 404 `NotFound`.
    pub(super) fn tells_why(&self) -> bool {
        !matches!(self.code.as_str(), "" | "NotFound") || self.status >= 500
    }

    fn error(&self, asked: Asked<'_>) -> Error {
        let Asked { key, bucket, endpoint, .. } = asked;
        let never = |kind, says: String| Error::new(kind, says);
        match self.code.as_str() {
            "NoSuchKey" => never(Kind::NotFound, format!("{key}: no such object")),
            "NoSuchVersion" => never(Kind::NotFound, format!("{key}: no such version")),
            _ if self.status == 412 => {
                never(Kind::Stale, format!("{key}: is another object than when it was listed"))
            }
            "NoSuchBucket" => {
                let says = format!("there is no bucket {bucket} at {endpoint}; is the name right?");
                never(Kind::Unavailable, says)
            }
            "InvalidObjectState" => never(Kind::Unsupported, self.archived(key, bucket)),
            "InvalidRange" => never(Kind::Corrupt, format!("{key}: ends before the range asked for")),
            "RequestTimeout" => {
                never(Kind::TimedOut, format!("{key}: {endpoint} waited in vain")).worth(Again::Soon)
            }
            "RequestTimeTooSkewed" | "RequestExpired" => never(
                Kind::Unavailable,
                format!("{endpoint} refuses the time of this machine's clock; set it (timedatectl)"),
            ),
            _ if matches!(self.status, 401 | 403) || self.is_expired() => {
                never(Kind::Denied, self.denied(asked))
            }
            _ if self.is_elsewhere() || self.status / 100 == 3 => {
                never(Kind::Unavailable, self.elsewhere(asked))
            }
            "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "RequestLimitExceeded"
            | "TooManyRequests" => refusal(key, 503, self.retry_after.as_deref()),
            _ if matches!(self.status, 404 | 410) => never(
                Kind::Unavailable,
                format!(
                    "{key}: {endpoint} answers {} and not why; is that an S3 server, and the URL right?",
                    self.status
                ),
            ),
            code => {
                let error = refusal(key, self.status, self.retry_after.as_deref());
                if code.is_empty() {
                    error
                } else {
                    error.context(format!("{code}: {}", printable(&self.words)))
                }
            }
        }
    }

    fn denied(&self, asked: Asked<'_>) -> String {
        let Asked { key, bucket, signed, .. } = asked;
        match self.code.as_str() {
            "InvalidAccessKeyId" => {
                "the server does not know the access key (AWS_ACCESS_KEY_ID); is it right, and for \
                                     this server?"
                    .to_owned()
            }
            "SignatureDoesNotMatch" => {
                "the secret key does not belong to the access key (AWS_SECRET_ACCESS_KEY); is it complete?"
                    .to_owned()
            }
            _ if self.is_expired() || self.code == "InvalidToken" => {
                "the session token has expired or is wrong (AWS_SESSION_TOKEN): get new credentials"
                    .to_owned()
            }
            _ if !signed => {
                format!("{key}: bucket {bucket} is not open to anonymous requests: give credentials")
            }
            _ => format!(
                "{key}: access denied: the key needs s3:ListBucket on bucket {bucket} and s3:GetObject on its objects{}",
                self.in_brackets()
            ),
        }
    }

    fn elsewhere(&self, asked: Asked<'_>) -> String {
        let Asked { bucket, endpoint, .. } = asked;
        match &self.region {
            Some(region) => {
                format!(
                    "bucket {bucket} is in region {}: set s3-region or AWS_REGION to it",
                    printable(region)
                )
            }
            None => {
                format!("bucket {bucket} is not served by {endpoint}: set s3-region{}", self.in_brackets())
            }
        }
    }

    fn archived(&self, key: &str, bucket: &str) -> String {
        let class = self.class.as_deref().unwrap_or("an archive class");
        format!(
            "{key} is archived ({}) and must be thawed before it can be read: aws s3api restore-object --bucket {bucket} \
             --key {key} --restore-request Days=7",
            printable(class)
        )
    }

    fn in_brackets(&self) -> String {
        match (self.code.as_str(), self.words.as_str()) {
            ("", "") => String::new(),
            (code, "") => format!(" ({})", printable(code)),
            ("", words) => format!(" ({})", printable(words)),
            (code, words) => format!(" ({}: {})", printable(code), printable(words)),
        }
    }
}

/// The text of the first element of that name.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once('<')?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// What the last error of a chain says, on one line.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let last = sources(error).last().unwrap_or(error);
    let text: String = last.to_string().chars().take(LONGEST_WORDS).collect();
    printable(&text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'_> =
        Asked { key: "data/00/00ff", bucket: "b", endpoint: "https://s3.example.org", signed: true };

    fn refused(status: u16, code: &str) -> Refused {
        Refused { status, code: code.to_owned(), ..Refused::default() }
    }

    fn seen(refused: Refused) -> (Kind, Again, String) {
        let error = Failure::Refused(refused).error(ASKED);
        (error.kind(), error.again(), error.to_string())
    }

    #[test]
    fn only_a_key_that_the_server_names_as_missing_is_not_found() {
        for status in [301, 400, 403, 404, 405, 410, 500, 503] {
            for code in ["", "NoSuchBucket", "AccessDenied", "Whatever"] {
                let (kind, _, says) = seen(refused(status, code));
                assert!(kind != Kind::NotFound, "{status} {code}: {says}");
            }
        }
        assert_eq!(seen(refused(404, "NoSuchKey")).0, Kind::NotFound);
    }

    #[test]
    fn each_refusal_has_its_kind_and_its_remedy() {
        for (status, code, kind, again, remedy) in [
            (404, "NoSuchBucket", Kind::Unavailable, Again::Never, "is the name right?"),
            (404, "", Kind::Unavailable, Again::Never, "is that an S3 server"),
            (403, "AccessDenied", Kind::Denied, Again::Never, "s3:ListBucket"),
            (403, "", Kind::Denied, Again::Never, "s3:GetObject"),
            (403, "InvalidAccessKeyId", Kind::Denied, Again::Never, "AWS_ACCESS_KEY_ID"),
            (403, "SignatureDoesNotMatch", Kind::Denied, Again::Never, "AWS_SECRET_ACCESS_KEY"),
            (403, "ExpiredToken", Kind::Denied, Again::Never, "get new credentials"),
            (403, "RequestTimeTooSkewed", Kind::Unavailable, Again::Never, "clock"),
            (
                403,
                "InvalidObjectState",
                Kind::Unsupported,
                Again::Never,
                "restore-object --bucket b --key data/00/00ff",
            ),
            (301, "PermanentRedirect", Kind::Unavailable, Again::Never, "s3-region"),
            (416, "InvalidRange", Kind::Corrupt, Again::Never, "data/00/00ff"),
            (400, "RequestTimeout", Kind::TimedOut, Again::Soon, "data/00/00ff"),
            (500, "InternalError", Kind::Unavailable, Again::Soon, "InternalError"),
            (503, "", Kind::Unavailable, Again::Slower(None), "503"),
            (400, "SlowDown", Kind::Unavailable, Again::Slower(None), "data/00/00ff"),
            (501, "NotImplemented", Kind::Unavailable, Again::Never, "NotImplemented"),
        ] {
            let (found, found_again, says) = seen(refused(status, code));
            assert_eq!((found, found_again), (kind, again), "{status} {code}: {says}");
            assert!(says.contains(remedy) && !says.contains('\n'), "{status} {code}: {says}");
        }
    }

    #[test]
    fn a_server_s_wish_to_be_left_alone_is_kept() {
        let busy = Refused { retry_after: Some("7".to_owned()), ..refused(503, "SlowDown") };
        assert_eq!(seen(busy).1, Again::Slower(Some(Duration::from_secs(7))));
    }

    #[test]
    fn anonymous_requests_are_told_to_bring_credentials() {
        let error = Failure::Refused(refused(403, "AccessDenied")).error(Asked { signed: false, ..ASKED });
        assert!(error.to_string().contains("give credentials"), "{error}");
    }

    #[test]
    fn the_region_that_a_server_names_is_told() {
        let wrong =
            Refused { region: Some("eu-west-1".to_owned()), ..refused(400, "AuthorizationHeaderMalformed") };
        assert!(wrong.is_elsewhere());
        assert!(seen(wrong).2.contains("is in region eu-west-1"));
    }

    #[test]
    fn a_clock_is_only_blamed_for_refusals_and_when_it_is_far_off() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let hour = Duration::from_secs(3600);
        let with = |status, date| Refused { date: Some(date), ..refused(status, "") };
        assert_eq!(with(403, now + hour).clock_is_off(now).as_deref(), Some("60 min slow"));
        assert_eq!(with(403, now - hour).clock_is_off(now).as_deref(), Some("60 min fast"));
        assert_eq!(with(403, now + TOLERATED).clock_is_off(now), None);
        assert_eq!(with(404, now + hour).clock_is_off(now), None);
        assert_eq!(refused(403, "").clock_is_off(now), None);
    }

    #[test]
    fn a_server_s_words_stay_on_one_line_and_short() {
        let words = format!("first\nsecond\u{1b}[31m{}", "x".repeat(1000));
        let loud =
            Refused { words: words.chars().take(LONGEST_WORDS).collect(), ..refused(403, "AccessDenied") };
        let (_, _, says) = seen(loud);
        assert!(!says.contains(['\n', '\u{1b}']) && says.len() < 600, "{says}");
    }

    #[test]
    fn elements_are_found_in_an_error_s_body() {
        let xml = "<Error><Code>X</Code><Region>eu-west-1</Region><Empty></Empty></Error>";
        assert_eq!(element(xml, "Region").as_deref(), Some("eu-west-1"));
        for absent in ["Empty", "Endpoint", ""] {
            assert_eq!(element(xml, absent), None, "{absent}");
        }
        assert_eq!(element("<Region>cut", "Region"), None);
    }
}
