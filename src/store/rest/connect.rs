//! Connections to a REST server: TCP or a socket of this machine, with TLS or without, or a program's stdin and stdout.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::tls::{self, Trust};
use crate::error::{Again, Error, Kind, Result};
use crate::store::program::{Program, Words};
use crate::store::transfer;

/// What is sent and not acknowledged for so long breaks the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// Where a REST server listens.
pub enum Server {
    /// A host (and port, as in a URL).
    Web {
        /// `host` or `host:port`, IPv6 in brackets.
        authority: String,
        /// Whether TLS is spoken.
        tls: bool,
    },
    /// A socket of this machine.
    Unix {
        /// Where it is.
        socket: PathBuf,
        /// Whether TLS is spoken.
        tls: bool,
    },
    /// A program that speaks HTTP/2 on its stdin and stdout.
    Program {
        /// How it is called.
        program: Program,
        /// What its last words mean.
        classify: fn(&str) -> (Kind, Again),
    },
}

impl Server {
    /// What a URL of it begins with.
    pub(super) fn origin(&self) -> String {
        match self {
            Server::Web { authority, tls: true } => format!("https://{authority}"),
            Server::Web { authority, tls: false } => format!("http://{authority}"),
            Server::Unix { tls: true, .. } => "https://localhost".to_owned(),
            Server::Unix { .. } | Server::Program { .. } => "http://localhost".to_owned(),
        }
    }
}

/// Makes connections to one server.
#[derive(Clone)]
pub(super) struct Connector(Arc<Inner>);

struct Inner {
    dial: Dial,
    tls: Option<Arc<ClientConfig>>,
}

enum Dial {
    Tcp(HttpConnector),
    Unix(PathBuf),
    Program { program: Program, classify: fn(&str) -> (Kind, Again), words: Mutex<Option<Words>> },
}

impl Connector {
    pub(super) fn new(server: Server, trust: &Trust) -> Result<Self> {
        let (dial, has_tls) = match server {
            Server::Web { tls, .. } => {
                let mut tcp = HttpConnector::new();
                tcp.enforce_http(false);
                tcp.set_nodelay(true);
                tcp.set_keepalive(Some(UNACKNOWLEDGED));
                tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
                tcp.set_connect_timeout(Some(transfer::CONNECT));
                (Dial::Tcp(tcp), tls)
            }
            Server::Unix { socket, tls } => (Dial::Unix(socket), tls),
            Server::Program { program, classify } => {
                (Dial::Program { program, classify, words: Mutex::default() }, false)
            }
        };
        let tls = has_tls.then(|| tls::client(trust)).transpose()?;
        Ok(Connector(Arc::new(Inner { dial, tls })))
    }

    /// Whether it is a program, which speaks HTTP/2.
    pub(super) fn is_program(&self) -> bool {
        matches!(self.0.dial, Dial::Program { .. })
    }

    /// Why the connection broke, if the program behind it can say.
    pub(super) async fn explain(&self, otherwise: &str) -> Option<Error> {
        let Dial::Program { classify, words, .. } = &self.0.dial else { return None };
        let words = words.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(words?.explain(otherwise, *classify).await)
    }
}

impl Inner {
    async fn connect(&self, to: Uri) -> io::Result<Wire> {
        let host = to.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let raw: Box<dyn Raw> = match &self.dial {
            Dial::Tcp(tcp) => {
                let dialled = tcp.clone().call(to).await;
                Box::new(dialled.map_err(io::Error::other)?.into_inner())
            }
            Dial::Unix(socket) => Box::new(UnixStream::connect(socket).await?),
            Dial::Program { program, words, .. } => {
                let (line, said) = program.start().map_err(io::Error::other)?;
                *words.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
                Box::new(line)
            }
        };
        let Some(tls) = &self.tls else { return Ok(Wire(TokioIo::new(raw))) };
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let secured = TlsConnector::from(Arc::clone(tls)).connect(name, raw).await?;
        Ok(Wire(TokioIo::new(Box::new(secured))))
    }
}

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let late = || {
                let says = format!("no connection within {} s", (2 * transfer::CONNECT).as_secs());
                io::Error::new(io::ErrorKind::TimedOut, says)
            };
            // Names are looked up and TLS is begun besides.
            tokio::time::timeout(2 * transfer::CONNECT, inner.connect(to)).await.map_err(|_| late())?
        })
    }
}

/// What carries bytes.
trait Raw: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Raw for T {}

/// A connection of any sort.
pub(super) struct Wire(TokioIo<Box<dyn Raw>>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
