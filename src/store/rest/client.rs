//! Requests and answers over HTTP, and what their failures mean.

use std::fmt::Display;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::{BodyStream, Empty};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE, RETRY_AFTER, USER_AGENT,
};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::{self, Client as Pool};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::connect::Connector;
use super::{Settings, listing};
use crate::error::{Again, Error, Kind, Result};
use crate::locked::Locked;
use crate::store::meter::{Arrival, Meter};
use crate::store::{http, transfer};

/// How we call ourselves.
const AGENT: &str = concat!("backupfs/", env!("CARGO_PKG_VERSION"));

/// Connections without a request are closed after this; servers and routers forget them at about a minute.
const IDLE: std::time::Duration = std::time::Duration::from_secs(45);

/// What one stream over HTTP/2 may send before we take it, and what all together may.
const STREAM_WINDOW: u32 = 4 << 20;
const WINDOW: u32 = 32 << 20;

/// Sends requests below one path of one server.
pub(super) struct Client {
    pool: Pool<Connector, Empty<Bytes>>,
    connector: Connector,
    base: String,
    /// The header that says who asks.
    login: Option<Locked<str>>,
}

/// The beginning of an answer; its body is still to come.
pub(super) struct Answer<'a> {
    response: Response<Incoming>,
    arrival: Arrival<'a>,
    /// The object.
    what: String,
}

impl Client {
    pub(super) fn new(settings: Settings) -> Result<Self> {
        let Settings { server, path, login, trust, name } = settings;
        let base = format!("{}{path}", server.origin());
        base.parse::<hyper::Uri>()
            .map_err(|e| Error::caused_by(Kind::Usage, format!("{name}: is no address"), e))?;
        let connector = Connector::new(server, &trust)?;
        let mut builder = Pool::builder(TokioExecutor::new());
        // A program ends with its store, and is not started again whenever nobody asked for a while.
        let idle = Some(IDLE).filter(|_| !connector.is_program());
        builder.pool_idle_timeout(idle).pool_timer(TokioTimer::new());
        if connector.is_program() {
            builder
                .http2_only(true)
                .http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_initial_connection_window_size(WINDOW);
        }
        let login = login.as_ref().map(|(user, password)| basic(user, password));
        Ok(Client { pool: builder.build(connector.clone()), connector, base, login })
    }

    /// The answer to a request for `path`, whatever its status, once it begins; `key` is how the path is called in
    /// messages, `range` the first and last byte that are wanted.
    pub(super) async fn ask<'a>(
        &self,
        meter: &'a Meter,
        method: Method,
        key: &str,
        path: &str,
        range: Option<(u64, u64)>,
    ) -> Result<Answer<'a>> {
        let what = key.to_owned();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, listing::V2);
        if let Some((first, last)) = range {
            request = request.header(RANGE, format!("bytes={first}-{last}"));
        }
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, sensitive(login)?);
        }
        let request = request.body(Empty::new());
        let request = request.map_err(|e| Error::caused_by(Kind::Invalid, what.clone(), e))?;
        let asked = Instant::now();
        let answer = async {
            match self.pool.request(request).await {
                Ok(response) => Ok(response),
                Err(error) => Err(self.lost(&error).await),
            }
        };
        let response = transfer::begun(&what, answer).await?;
        Ok(Answer { response, arrival: meter.answered(asked.elapsed()), what })
    }

    /// The error of a request that got no answer.
    async fn lost(&self, error: &legacy::Error) -> Error {
        if let Some(known) = causes(error).find_map(|error| error.downcast_ref::<Error>()) {
            return known.clone();
        }
        let root = root_cause(error);
        if let Some(said) = self.connector.explain(&root).await {
            return said;
        }
        let (doing, kind, again) = match () {
            () if is_distrust(error) => {
                let remedy =
                    "the server's certificate is not trusted; ca-file or RESTIC_CACERT names its authority";
                (remedy, Kind::Denied, Again::Never)
            }
            () if is_distrusted(error) => {
                let remedy = "the server wants another certificate of ours; client-cert or \
                              RESTIC_TLS_CLIENT_CERT names it";
                (remedy, Kind::Denied, Again::Never)
            }
            () if error.is_connect() => ("cannot be reached", Kind::Unavailable, Again::Soon),
            () if is_gibberish(error) => {
                ("what answers does not speak HTTP", Kind::Unavailable, Again::Never)
            }
            () => ("the connection broke off", Kind::Unavailable, Again::Soon),
        };
        Error::new(kind, format!("{doing}: {root}")).worth(again)
    }
}

impl Answer<'_> {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header, if it is there and plain text.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// How long the body is, where that is told.
    pub(super) fn length(&self) -> Option<u64> {
        self.header(&CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// The first and last byte of a part.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        let (range, _) = self.content_range()?;
        let (first, last) = range.split_once('-')?;
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    }

    /// How long the object is of which this is a part, or would be.
    pub(super) fn total(&self) -> Option<u64> {
        self.content_range()?.1.trim().parse().ok()
    }

    fn content_range(&self) -> Option<(&str, &str)> {
        self.header(&CONTENT_RANGE)?.trim().strip_prefix("bytes ")?.split_once('/')
    }

    /// The same answer, if it brings what was asked for; otherwise the error that it is.
    pub(super) fn succeeded(self) -> Result<Self> {
        let status = self.status();
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(self);
        }
        let what = &self.what;
        Err(match status {
            StatusCode::UNAUTHORIZED => Error::new(
                Kind::Denied,
                format!(
                    "{what}: the server wants another user or password; RESTIC_REST_USERNAME and \
                     RESTIC_REST_PASSWORD tell it, or the URL"
                ),
            ),
            _ if status.is_redirection() => {
                let elsewhere = self.header(&LOCATION).map_or("elsewhere", without_login);
                let says = format!("{what}: the server sends us to {elsewhere}; give that address");
                Error::new(Kind::Unsupported, says)
            }
            _ => http::refusal(what, status.as_u16(), self.header(&RETRY_AFTER)),
        })
    }

    /// The body, which has to be `length` bytes long.
    pub(super) async fn exactly(self, length: u64) -> Result<Bytes> {
        if self.length().is_some_and(|told| told != length) {
            let says = format!("{}: the server sends another length than was asked for", self.what);
            return Err(Error::new(Kind::Unavailable, says).worth(Again::Soon));
        }
        let Answer { response, arrival, what } = self;
        transfer::exactly(what, body(response, &arrival), length).await
    }

    /// The body, whose length nobody told.
    pub(super) async fn at_most(self, limit: u64) -> Result<Bytes> {
        let Answer { response, arrival, what } = self;
        transfer::at_most(what, body(response, &arrival), limit).await
    }
}

/// The parts of a body, as they come.
fn body<'a>(
    response: Response<Incoming>,
    arrival: &'a Arrival<'a>,
) -> impl futures_util::Stream<Item = std::result::Result<Bytes, hyper::Error>> + 'a {
    BodyStream::new(response.into_body()).try_filter_map(async |frame| {
        let data = frame.into_data().ok();
        arrival.came(data.as_ref().map_or(0, |data| data.len() as u64));
        Ok(data)
    })
}

/// The header that says who asks.
fn basic(user: &str, password: &[u8]) -> Locked<str> {
    use base64::Engine;
    let plain = Zeroizing::new([user.as_bytes(), b":", password].concat());
    let encoded = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(&plain));
    Locked::from(Zeroizing::new(["Basic ", encoded.as_str()].concat()).as_str())
}

/// A header that nobody prints.
fn sensitive(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|e| Error::caused_by(Kind::Internal, "the login cannot be sent", e))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A URL of a server's, without what might be a password or a token in it.
fn without_login(url: &str) -> &str {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    if url.contains('@') { "elsewhere" } else { url }
}

/// Every error below `error`, itself included; wrappers that hide what they hold are looked into.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
        None => error.source(),
    })
}

/// What everything else followed from, in its own words.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let told: Option<&dyn Display> = causes(error).last().map(|error| error as &dyn Display);
    told.map(ToString::to_string).unwrap_or_default()
}

/// Whether the server refused to talk to whom it does not know by a certificate.
fn is_distrusted(error: &legacy::Error) -> bool {
    let distrusts = |error: &rustls::Error| {
        use rustls::AlertDescription as A;
        matches!(
            error,
            rustls::Error::AlertReceived(
                A::CertificateRequired
                    | A::BadCertificate
                    | A::UnsupportedCertificate
                    | A::CertificateRevoked
                    | A::CertificateExpired
                    | A::CertificateUnknown
                    | A::UnknownCA
                    | A::AccessDenied
            )
        )
    };
    causes(error).any(|error| error.downcast_ref().is_some_and(distrusts))
}

/// Whether the server's certificate was refused, by us.
fn is_distrust(error: &legacy::Error) -> bool {
    let distrusts = |error: &rustls::Error| {
        use rustls::Error as E;
        matches!(error, E::InvalidCertificate(_) | E::NoCertificatesPresented | E::UnsupportedNameType)
    };
    causes(error).any(|error| error.downcast_ref().is_some_and(distrusts))
}

/// Whether what came is no HTTP.
fn is_gibberish(error: &legacy::Error) -> bool {
    causes(error).any(|error| error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_sent_and_never_shown() {
        let value = sensitive(&basic("user", "pä:ss".as_bytes())).unwrap();
        assert_eq!(value.to_str().unwrap(), "Basic dXNlcjpww6Q6c3M=");
        assert!(!format!("{value:?}").contains("dXNl"));
    }

    #[test]
    fn a_redirection_is_repeated_without_secrets() {
        assert_eq!(without_login("https://h/x/?token=1"), "https://h/x/");
        assert_eq!(without_login("https://u:p@h/x/"), "elsewhere");
    }
}
