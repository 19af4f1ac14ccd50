//! An HTTP server in this process that gives the answers a test thinks up: for what a real server will not do.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    cut: Option<usize>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Answer { status, headers: Vec::new(), body: body.into(), cut: None }
    }

    /// An S3 error: a status, a code, and what else the XML holds.
    pub fn refused(status: u16, code: &str, more: &str) -> Self {
        let head = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
        Answer::new(
            status,
            format!("{head}<Error><Code>{code}</Code><Message>scripted</Message>{more}</Error>"),
        )
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sends only the first bytes of the body, and hangs up.
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }
}

/// A time as HTTP writes it.
pub fn http_date(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// A server; it ends when dropped.
pub struct Scripted {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    handler: Box<Handler>,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    ended: AtomicBool,
}

impl Scripted {
    /// A server that answers every request with what `handler` says.
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let server = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if server.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (server, stream) = (server.clone(), stream.unwrap());
                server.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || server.serve(stream));
            }
        });
        Scripted { address, shared }
    }

    /// Its URL, without a slash at the end.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes whoever waits for the next connection.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        // Who is silent for longer is gone.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        if reader.fill_buf().is_ok_and(|first| first.first().is_some_and(|byte| !byte.is_ascii_uppercase())) {
            // Not HTTP: somebody speaks TLS.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
            return;
        }
        while let Some(request) = read(&mut reader) {
            self.requests.lock().unwrap().push(request.clone());
            if !send(&mut stream, &request, &(self.handler)(&request)) {
                return;
            }
        }
    }
}

/// The next request of a connection; none at its end.
fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Some(Request { method, target, headers })
}

/// Sends an answer; false when the connection is to end with it.
fn send(stream: &mut TcpStream, request: &Request, answer: &Answer) -> bool {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    let body: &[u8] = if request.method == "HEAD" { &[] } else { &answer.body };
    let sent = &body[..answer.cut.unwrap_or(body.len()).min(body.len())];
    let written = stream.write_all((head + "\r\n").as_bytes()).and_then(|()| stream.write_all(sent));
    written.is_ok() && answer.cut.is_none()
}
