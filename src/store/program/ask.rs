//! A program that is asked once: it gets no input, prints its answer and ends.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;

use super::Program;
use crate::error::{Error, Kind, Result};

/// Of what it says on stderr so many bytes are heard.
const HEARD: u64 = 16 << 10;

/// How a program answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// It ended with 0.
    pub success: bool,
    /// What it printed, all of it.
    pub stdout: Vec<u8>,
    /// What it said on stderr, without the white space around it.
    pub stderr: String,
}

impl Program {
    /// Calls it with `more` arguments and waits for its end. Errors: `System` when it is not installed or cannot be
    /// started, `TimedOut` after `patience` (it is killed, with what it started), `Unavailable` when it prints more than
    /// `longest` bytes.
    pub async fn ask(&self, more: &[&OsStr], longest: u64, patience: Duration) -> Result<Answer> {
        let mut child = self.spawn(Stdio::null(), more)?;
        if let Ok(heard) = tokio::time::timeout(patience, hear(&mut child, longest)).await {
            return heard.map_err(|e| Error::io(self.title(), e).with_kind(Kind::Unavailable));
        }
        kill(&child);
        let says = format!("{}: no answer within {} s", self.title(), patience.as_secs());
        Err(Error::new(Kind::TimedOut, says))
    }
}

/// All that it says.
async fn hear(child: &mut Child, longest: u64) -> std::io::Result<Answer> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = tokio::try_join!(read(stdout, longest.saturating_add(1)), read(stderr, HEARD))?;
    if stdout.len() as u64 > longest {
        kill(child);
        return Err(std::io::Error::other(format!("printed more than {longest} bytes")));
    }
    let success = child.wait().await?.success();
    Ok(Answer { success, stdout, stderr: String::from_utf8_lossy(&stderr).trim().to_owned() })
}

async fn read(from: Option<impl AsyncRead + Unpin>, longest: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(longest).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Ends it with what it started: it leads a process group. Its end is not waited for, because a process that hangs in
/// the kernel has none.
fn kill(child: &Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group {
        // It may have ended by itself.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Program {
        Program { name: "sh".into(), arguments: vec!["-c".into(), script.into()], environment: path() }
    }

    fn path() -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        vec![("PATH".into(), "/usr/bin:/bin".into())]
    }

    #[tokio::test]
    async fn it_answers_with_what_it_printed_and_how_it_ended() {
        let script = "echo $0; echo \"$1\"; echo ' so it is ' >&2; exit $2";
        for (code, success) in [("0", true), ("3", false)] {
            let more = ["one".as_ref(), "a b".as_ref(), code.as_ref()];
            let answer = shell(script).ask(&more, 100, LONG).await.unwrap();
            assert_eq!(answer, Answer { success, stdout: b"one\na b\n".into(), stderr: "so it is".into() });
        }
    }

    #[tokio::test]
    async fn it_gets_no_input() {
        assert_eq!(shell("cat; echo end").ask(&[], 100, LONG).await.unwrap().stdout, b"end\n");
    }

    #[tokio::test]
    async fn what_is_too_long_is_no_answer() {
        assert!(shell("echo 123").ask(&[], 4, LONG).await.unwrap().success);
        let error = shell("yes").ask(&[], 4, LONG).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().contains("more than 4 bytes"), "{error}");
    }

    #[tokio::test]
    async fn one_that_hangs_is_given_up() {
        let error = shell("sleep 600").ask(&[], 100, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::TimedOut);
    }

    #[tokio::test]
    async fn it_is_killed_with_what_it_started() {
        let mut child = shell("sh -c 'echo $$; exec sleep 600'; :").spawn(Stdio::null(), &[]).unwrap();
        let mut pid = Vec::new();
        while !pid.ends_with(b"\n") {
            pid.push(child.stdout.as_mut().unwrap().read_u8().await.unwrap());
        }
        let stat = format!("/proc/{}/stat", String::from_utf8(pid).unwrap().trim());
        kill(&child);
        let alive = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z"));
        for _ in 0..1000 {
            if !alive() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{stat} is there");
    }
}
