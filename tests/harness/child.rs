//! Programs that a test starts, and that end with it whatever happens.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A running program. It is killed when this is dropped, and when the thread of the test ends in any other way.
pub struct Server {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts it; what it says on stderr is kept.
    pub fn start(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", program])
            .args(arguments)
            .envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        listen(child.stderr.take().unwrap(), said.clone());
        Server { child, said }
    }

    /// What `find` finds in a line on stderr, as soon as there is one.
    pub fn wait_for_word<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> T {
        self.wait(|said| said.iter().find_map(|line| find(line)))
    }

    /// What `look` answers, as soon as it does.
    pub fn wait<T>(&mut self, look: impl Fn(&[String]) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(found) = look(&self.said.lock().unwrap()) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{ended:?}: {:?}",
                self.said.lock().unwrap()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it now, and what it started.
    pub fn stop(&mut self) {
        let below = descendants(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in below {
            // It may have ended with its parent.
            let _ = Command::new("kill").arg("-KILL").arg(pid.to_string()).stderr(Stdio::null()).status();
        }
    }

    /// Its number, and those of what it started.
    pub fn processes(&self) -> Vec<u32> {
        let mut all = descendants(self.child.id());
        all.push(self.child.id());
        all
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn listen(stderr: ChildStderr, said: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            said.lock().unwrap().push(line);
        }
    });
}

/// The processes that `pid` started, and those that they did.
pub fn descendants(pid: u32) -> Vec<u32> {
    let parent = |pid: &u32| -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    let all: Vec<u32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let parents: Vec<_> = all.iter().filter_map(|pid| Some((*pid, parent(pid)?))).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(above) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Runs a command that must succeed; answers what it printed.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a program that a test needs is there; says so when it is not.
pub fn has(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = path.split(':').any(|dir| std::path::Path::new(dir).join(program).is_file());
    if !found {
        eprintln!("skipped: {program} is not installed here");
    }
    found
}
