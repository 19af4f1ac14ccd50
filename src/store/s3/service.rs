//! An S3 service as somebody: one HTTP client with its connections, one set of credentials, one SDK client a region.
//! All stores that are made of it share them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    AppName, BehaviorVersion, Builder, IdentityCache, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedHttpClient, StalledStreamProtectionConfig,
};

use super::identity::{self, Identity};
use super::{amazon, connector};
use crate::error::{Error, Kind, Result};
use crate::store::transfer::{CONNECT, FIRST_BYTE};

/// Where requests of unknown region go first; the answer tells the right one.
const FIRST_REGION: &str = "us-east-1";

/// Credentials are renewed so long before they expire, less up to half of it, by chance: many who share them do not ask
/// at once.
const RENEW: Duration = Duration::from_secs(120);

/// How long the sources of credentials (an SSO portal, a program, the machine's metadata) may take.
const LOAD: Duration = Duration::from_secs(20);

/// From the beginning of a request, the finding of credentials included, to the end of its answer; of an object only to
/// where its body begins.
const ANSWER: Duration = Duration::from_secs(45);

/// Credentials that a server calls expired are not looked for anew more often.
const RELOAD: Duration = Duration::from_secs(30);

/// How an S3 service is reached, and as whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `https://host[:port]`, or `http` where that is meant; `None` for Amazon's.
    pub endpoint: Option<String>,
    /// The region of the buckets; found out when absent.
    pub region: Option<String>,
    /// Where the bucket stands in requests.
    pub addressing: Addressing,
    /// Who asks.
    pub identity: Identity,
    /// A role to assume with that identity: its ARN.
    pub role: Option<String>,
    /// Certificates of authorities (PEM) to be trusted besides the system's.
    pub ca: Option<PathBuf>,
}

/// Where the bucket stands in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// In the host's name where the service wants it, else in the path.
    #[default]
    Auto,
    /// In the path: `https://host/bucket/key`.
    Path,
    /// In the host's name: `https://bucket.host/key`.
    Virtual,
}

/// A service, for stores to be made of.
pub struct Service {
    /// As it was asked for.
    asked: Options,
    /// The same, Amazon's endpoint recognised.
    options: Options,
    /// Where requests go, for messages.
    endpoint: String,
    http: SharedHttpClient,
    /// The server lists in the first version only.
    v1: AtomicBool,
    /// What follows from the credentials; made at the first request, and again when they have expired.
    session: ArcSwapOption<Session>,
    making: tokio::sync::Mutex<()>,
}

/// One set of credentials, and the clients that use it.
pub(super) struct Session {
    config: Builder,
    region: String,
    made: Instant,
    clients: Mutex<BTreeMap<String, Client>>,
}

impl Service {
    /// The service that others in this process have already, or a new one: a thousand repositories of one server are to
    /// share its connections, its credentials and what TLS takes in memory. Errors: as of [`Service::new`].
    pub fn shared(options: Options) -> Result<Arc<Self>> {
        static SHARED: Mutex<Vec<Weak<Service>>> = Mutex::new(Vec::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|service| service.strong_count() > 0);
        if let Some(service) =
            shared.iter().filter_map(Weak::upgrade).find(|service| service.asked == options)
        {
            return Ok(service);
        }
        let service = Arc::new(Service::new(options)?);
        shared.push(Arc::downgrade(&service));
        Ok(service)
    }

    /// A service that nobody was asked for yet. Errors: certificates that cannot be read.
    pub fn new(options: Options) -> Result<Self> {
        let (asked, mut options) = (options.clone(), options);
        if let Some(amazon) = options.endpoint.as_deref().and_then(amazon::of) {
            options.endpoint = None;
            options.region = options.region.or(amazon.region);
        }
        let http = connector::client(options.ca.as_deref())?;
        let endpoint = options.endpoint.clone().unwrap_or_else(|| "https://s3.amazonaws.com".to_owned());
        Ok(Service {
            asked,
            options,
            endpoint,
            http,
            v1: AtomicBool::new(false),
            session: ArcSwapOption::empty(),
            making: tokio::sync::Mutex::default(),
        })
    }

    /// Where requests go, for messages.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether requests are signed.
    pub(super) fn signs(&self) -> bool {
        !matches!(self.options.identity, Identity::Anonymous)
    }

    pub(super) fn lists_v1(&self) -> bool {
        self.v1.load(Ordering::Relaxed)
    }

    pub(super) fn list_v1_from_now_on(&self) {
        self.v1.store(true, Ordering::Relaxed);
    }

    /// Looks for credentials anew, because a server called those of the session `used` expired; of many requests that hear
    /// so one looks, and all are worth another try. False when these were found a moment ago, or were given and there is
    /// nowhere to look.
    pub(super) fn renew(&self, used: &Arc<Session>) -> bool {
        if !matches!(self.options.identity, Identity::Usual { .. }) {
            return false;
        }
        let current = self.session.load();
        match &*current {
            Some(session) if Arc::ptr_eq(session, used) => {
                let renew = used.made.elapsed() >= RELOAD;
                if renew {
                    self.session.compare_and_swap(&current, None);
                }
                renew
            }
            // Others have seen to it.
            _ => true,
        }
    }

    /// The credentials of now, and what follows from them. Errors: `Denied`, when a profile cannot be read or has no
    /// credentials.
    pub(super) async fn session(&self) -> Result<Arc<Session>> {
        if let Some(session) = self.session.load_full() {
            return Ok(session);
        }
        let _making = self.making.lock().await;
        if let Some(session) = self.session.load_full() {
            return Ok(session);
        }
        let session = Arc::new(self.begin().await?);
        self.session.store(Some(session.clone()));
        Ok(session)
    }

    async fn begin(&self) -> Result<Session> {
        let Options { endpoint, addressing, identity, role, .. } = &self.options;
        let region = match &self.options.region {
            Some(region) => Some(region.clone()),
            None => identity::region(identity).await,
        };
        let region = region.unwrap_or_else(|| FIRST_REGION.to_owned());
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .read_timeout(FIRST_BYTE)
            .operation_attempt_timeout(ANSWER)
            .build();
        let cache = IdentityCache::lazy().buffer_time(RENEW).load_timeout(LOAD).build();
        let mut config = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .app_name(AppName::new("backupfs").map_err(|e| Error::caused_by(Kind::Internal, "S3", e))?)
            .http_client(self.http.clone())
            .timeout_config(timeouts)
            .identity_cache(cache)
            // Whoever wraps a store retries, and watches how bodies come.
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // Not every server knows them, ranges have none, and what is read is checked by its reader.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .force_path_style(match addressing {
                Addressing::Path => true,
                Addressing::Virtual => false,
                Addressing::Auto => endpoint.as_deref().is_some_and(|url| !amazon::wants_virtual(url)),
            });
        config.set_endpoint_url(endpoint.clone());
        let role = role.as_deref();
        config.set_credentials_provider(identity::provider(identity, role, &region, &self.http).await?);
        Ok(Session { config, region, made: Instant::now(), clients: Mutex::default() })
    }
}

impl Session {
    /// The client for a region, or for the one that the configuration names.
    pub(super) fn client(&self, region: Option<&str>) -> Client {
        let region = region.unwrap_or(&self.region);
        // The map is never left half changed.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(region) {
            return client.clone();
        }
        let config = self.config.clone().region(Region::new(region.to_owned())).build();
        clients.entry(region.to_owned()).or_insert(Client::from_conf(config)).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(secret: &str) -> Options {
        let secret = secret.into();
        Options {
            endpoint: Some("https://shared.example.org".to_owned()),
            region: None,
            addressing: Addressing::Auto,
            identity: Identity::Key { id: "id".to_owned(), secret, session: None },
            role: None,
            ca: None,
        }
    }

    /// A session that began so long ago.
    async fn began(service: &Service, ago: Duration) -> Arc<Session> {
        let Session { config, region, clients, .. } = service.begin().await.unwrap();
        let made = Instant::now().checked_sub(ago).unwrap();
        let session = Arc::new(Session { config, region, made, clients });
        service.session.store(Some(Arc::clone(&session)));
        session
    }

    #[tokio::test]
    async fn all_who_were_refused_together_try_the_credentials_that_one_of_them_found() {
        let profile = Some("nobody".to_owned());
        let usual = Options { identity: Identity::Usual { profile }, ..options("one") };
        let service = Service::new(usual).unwrap();
        let old = began(&service, RELOAD).await;
        assert!(service.renew(&old), "looks anew");
        assert!(service.session.load().is_none());
        assert!(service.renew(&old), "while another looks");
        let new = began(&service, Duration::ZERO).await;
        assert!(service.renew(&old), "after it has");
        assert!(Arc::ptr_eq(&service.session().await.unwrap(), &new), "and these are left alone");
        assert!(!service.renew(&new), "they were found a moment ago");
        let given = Service::new(options("one")).unwrap();
        let session = began(&given, RELOAD).await;
        assert!(!given.renew(&session), "there is nowhere to look");
    }

    #[test]
    fn who_asks_alike_shares_a_service_and_nobody_else() {
        let first = Service::shared(options("one")).unwrap();
        assert!(Arc::ptr_eq(&first, &Service::shared(options("one")).unwrap()));
        assert!(!Arc::ptr_eq(&first, &Service::shared(options("other")).unwrap()));
        let other_place = Options { region: Some("eu-west-1".to_owned()), ..options("one") };
        assert!(!Arc::ptr_eq(&first, &Service::shared(other_place).unwrap()));
        let weak = Arc::downgrade(&first);
        drop(first);
        assert!(weak.upgrade().is_none(), "kept although nobody has it");
    }
}
