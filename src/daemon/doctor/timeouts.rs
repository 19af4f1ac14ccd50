//! The kernel's own patience with file systems in user space.

use std::time::Duration;

use super::Finding;
use super::machine::Machine;

/// A limit that the administrator set below ours: the kernel ends the whole mount when one answer takes longer.
pub(super) fn finding(machine: &Machine, timeout: Option<Duration>) -> Option<Finding> {
    const LIMITS: [&str; 2] = ["max_request_timeout", "default_request_timeout"];
    let timeout = timeout?;
    let limit = |name: &'static str| {
        let seconds: u64 = machine.text(format!("/proc/sys/fs/fuse/{name}"))?.trim().parse().ok()?;
        (seconds > 0).then_some((name, Duration::from_secs(seconds)))
    };
    let (name, limit) = LIMITS.into_iter().filter_map(limit).min_by_key(|(_, limit)| *limit)?;
    if limit > timeout {
        return None;
    }
    Some(Finding::problem(
        "request-timeout",
        format!(
            "fs.fuse.{name} is {} s and `timeout` {} s: the kernel would end the mount before a slow answer comes",
            limit.as_secs(),
            timeout.as_secs()
        ),
        format!(
            "as root: sysctl fs.fuse.{name}={}; or a smaller timeout",
            timeout.as_secs().saturating_mul(2)
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::Fixture;
    use super::*;

    #[test]
    fn a_kernel_that_waits_less_than_we_do_is_told_of() {
        let found = |own: &str, usual: &str, timeout: Option<u64>| {
            let fixture = Fixture::new(true)
                .with("/proc/sys/fs/fuse/max_request_timeout", own)
                .with("/proc/sys/fs/fuse/default_request_timeout", usual);
            finding(&fixture.machine(), timeout.map(Duration::from_secs))
        };
        assert_eq!(found("0\n", "0\n", Some(60)), None);
        assert_eq!(found("0\n", "90\n", Some(60)), None);
        assert_eq!(found("20\n", "0\n", None), None);
        let problem = found("20\n", "30\n", Some(60)).unwrap();
        assert!(problem.says.starts_with("fs.fuse.max_request_timeout is 20 s"), "{problem:?}");
        assert!(problem.remedy.unwrap().contains("sysctl fs.fuse.max_request_timeout=120"));
        assert!(found("60", "0", Some(60)).is_some());
        assert_eq!(finding(&Fixture::new(true).machine(), Some(Duration::from_secs(60))), None);
    }
}
