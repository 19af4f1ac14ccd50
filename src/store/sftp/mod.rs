//! A store in a directory behind SSH: the system's ssh makes the connection, and the SFTP in it is spoken here.
//!
//! One connection carries everything. A ranged read costs two round trips, one to open the file and one for all its
//! pieces, which are asked for together. A connection that broke is made anew by the next call; those who wait for one
//! that cannot be made share its error. What a server sends is believed as little as what a repository holds: packets,
//! handles and listings are bounded, and no memory is taken on its word.

mod connection;
mod packet;
mod said;
mod ssh;
mod walk;

pub use ssh::{Host, ssh};

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, join};
use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use self::connection::{Connection, Handle};
use self::packet::{Attributes, Reply, Request, status};
use super::key::{check_key, check_limit, check_range};
use super::meter::Meter;
use super::program::Program;
use super::{Level, ObjectInfo, ObjectStore, Pace, counted};
use crate::error::{Again, Error, Kind, Result};
use crate::observe::metrics;

/// Files open at once; servers allow a few hundred.
const FILES: usize = 64;

/// What one read has under way: others are not kept waiting behind more.
const WINDOW: u64 = 4 << 20;

/// A longer range is only asked for once the file is known to be that long.
const EAGER: u64 = 64 << 20;

/// Until something was measured: a server some countries away.
const GUESS: Pace = Pace { latency: Duration::from_millis(40), bandwidth: 50 << 20 };

/// A directory that an SFTP server shows.
///
/// Its futures must be awaited inside a tokio runtime.
pub struct Sftp {
    program: Program,
    root: String,
    name: String,
    link: Mutex<Link>,
    files: Semaphore,
    meter: Meter,
}

/// The connection there is, and how the last attempt at one failed.
#[derive(Default)]
struct Link {
    connection: Option<Arc<Connection>>,
    failed: Option<(Instant, Error)>,
}

impl Sftp {
    /// The store in the directory `root` (from the login's directory, unless absolute) of the server that `program`
    /// connects its stdin and stdout to, called `name` in messages. Connects when it is first asked for something.
    pub fn new(program: Program, root: impl Into<String>, name: impl Into<String>) -> Self {
        Sftp {
            program,
            root: root.into(),
            name: name.into(),
            link: Mutex::default(),
            files: Semaphore::new(FILES),
            meter: Meter::new(GUESS),
        }
    }

    /// The connection, made anew when it broke.
    async fn connection(&self) -> Result<Arc<Connection>> {
        let asked = Instant::now();
        let mut link = self.link.lock().await;
        if let Some(connection) = link.connection.as_ref().filter(|connection| !connection.is_broken()) {
            return Ok(Arc::clone(connection));
        }
        if let Some((when, error)) = &link.failed
            && *when >= asked
        {
            return Err(error.clone());
        }
        // The old one's program ends before another begins.
        link.connection = None;
        match Connection::open(&self.program).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                link.connection = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                link.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Where a key, or a prefix without its slash, lies on the server.
    fn path(&self, key: &str) -> String {
        match (self.root.as_str(), key) {
            ("", "") => ".".to_owned(),
            ("", key) => key.to_owned(),
            (root, "") => root.to_owned(),
            (root, key) => format!("{}/{key}", root.trim_end_matches('/')),
        }
    }

    /// The error of a reply that is not what was asked for. That something is absent can only be said while the
    /// store's own directory is there.
    async fn refused(&self, connection: &Connection, key: &str, reply: Reply) -> Error {
        let Reply::Status { code, message } = reply else {
            let says = format!("{key}: the server answered something else");
            return Error::new(Kind::Unavailable, says);
        };
        let (kind, again) = match code {
            status::NO_SUCH_FILE => return self.missing(connection, key).await,
            status::PERMISSION_DENIED => (Kind::Denied, Again::Never),
            status::UNSUPPORTED => (Kind::Unsupported, Again::Never),
            // Whatever failed on the server's side, from its disk to its limits.
            _ => (Kind::Unavailable, Again::Soon),
        };
        Error::new(kind, format!("{key}: the server answered: {message} ({code})")).worth(again)
    }

    async fn missing(&self, connection: &Connection, key: &str) -> Error {
        match connection.call(Request::Stat(&self.path(""))).await {
            Ok(Reply::Attributes(_)) => Error::new(Kind::NotFound, format!("{key}: no such file")),
            Ok(_) => Error::new(Kind::Unavailable, format!("{}: the directory cannot be read", self.name)),
            Err(error) => error,
        }
    }

    /// What a path leads to, links followed.
    async fn attributes(
        &self,
        connection: &Connection,
        key: &str,
        request: Request<'_>,
    ) -> Result<Attributes> {
        match connection.call(request).await? {
            Reply::Attributes(attributes) => Ok(attributes),
            other => Err(self.refused(connection, key, other).await),
        }
    }

    /// Opens an object; the permit goes back when it is closed.
    async fn open<'a>(&'a self, connection: &Connection, key: &str) -> Result<(Handle, SemaphorePermit<'a>)> {
        let closed = |e| Error::caused_by(Kind::Internal, "waiting for a file", e);
        let permit = self.files.acquire().await.map_err(closed)?;
        let refused = async |reply| self.refused(connection, key, reply).await;
        let handle = connection.opened(Request::Open(&self.path(key)), refused).await?;
        Ok((handle, permit))
    }

    async fn read_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        check_key(key)?;
        let connection = self.connection().await?;
        let (file, _permit) = self.open(&connection, key).await?;
        let stat = self.attributes(&connection, key, Request::StatOpen(file.bytes()));
        let content = Content { store: self, connection: &connection, file: &file, key };
        if length > EAGER {
            check_range(key, size(key, &stat.await?)?, offset, length)?;
            return content.read(offset, length).await;
        }
        // Where the file ends earlier, its size tells so better than the failing read.
        let (attributes, bytes) = join(stat, content.read(offset, length)).await;
        check_range(key, size(key, &attributes?)?, offset, length)?;
        bytes
    }

    async fn read_whole(&self, key: &str, limit: u64) -> Result<Bytes> {
        check_key(key)?;
        let connection = self.connection().await?;
        let (file, _permit) = self.open(&connection, key).await?;
        let stat = self.attributes(&connection, key, Request::StatOpen(file.bytes()));
        let content = Content { store: self, connection: &connection, file: &file, key };
        // Small objects come with the answer to how long they are.
        let (attributes, first) = join(stat, content.begin(limit)).await;
        let size = size(key, &attributes?)?;
        check_limit(key, size, limit)?;
        let first = first?;
        match size.checked_sub(first.len() as u64) {
            Some(0) => Ok(first),
            Some(rest) => {
                let rest = content.read(first.len() as u64, rest).await?;
                Ok([first, rest].concat().into())
            }
            None => Err(content.cut_short()),
        }
    }
}

/// The size of a regular file.
fn size(key: &str, attributes: &Attributes) -> Result<u64> {
    if !attributes.is_file() {
        return Err(Error::new(Kind::NotFound, format!("{key}: not a regular file")));
    }
    attributes.size.ok_or_else(|| Error::new(Kind::Unsupported, format!("{key}: the server tells no sizes")))
}

/// An open file that is being read.
struct Content<'a> {
    store: &'a Sftp,
    connection: &'a Connection,
    file: &'a Handle,
    key: &'a str,
}

impl Content<'_> {
    /// The first piece, or less where the file ends or `limit` is reached.
    async fn begin(&self, limit: u64) -> Result<Bytes> {
        let length =
            u32::try_from(limit).map_or(self.connection.read, |limit| limit.min(self.connection.read));
        if length == 0 {
            return Ok(Bytes::new());
        }
        let asked = Instant::now();
        let piece = self.piece(0, length).await?;
        drop(self.store.meter.answered(asked.elapsed()));
        Ok(piece.unwrap_or_default())
    }

    /// Exactly `length` bytes from `offset`.
    async fn read(&self, offset: u64, length: u64) -> Result<Bytes> {
        let end = offset.checked_add(length).ok_or_else(|| self.cut_short())?;
        let too_large = || Error::new(Kind::System, format!("{}: no memory for {length} bytes", self.key));
        let wanted = usize::try_from(length).map_err(|_| too_large())?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(wanted.min(1 << 26)).map_err(|_| too_large())?;
        let step = u64::from(self.connection.read);
        let pieces =
            std::iter::successors(Some(offset), |at| at.checked_add(step)).take_while(|at| *at < end);
        let pieces = pieces.map(|at| self.whole_piece(at, u32::try_from((end - at).min(step)).unwrap_or(1)));
        let together = usize::try_from(WINDOW / step).unwrap_or(1).max(2);
        let mut pieces = stream::iter(pieces).buffered(together);
        let asked = Instant::now();
        let mut arrival = None;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            match &arrival {
                None => arrival = Some(self.store.meter.answered(asked.elapsed())),
                Some(arrival) => arrival.came(piece.len() as u64),
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }

    /// Exactly `length` bytes from `offset`, however short the server's answers.
    async fn whole_piece(&self, offset: u64, length: u32) -> Result<Bytes> {
        let came = self.piece(offset, length).await?.ok_or_else(|| self.cut_short())?;
        if came.len() as u64 == u64::from(length) {
            return Ok(came);
        }
        let mut came = BytesMut::from(came);
        while let Some(left) =
            length.checked_sub(u32::try_from(came.len()).unwrap_or(length)).filter(|left| *left > 0)
        {
            let next = self.piece(offset + came.len() as u64, left).await?;
            came.extend_from_slice(&next.ok_or_else(|| self.cut_short())?);
        }
        Ok(came.freeze())
    }

    /// Some bytes from `offset`, `length` at most; nothing at the end.
    async fn piece(&self, offset: u64, length: u32) -> Result<Option<Bytes>> {
        let request = Request::Read { handle: self.file.bytes(), offset, length };
        match self.connection.call(request).await? {
            Reply::Data(data) if data.len() as u64 > u64::from(length) => {
                let says = format!("{}: the server sent more than was asked for", self.key);
                Err(Error::new(Kind::Corrupt, says).worth(Again::Soon))
            }
            Reply::Data(data) => Ok(Some(data).filter(|data| !data.is_empty())),
            Reply::Status { code: status::END, .. } => Ok(None),
            other => Err(self.store.refused(self.connection, self.key, other).await),
        }
    }

    fn cut_short(&self) -> Error {
        Error::new(Kind::Corrupt, format!("{}: cut short while it was read", self.key))
    }
}

impl ObjectStore for Sftp {
    fn name(&self) -> &str {
        &self.name
    }

    fn pace(&self) -> Pace {
        self.meter.pace()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>>> {
        metrics::STORE_LISTS.add(1);
        walk::list(self, prefix).boxed()
    }

    fn list_level<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Level>> {
        metrics::STORE_LISTS.add(1);
        walk::level(self, prefix).boxed()
    }

    fn newest<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<SystemTime>>> {
        metrics::STORE_LISTS.add(1);
        walk::newest(self, prefix).boxed()
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectInfo>> {
        async move {
            check_key(key)?;
            let connection = self.connection().await?;
            let asked = Instant::now();
            let attributes = self.attributes(&connection, key, Request::Stat(&self.path(key))).await?;
            drop(self.meter.answered(asked.elapsed()));
            Ok(ObjectInfo { key: key.to_owned(), size: size(key, &attributes)? })
        }
        .boxed()
    }

    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.read_whole(key, limit).map(|read| read.map(counted)).boxed()
    }

    fn get_range<'a>(&'a self, key: &'a str, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.read_range(key, offset, length).map(|read| read.map(counted)).boxed()
    }
}
