//! An S3 server in this process, on the crate `s3s`: objects, versions and marks of deletion in memory, requests and
//! signatures checked as a server would, and faults that no real server makes on demand.
//!
//! ```ignore
//! let server = S3s::start();
//! server.put("bucket", "data/x", b"bytes");
//! let rule = server.add(Rule::new(Fault::Flipped).keys("data/").every(2));
//! ```

mod answers;
mod held;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use ::s3s::auth::SimpleAuth;
use ::s3s::config::{S3Config, StaticConfigProvider};
use ::s3s::service::{S3Service, S3ServiceBuilder};
use ::s3s::{Body, HttpRequest, HttpResponse, S3Error, s3_error};
use hyper::body::Incoming;
use hyper::header::DATE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use self::answers::Answers;
use self::held::Bucket;
use crate::harness::s3::{ACCESS_KEY, SECRET_KEY};
use crate::harness::scripted::http_date;

/// A clock that is off by more is refused, as Amazon does.
const TOLERATED: i64 = 15 * 60;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server has too much to do.
    Busy,
    /// The server has a fault of its own.
    Failing,
    /// The token of the credentials has expired.
    Expired,
    /// The object is in an archive.
    Archived,
    /// The body has its length, and one bit is another.
    Flipped,
    /// The body is another object's, cut or continued to the length of this one's.
    Swapped,
    /// The object is another at every request, its ETag too, and the server takes no notice of `If-Match`.
    Replaced,
    /// A page that is not the first holds what the first held.
    PageAgain,
    /// A page that is not the first is left out.
    PageMissing,
    /// A page holds nothing, and says how it goes on.
    PageEmpty,
    /// The server does not know the token that it gave.
    TokenRefused,
    /// The server lists in the first version only.
    OldListings,
}

/// Which requests go wrong: those for keys (or listings below prefixes) that start with `keys`, each `every`th, `times` times.
pub struct Rule {
    fault: Fault,
    keys: String,
    every: u64,
    times: u64,
    met: AtomicU64,
    hit: AtomicU64,
}

impl Rule {
    /// Every request meets `fault`.
    pub fn new(fault: Fault) -> Self {
        let (met, hit) = (AtomicU64::new(0), AtomicU64::new(0));
        Rule { fault, keys: String::new(), every: 1, times: u64::MAX, met, hit }
    }

    pub fn keys(mut self, prefix: &str) -> Self {
        self.keys = prefix.to_owned();
        self
    }

    pub fn every(mut self, nth: u64) -> Self {
        self.every = nth;
        self
    }

    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// How often it made something go wrong.
    pub fn hits(&self) -> u64 {
        self.hit.load(Ordering::SeqCst)
    }

    fn meets(&self, fault: Fault, key: &str) -> bool {
        if self.fault != fault || !key.starts_with(&self.keys) {
            return false;
        }
        let met = self.met.fetch_add(1, Ordering::SeqCst) + 1;
        let hits = |hit: u64| (hit < self.times).then_some(hit + 1);
        met.is_multiple_of(self.every)
            && self.hit.fetch_update(Ordering::SeqCst, Ordering::SeqCst, hits).is_ok()
    }
}

/// A running server; it ends when dropped.
pub struct S3s {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Dropped to end the server.
    end: Option<oneshot::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

struct Shared {
    buckets: Mutex<BTreeMap<String, Bucket>>,
    rules: Mutex<Vec<Arc<Rule>>>,
    /// Entries of a page of a listing.
    page: AtomicUsize,
    /// Seconds by which the clock is ahead.
    ahead: AtomicI64,
    requests: AtomicUsize,
    connections: AtomicUsize,
}

impl Shared {
    /// Whether what is asked of `key` is to go wrong so.
    fn meets(&self, fault: Fault, key: &str) -> bool {
        let rules: Vec<_> = self.rules.lock().unwrap().clone();
        rules.iter().any(|rule| rule.meets(fault, key))
    }

    fn now(&self) -> SystemTime {
        let ahead = self.ahead.load(Ordering::SeqCst);
        let by = Duration::from_secs(ahead.unsigned_abs());
        if ahead < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    }

    /// What is wrong with a request whatever it asks for.
    fn refusal(&self, request: &HttpRequest<Incoming>) -> Option<S3Error> {
        if let Some(signed) = request.headers().get("x-amz-date") {
            let signed = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", signed.to_str().unwrap()).unwrap();
            let signed = signed.to_datetime().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap();
            let now = jiff::Timestamp::try_from(self.now()).unwrap();
            if (now.as_second() - signed.timestamp().as_second()).abs() > TOLERATED {
                return Some(s3_error!(RequestTimeTooSkewed));
            }
        }
        if self.meets(Fault::Expired, "") {
            return Some(s3_error!(ExpiredToken));
        }
        if self.meets(Fault::Busy, "") {
            return Some(s3_error!(SlowDown));
        }
        self.meets(Fault::Failing, "").then(|| s3_error!(InternalError))
    }

    async fn answer(&self, service: &S3Service, request: HttpRequest<Incoming>) -> HttpResponse {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let mut answer = match self.refusal(&request) {
            Some(refusal) => refusal.to_http_response().unwrap(),
            None => service.call(request.map(Body::from)).await.unwrap(),
        };
        answer.headers_mut().insert(DATE, http_date(self.now()).parse().unwrap());
        answer
    }
}

impl S3s {
    /// A server without buckets. Any bucket that something is put into is there.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            buckets: Mutex::default(),
            rules: Mutex::default(),
            page: AtomicUsize::new(1000),
            ahead: AtomicI64::new(0),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let (end, ended) = oneshot::channel();
        let server = Arc::clone(&shared);
        // A runtime of its own: those of tests end with them, and may have stopped clocks.
        let keeper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, server) => {}
                    _ = ended => {}
                }
            });
        });
        S3s { address, shared, end: Some(end), keeper: Some(keeper) }
    }

    /// Its URL, without a slash at the end.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Writes an object.
    pub fn put(&self, bucket: &str, key: &str, bytes: &[u8]) {
        let mut buckets = self.shared.buckets.lock().unwrap();
        buckets.entry(bucket.to_owned()).or_default().put(key, bytes.to_vec().into(), Default::default());
    }

    /// Deletes an object.
    pub fn remove(&self, bucket: &str, key: &str) {
        self.shared.buckets.lock().unwrap().get_mut(bucket).unwrap().remove(key);
    }

    /// Makes an empty bucket.
    pub fn create(&self, bucket: &str) {
        self.shared.buckets.lock().unwrap().entry(bucket.to_owned()).or_default();
    }

    /// Lists so many entries in a page from now on.
    pub fn set_page(&self, entries: usize) {
        self.shared.page.store(entries, Ordering::SeqCst);
    }

    /// Puts its clock ahead by so many seconds.
    pub fn set_ahead(&self, seconds: i64) {
        self.shared.ahead.store(seconds, Ordering::SeqCst);
    }

    /// Lets something go wrong from now on.
    pub fn add(&self, rule: Rule) -> Arc<Rule> {
        let rule = Arc::new(rule);
        self.shared.rules.lock().unwrap().push(Arc::clone(&rule));
        rule
    }

    /// Nothing goes wrong from now on.
    pub fn heal(&self) {
        self.shared.rules.lock().unwrap().clear();
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for S3s {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(keeper) = self.keeper.take() {
            keeper.join().unwrap();
        }
    }
}

/// What knows S3: signatures of one key are checked, their time by [`Shared::refusal`].
fn service(shared: &Arc<Shared>) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Answers(Arc::clone(shared)));
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let mut config = S3Config::default();
    config.presigned_url_max_skew_time_secs = u32::MAX;
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.build()
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let service = service(&shared);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let (service, shared) = (service.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let answer =
                service_fn(async |request| Ok::<_, Infallible>(shared.answer(&service, request).await));
            // A client may go whenever it likes.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
