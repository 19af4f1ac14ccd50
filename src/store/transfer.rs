//! The waits of one request over a network, for stores that make them: until the answer begins, and while it comes.
//!
//! A server that says nothing, or almost nothing, is given up long before the deadline of whoever asked, so that there
//! is time for another attempt. A body that comes, however slowly, is not: see [`SLOWEST`].

use std::fmt::Display;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::key::check_limit;
use crate::error::{Again, Error, Kind, Result};

/// For a connection to stand, TLS included.
pub const CONNECT: Duration = Duration::from_secs(5);

/// From a request to the beginning of its answer (a status line and headers).
pub const FIRST_BYTE: Duration = Duration::from_secs(15);

/// Within a body, from one byte to the next.
pub const SILENCE: Duration = Duration::from_secs(10);

/// A body of which fewer bytes than this come within [`SLOWEST_FOR`] is given up: 1 KiB/s.
pub const SLOWEST: u64 = 30 << 10;

/// How long a body may be slower than [`SLOWEST`].
pub const SLOWEST_FOR: Duration = Duration::from_secs(30);

/// What `answer` gives, unless that does not begin within [`FIRST_BYTE`]: then `TimedOut`, worth another try. `what` is
/// the object and the store, for the message.
pub async fn begun<T>(what: impl Display, answer: impl Future<Output = Result<T>>) -> Result<T> {
    let late = || timed_out(format!("{what}: no answer within {} s", FIRST_BYTE.as_secs()));
    timeout(FIRST_BYTE, answer).await.unwrap_or_else(|_| Err(late()))
}

/// A body that has to be `length` bytes long. Errors, all worth another try: `Unavailable` when it ends or breaks off
/// earlier, `TimedOut` when it is too slow, `Corrupt` when it is longer.
pub async fn exactly<E>(
    what: impl Display,
    body: impl Stream<Item = std::result::Result<Bytes, E>>,
    length: u64,
) -> Result<Bytes>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let body = collect(&what, body, length).await?;
    match (body.len() as u64).cmp(&length) {
        std::cmp::Ordering::Equal => Ok(body),
        std::cmp::Ordering::Less => {
            let says = format!("{what}: the answer ended after {} of {length} bytes", body.len());
            Err(Error::new(Kind::Unavailable, says).worth(Again::Soon))
        }
        std::cmp::Ordering::Greater => {
            let says = format!("{what}: the answer is longer than the {length} bytes asked for");
            Err(Error::new(Kind::Corrupt, says).worth(Again::Soon))
        }
    }
}

/// A body whose length nobody told. Errors as of [`exactly`], and `Unsupported` when it is longer than `limit`.
pub async fn at_most<E>(
    what: impl Display,
    body: impl Stream<Item = std::result::Result<Bytes, E>>,
    limit: u64,
) -> Result<Bytes>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let body = collect(&what, body, limit).await?;
    check_limit(&what.to_string(), body.len() as u64, limit)?;
    Ok(body)
}

/// The bytes of a body; those beyond `enough` are not waited for.
async fn collect<E>(
    what: &impl Display,
    body: impl Stream<Item = std::result::Result<Bytes, E>>,
    enough: u64,
) -> Result<Bytes>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut body = std::pin::pin!(body);
    let mut collected = BytesMut::new();
    let mut pulse = Pulse::new();
    while collected.len() as u64 <= enough {
        let Some(part) = pulse.beat(what, body.next()).await? else { break };
        let broken = |e| Error::caused_by(Kind::Unavailable, format!("{what}: the answer broke off"), e);
        let part = part.map_err(|e| broken(e).worth(Again::Soon))?;
        if collected.is_empty() && part.len() as u64 == enough {
            // One part is the whole body, as small ones are: nothing to copy.
            collected = BytesMut::from(part);
        } else {
            collected.extend_from_slice(&part);
        }
        pulse.came(collected.len() as u64);
    }
    Ok(collected.freeze())
}

/// Whether a body comes fast enough.
struct Pulse {
    /// When the last count was, and how many bytes there were.
    at: Instant,
    counted: u64,
    came: u64,
}

impl Pulse {
    fn new() -> Self {
        Pulse { at: Instant::now(), counted: 0, came: 0 }
    }

    fn came(&mut self, altogether: u64) {
        self.came = altogether;
        let now = Instant::now();
        if now - self.at >= SLOWEST_FOR && altogether - self.counted >= SLOWEST {
            (self.at, self.counted) = (now, altogether);
        }
    }

    /// The next part, unless it does not come or too little came for too long.
    async fn beat<T>(&self, what: &impl Display, part: impl Future<Output = T>) -> Result<T> {
        let (silent, slow) = (Instant::now() + SILENCE, self.at + SLOWEST_FOR);
        let until = if self.came - self.counted < SLOWEST { silent.min(slow) } else { silent };
        timeout_at(until, part).await.map_err(|_| {
            let why = if until < silent { "too slow" } else { "nothing more came" };
            timed_out(format!("{what}: given up after {} bytes: {why}", self.came))
        })
    }
}

fn timed_out(says: String) -> Error {
    Error::new(Kind::TimedOut, says).worth(Again::Soon)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::io;

    use futures_util::stream::{self, iter};

    use super::*;

    type Part = std::result::Result<Bytes, io::Error>;

    fn parts(parts: &[&'static str]) -> impl Stream<Item = Part> {
        iter(parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect::<Vec<_>>())
    }

    /// So many parts of so many bytes, `pause` before each.
    fn dripping(count: usize, size: usize, pause: Duration) -> impl Stream<Item = Part> {
        stream::unfold(0, move |n| async move {
            tokio::time::sleep(pause).await;
            (n < count).then(|| (Ok(Bytes::from(vec![7; size])), n + 1))
        })
    }

    fn seen(result: Result<Bytes>) -> (Kind, Again) {
        let error = result.unwrap_err();
        (error.kind(), error.again())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_begin_is_given_up() {
        let error = begun("pack", pending::<Result<()>>()).await.unwrap_err();
        assert_eq!((error.kind(), error.again()), (Kind::TimedOut, Again::Soon));
        assert_eq!(begun("pack", ready(Ok(5))).await.unwrap(), 5);
        let denied = begun("pack", ready(Err::<(), _>(Error::new(Kind::Denied, "no")))).await.unwrap_err();
        assert_eq!((denied.kind(), denied.again()), (Kind::Denied, Again::Never));
    }

    #[tokio::test]
    async fn a_body_is_exactly_as_long_as_it_should_be_or_an_error() {
        for split in [&["abcdef"][..], &["abc", "", "def"], &["a", "bcdef"]] {
            assert_eq!(exactly("k", parts(split), 6).await.unwrap(), "abcdef");
        }
        assert_eq!(exactly("k", parts(&[]), 0).await.unwrap(), "");
        assert_eq!(seen(exactly("k", parts(&["abc"]), 6).await), (Kind::Unavailable, Again::Soon));
        assert_eq!(seen(exactly("k", parts(&["abc"]), 2).await), (Kind::Corrupt, Again::Soon));
        let broken = parts(&["abc"]).chain(iter([Err(io::Error::other("reset"))]));
        assert_eq!(seen(exactly("k", broken, 6).await), (Kind::Unavailable, Again::Soon));
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_is_bounded() {
        assert_eq!(at_most("k", parts(&["ab", "cd"]), 4).await.unwrap(), "abcd");
        assert_eq!(at_most("k", parts(&["ab"]), 4).await.unwrap(), "ab");
        assert_eq!(at_most("k", parts(&[]), 0).await.unwrap(), "");
        // What comes after too much is not even asked for.
        let endless = parts(&["ab", "cde"]).chain(stream::pending());
        assert_eq!(seen(at_most("k", endless, 4).await), (Kind::Unsupported, Again::Never));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_waited_for_and_a_stalled_one_is_not() {
        let second = Duration::from_secs(1);
        // A bit over 1 KiB/s, for minutes.
        let slow = exactly("k", dripping(300, 1100, second), 330_000).await.unwrap();
        assert_eq!(slow.len(), 330_000);
        let bursts = exactly("k", dripping(30, 11_000, 9 * second), 330_000).await.unwrap();
        assert_eq!(bursts.len(), 330_000);
        for (count, size, took) in [(0, 0, 10), (5, 1 << 20, 15), (50, 1 << 20, 60), (300, 1000, 30)] {
            let begun = Instant::now();
            let stalled = dripping(count, size, second).chain(stream::pending());
            assert_eq!(seen(exactly("k", stalled, 1 << 30).await), (Kind::TimedOut, Again::Soon));
            // The stream notices a second late that it has nothing more.
            assert!(begun.elapsed().as_secs().abs_diff(took) <= 1, "{count} x {size}: {:?}", begun.elapsed());
        }
    }
}
