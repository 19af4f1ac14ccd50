//! Whose a clone or a hold is: told by what is written at it, so that what a killed process left can be told from what
//! another one uses.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

/// Who makes clones: the boot of its machine, the space that its process's number counts in, that number, when the
/// process was started, and which of those in one process it is. Numbers are given again, all together are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    boot: String,
    space: String,
    pid: u32,
    started: String,
    number: u32,
}

/// How many there were in this process.
static OWNERS: AtomicU32 = AtomicU32::new(0);

impl Owner {
    /// Another of this process: what one holds no other lets go of. `None` where `/proc` does not tell.
    pub(super) fn this() -> Option<Self> {
        let pid = std::process::id();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let space = fs::read_link("/proc/self/ns/pid").ok()?;
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect();
        let number = OWNERS.fetch_add(1, Ordering::Relaxed);
        Some(Owner { boot, space: digits(space.to_str()?), pid, started: started(pid)?, number })
    }

    /// What is written at what it makes: letters, digits, dashes and colons.
    pub(super) fn text(&self) -> String {
        format!("{}:{}:{}:{}:{}", self.boot, self.space, self.pid, self.started, self.number)
    }

    /// Whether the process of which `text` was written is known to have ended. Earlier versions wrote no last number.
    pub(super) fn has_outlived(&self, text: &str) -> bool {
        let mut fields = text.split(':');
        let mut field = || fields.next();
        let (Some(boot), Some(space), Some(pid), Some(start)) = (field(), field(), field(), field()) else {
            return false;
        };
        if boot != self.boot {
            return true;
        }
        // Processes of another container cannot be seen.
        let Some(pid) = pid.parse().ok().filter(|_| space == self.space) else { return false };
        started(pid).is_none_or(|now| now != start)
    }
}

/// When a process was started, in ticks since the machine was; `None` when there is none.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold spaces and parentheses; this is field 22, the first after it field 3.
    let fields = stat.rsplit_once(") ")?.1;
    // One that has ended stays until its parent looks.
    if fields.starts_with('Z') {
        return None;
    }
    fields.split(' ').nth(19).map(str::to_owned)
}

#[cfg(test)]
impl Owner {
    /// One that has ended.
    pub(super) fn dead() -> Self {
        Owner { started: "1".to_owned(), ..Owner::this().unwrap() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lives_is_not_outlived() {
        let this = Owner::this().unwrap();
        assert!(!this.has_outlived(&this.text()));
        let earlier = this.text();
        assert!(!this.has_outlived(earlier.rsplit_once(':').unwrap().0), "as earlier versions wrote it");
        let other =
            |pid: u32, started: &str| Owner { pid, started: started.to_owned(), ..this.clone() }.text();
        assert!(this.has_outlived(&other(this.pid, "1")), "a number that was given again");
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let text = other(child.id(), &started(child.id()).unwrap());
        assert!(!this.has_outlived(&text));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(this.has_outlived(&text));
    }

    #[test]
    fn who_cannot_be_seen_is_believed_to_live_until_the_machine_is_started_anew() {
        let this = Owner::this().unwrap();
        let elsewhere = Owner { space: "1".to_owned(), started: "1".to_owned(), ..this.clone() };
        assert!(!this.has_outlived(&elsewhere.text()));
        let before = Owner { boot: "x".to_owned(), ..elsewhere };
        assert!(this.has_outlived(&before.text()));
        for nobody in ["", "a word", "a:b"] {
            assert!(!this.has_outlived(nobody), "{nobody}");
        }
        assert!(!this.has_outlived(&format!("{}:{}:nobody:1", this.boot, this.space)));
    }

    #[test]
    fn what_is_written_is_one_word() {
        let text = Owner::this().unwrap().text();
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-:".contains(&b)), "{text}");
    }
}
