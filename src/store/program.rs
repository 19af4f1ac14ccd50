//! Another program on whose stdin and stdout a store speaks: ssh, rclone. [`ask`] is for those that are asked once: zfs.
//!
//! It gets an environment of its own rather than this process's, leads a process group of its own, so that a Ctrl-C at
//! the terminal reaches it through us, and ends with the [`Line`]: its stdin closes even when this process is killed,
//! which is the end for both. What it says on stderr is kept, a few lines of it, for the error when the line breaks.

mod ask;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

pub use ask::Answer;

use crate::error::{Again, Error, Kind, Result};

/// So many of its last lines are told: ssh says first what it found and then what follows from it.
const LINES: usize = 2;

/// A longer line is cut.
const LONGEST: usize = 300;

/// How long a program whose line broke may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A program and how it is called.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name, found by `PATH`, or its path.
    pub name: OsString,
    /// Its arguments; no secrets, because every process of the machine can read them.
    pub arguments: Vec<OsString>,
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// A running program, to be read from and written to. It ends when this is dropped.
pub(super) struct Line {
    from: ChildStdout,
    to: ChildStdin,
    _child: Child,
}

/// What a program said last, also after its end.
#[derive(Clone)]
pub(super) struct Words {
    lines: Arc<Mutex<VecDeque<String>>>,
    ended: watch::Receiver<bool>,
}

impl Program {
    /// Starts it. Errors: `System` when it is not installed or cannot be started.
    pub(super) fn start(&self) -> Result<(Line, Words)> {
        let mut child = self.spawn(Stdio::piped(), &[])?;
        let (Some(to), Some(from), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Error::new(Kind::Internal, "a program was started without its pipes"));
        };
        Ok((Line { from, to, _child: child }, Words::of(stderr, self.title())))
    }

    /// Starts it with `more` arguments, reading its stdout and stderr.
    fn spawn(&self, stdin: Stdio, more: &[&OsStr]) -> Result<Child> {
        let mut command = Command::new(&self.name);
        command
            .args(&self.arguments)
            .args(more)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command.spawn().map_err(|e| {
            let remedy = match e.kind() {
                std::io::ErrorKind::NotFound => "is it installed and in PATH?",
                _ => "cannot be started",
            };
            Error::caused_by(Kind::System, format!("{}: {remedy}", self.title()), e)
        })
    }

    /// Its name in messages.
    pub(super) fn title(&self) -> String {
        self.name.display().to_string()
    }
}

impl Words {
    /// Listens on `stderr` as long as the program lives.
    fn of(mut stderr: ChildStderr, title: String) -> Self {
        let (end, ended) = watch::channel(false);
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let words = Words { lines: lines.clone(), ended };
        tokio::spawn(async move {
            let mut hearing = Hearing { lines, title, line: Vec::new() };
            let mut piece = [0; 1024];
            while let Ok(length @ 1..) = stderr.read(&mut piece).await {
                hearing.hear(piece.get(..length).unwrap_or_default());
            }
            hearing.end_line();
            end.send_replace(true);
        });
        words
    }

    /// The last lines of a program that ended, or that does so soon. `None` when it said nothing, or lives on: then what
    /// it said was about something else.
    pub(super) async fn last(&self) -> Option<String> {
        let mut ended = self.ended.clone();
        if tokio::time::timeout(LAST_WORDS, ended.wait_for(|ended| *ended)).await.is_err() {
            return None;
        }
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }

    /// The error of a line that broke: what the program said, or `otherwise`.
    pub(super) async fn explain(&self, otherwise: &str, classify: fn(&str) -> (Kind, Again)) -> Error {
        let said = self.last().await;
        let (kind, again) = said.as_deref().map_or((Kind::Unavailable, Again::Soon), classify);
        Error::new(kind, said.as_deref().unwrap_or(otherwise)).worth(again)
    }
}

/// Takes stderr apart.
struct Hearing {
    lines: Arc<Mutex<VecDeque<String>>>,
    title: String,
    line: Vec<u8>,
}

impl Hearing {
    fn hear(&mut self, piece: &[u8]) {
        for &byte in piece {
            match byte {
                b'\n' | b'\r' => self.end_line(),
                _ if self.line.len() < LONGEST => self.line.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        // ssh frames a warning in these.
        if line.trim_matches('@').is_empty() {
            return;
        }
        tracing::debug!("{}: {line}", self.title);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.from).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.to).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.to).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.to).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn shell(script: &str) -> Program {
        Program {
            name: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("TOLD".into(), "this".into())],
        }
    }

    #[tokio::test]
    async fn a_program_is_read_from_and_written_to() {
        let (mut line, words) = shell("read x; echo \"got $x\"; echo last >&2").start().unwrap();
        line.write_all(b"something\n").await.unwrap();
        let mut answer = String::new();
        line.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "got something\n");
        assert_eq!(words.last().await.unwrap(), "last");
    }

    #[tokio::test]
    async fn it_sees_the_environment_that_it_is_given_and_no_other() {
        // A shell adds what it makes up itself.
        let (mut line, _words) = shell("exec env").start().unwrap();
        let mut answer = String::new();
        line.read_to_string(&mut answer).await.unwrap();
        let made_up = ["PWD=", "SHLVL=", "_=", "OLDPWD="];
        let seen: Vec<_> = answer.lines().filter(|l| !made_up.iter().any(|m| l.starts_with(m))).collect();
        assert_eq!(seen, ["TOLD=this"]);
    }

    #[tokio::test]
    async fn it_ends_with_its_line() {
        let (line, words) = shell("echo $$ >&2; exec sleep 600").start().unwrap();
        let pid = loop {
            let said = words.lines.lock().unwrap().front().cloned();
            if let Some(pid) = said {
                break pid;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        drop(line);
        let mut ended = words.ended.clone();
        tokio::time::timeout(Duration::from_secs(20), ended.wait_for(|ended| *ended)).await.unwrap().unwrap();
        let alive = || std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "sleep\n");
        for _ in 0..1000 {
            if !alive() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{pid} lives");
    }

    #[tokio::test]
    async fn its_last_lines_are_kept_and_no_more_of_them() {
        let script = "printf 'first\\n@@@@@@\\n\\nsecond %01000d\\r\\n  third' 0 >&2";
        let (_line, words) = shell(script).start().unwrap();
        let said = words.last().await.unwrap();
        let expected = format!("second {:0>1$}; third", 0, LONGEST - "second ".len());
        assert_eq!(said, expected);
        let (_line, words) = shell("true").start().unwrap();
        assert_eq!(words.last().await, None);
    }

    #[tokio::test]
    async fn a_program_that_lives_on_has_no_last_words() {
        let (_line, words) = shell("echo notice >&2; exec sleep 600").start().unwrap();
        while words.lines.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::pause();
        assert_eq!(words.last().await, None);
    }

    #[tokio::test]
    async fn an_endless_line_takes_no_memory() {
        let mut hearing = Hearing { lines: Arc::default(), title: "test".into(), line: Vec::new() };
        for _ in 0..10_000 {
            hearing.hear(&[b'x'; 1000]);
        }
        assert!(hearing.line.capacity() <= 2 * LONGEST);
    }

    #[tokio::test]
    async fn what_is_not_installed_says_so() {
        let missing = Program { name: "no-such-program".into(), ..shell("") };
        let error = missing.start().err().unwrap();
        assert_eq!(error.kind(), Kind::System);
        assert!(error.to_string().starts_with("no-such-program: is it installed"), "{error}");
    }
}
