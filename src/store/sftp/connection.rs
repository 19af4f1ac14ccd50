//! One conversation with an SFTP server: many requests under way at once, replies in any order.
//!
//! A request keeps its slot until its reply has come, also when nobody waits for it any more, so a server never holds
//! more than [`SLOTS`] of ours and never sends more than so many packets of bounded length. What breaks the conversation
//! (its program ends, a packet is none, silence) fails all that is under way; the store then begins another.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::packet::{self, Reply, Request};
use super::said;
use crate::error::{Again, Error, Kind, Result};
use crate::store::program::{Line, Program, Words};

/// Requests under way at once.
const SLOTS: usize = 128;

/// Requests whose answer nobody waits for (handles that are closed); a server that answers none of them is none.
const UNANSWERED: usize = 64 << 10;

/// For a login, and for the server to start.
const LOGIN: Duration = Duration::from_secs(20);

/// A server that owes answers and sends nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(20);

/// Every server takes reads of this length.
const READ: u32 = 32 << 10;

/// Longer ones do not make it faster.
const LONGEST_READ: u32 = 255 << 10;

/// A live or broken conversation.
pub(super) struct Connection {
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    words: Words,
    /// How long a read may be.
    pub(super) read: u32,
    /// Reader and writer, which end with the connection.
    _tasks: JoinSet<()>,
}

/// What requests and the two tasks share.
struct Shared {
    outbox: mpsc::UnboundedSender<Bytes>,
    waiting: Mutex<Waiting>,
    broken: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    last: u32,
    requests: HashMap<u32, Asked>,
    /// Since when answers are owed and none came.
    since: Option<Instant>,
    /// What ended the conversation, unless its program did, which tells by itself.
    fault: Option<&'static str>,
}

/// A request that has no reply yet.
struct Asked {
    answer: Option<oneshot::Sender<Reply>>,
    _slot: Option<OwnedSemaphorePermit>,
}

/// An open file or directory, which is closed when it is dropped.
pub(super) struct Handle {
    shared: Arc<Shared>,
    handle: Bytes,
}

impl Connection {
    /// Starts `program` and greets the server behind it. Errors: what the program said.
    pub(super) async fn open(program: &Program) -> Result<Self> {
        let (line, words) = program.start()?;
        match timeout(LOGIN, greet(line)).await {
            Ok(Ok((came, from, into, has_limits))) => {
                let mut connection = Self::run(came, from, into, words);
                if has_limits && let Reply::Extended(limits) = connection.call(Request::Limits).await? {
                    let longest =
                        packet::longest_read(limits).and_then(|longest| u32::try_from(longest).ok());
                    // Whoever allows less answers short; believed, it would be asked in pieces without end.
                    connection.read = longest.unwrap_or(READ).clamp(READ, LONGEST_READ);
                }
                Ok(connection)
            }
            Ok(Err(otherwise)) => Err(words.explain(&otherwise, said::classify).await),
            Err(_) => {
                let says = format!("no connection within {} s", LOGIN.as_secs());
                Err(Error::new(Kind::TimedOut, says).worth(Again::Soon))
            }
        }
    }

    fn run(came: BytesMut, from: ReadHalf<Line>, into: WriteHalf<Line>, words: Words) -> Self {
        let (outbox, requests) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { outbox, waiting: Mutex::default(), broken: AtomicBool::new(false) });
        let mut tasks = JoinSet::new();
        let reader = Arc::clone(&shared);
        tasks.spawn(async move {
            let fault = receive(&reader, came, from).await;
            reader.end(fault);
        });
        let writer = Arc::clone(&shared);
        tasks.spawn(async move {
            if send(requests, into).await.is_err() {
                writer.end(None);
            }
        });
        let slots = Arc::new(Semaphore::new(SLOTS));
        Connection { shared, slots, words, read: READ, _tasks: tasks }
    }

    /// Whether another has to take its place.
    pub(super) fn is_broken(&self) -> bool {
        self.shared.broken.load(Ordering::Acquire)
    }

    /// What the server replies. Errors: the connection is broken.
    pub(super) async fn call(&self, request: Request<'_>) -> Result<Reply> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let (answer, reply) = oneshot::channel();
        self.shared.ask(request, Asked { answer: Some(answer), _slot: slot.ok() });
        match reply.await {
            Ok(reply) => Ok(reply),
            Err(_) => Err(self.why_broken().await),
        }
    }

    async fn why_broken(&self) -> Error {
        let fault = self.shared.waiting().fault;
        match fault {
            Some(fault) => Error::new(Kind::Unavailable, fault).worth(Again::Soon),
            None => self.words.explain("the connection broke off", said::classify).await,
        }
    }

    /// Opens a file or directory. Errors: a status instead, by way of `refused`.
    pub(super) async fn opened(
        &self,
        request: Request<'_>,
        refused: impl AsyncFnOnce(Reply) -> Error,
    ) -> Result<Handle> {
        match self.call(request).await? {
            Reply::Handle(handle) => Ok(Handle { shared: Arc::clone(&self.shared), handle }),
            other => Err(refused(other).await),
        }
    }
}

impl Handle {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.handle
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close(&self.handle);
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // No panic is possible while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request, unless the conversation is over: then its waiter hears so.
    fn ask(&self, request: Request<'_>, asked: Asked) {
        let mut waiting = self.waiting();
        if self.broken.load(Ordering::Acquire) {
            return;
        }
        if waiting.requests.len() > UNANSWERED {
            drop(waiting);
            return self.end(Some("the server leaves too many requests unanswered"));
        }
        let mut id = waiting.last.wrapping_add(1);
        while waiting.requests.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        waiting.last = id;
        waiting.since.get_or_insert_with(Instant::now);
        waiting.requests.insert(id, asked);
        // Sent under the lock, so that `end` finds every request that was. Nobody receives only when it is over.
        let _ = self.outbox.send(request.packet(id));
    }

    fn close(&self, handle: &[u8]) {
        self.ask(Request::Close(handle), Asked { answer: None, _slot: None });
    }

    /// Hands a reply to who waits for it. False when nothing was asked under this number.
    fn answer(&self, id: u32, reply: Reply) -> bool {
        let mut waiting = self.waiting();
        let Some(asked) = waiting.requests.remove(&id) else { return false };
        waiting.since = (!waiting.requests.is_empty()).then(Instant::now);
        drop(waiting);
        // Who asked may be gone; what was opened for him has to be closed.
        if let Some(answer) = asked.answer
            && let Err(Reply::Handle(handle)) = answer.send(reply)
        {
            self.close(&handle);
        }
        true
    }

    /// Whether answers are owed and nothing of them came for too long.
    fn is_stuck(&self) -> bool {
        self.waiting().since.is_some_and(|since| since.elapsed() >= SILENCE)
    }

    /// Ends the conversation: whoever waits hears so.
    fn end(&self, fault: Option<&'static str>) {
        let mut waiting = self.waiting();
        if !self.broken.swap(true, Ordering::AcqRel) {
            waiting.fault = fault;
        }
        waiting.requests.clear();
        waiting.since = None;
    }
}

/// Says which version is spoken and hears which. Answers both halves of the line, what came beyond the greeting, and
/// whether the server tells limits; or what is wrong.
async fn greet(line: Line) -> std::result::Result<(BytesMut, ReadHalf<Line>, WriteHalf<Line>, bool), String> {
    let (mut from, mut into) = tokio::io::split(line);
    let broken = |e: io::Error| format!("the connection broke off: {e}");
    into.write_all(&packet::hello()).await.map_err(broken)?;
    into.flush().await.map_err(broken)?;
    let mut came = BytesMut::with_capacity(16 << 10);
    loop {
        let no_sftp =
            || "what answers does not speak SFTP; does a start-up file of the login print something?";
        match packet::split(&mut came).map_err(|_| no_sftp())? {
            Some(first) => {
                let (ours, has_limits) = packet::welcome(first).ok_or_else(no_sftp)?;
                if !ours {
                    return Err("the server does not speak version 3 of SFTP".to_owned());
                }
                return Ok((came, from, into, has_limits));
            }
            None if from.read_buf(&mut came).await.map_err(broken)? == 0 => {
                return Err("the connection was closed".to_owned());
            }
            None => {}
        }
    }
}

/// Sends requests until there are no more or they cannot be.
async fn send(mut requests: mpsc::UnboundedReceiver<Bytes>, mut into: WriteHalf<Line>) -> io::Result<()> {
    let mut batch = Vec::new();
    while requests.recv_many(&mut batch, SLOTS).await > 0 {
        into.write_all(&batch.concat()).await?;
        into.flush().await?;
        batch.clear();
    }
    Ok(())
}

/// Receives replies until the program ends, or something is wrong: then that.
async fn receive(shared: &Shared, mut came: BytesMut, mut from: ReadHalf<Line>) -> Option<&'static str> {
    loop {
        loop {
            match packet::split(&mut came) {
                Ok(Some(packet)) => {
                    let Some((id, reply)) = packet::reply(packet) else {
                        return Some("the server sent a malformed reply");
                    };
                    if !shared.answer(id, reply) {
                        return Some("the server answered what was not asked");
                    }
                }
                Ok(None) => break,
                Err(packet::TooLong) => return Some("the server sent a reply longer than any"),
            }
        }
        came.reserve(16 << 10);
        match timeout(SILENCE, from.read_buf(&mut came)).await {
            Ok(Ok(0) | Err(_)) => return None,
            Ok(Ok(_)) => {}
            Err(_) if shared.is_stuck() => return Some("the server fell silent"),
            Err(_) => {}
        }
    }
}
