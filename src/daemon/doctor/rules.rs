//! What AppArmor's profile of fusermount3 allows: its rules for mounts, read as far as they tell where.

use regex::Regex;

/// Variables of AppArmor's that such rules use, as the distributions set them. `@{HOMEDIRS}` is put in as it is set.
const VARIABLES: &[(&str, &str)] = &[
    ("HOME", "{@{HOMEDIRS}*,/root}"),
    ("run", "{/run,/var/run}"),
    ("uid", "[0-9]*"),
    ("fuse_types", "{fuse,fuse.*,fuseblk,fusectl}"),
];

/// Deeper nests no variable.
const DEEPEST: usize = 4;

/// The flags with which fusermount3 mounts for us.
const FLAGS: [&str; 4] = ["ro", "nosuid", "nodev", "noatime"];

/// A rule that allows mounts.
pub(super) struct Rule {
    target: Option<Regex>,
}

impl Rule {
    /// Whether it lets fusermount3 mount at `mountpoint`, an absolute path.
    pub fn allows(&self, mountpoint: &str) -> bool {
        let directory = format!("{}/", mountpoint.trim_end_matches('/'));
        self.target.as_ref().is_none_or(|target| target.is_match(&directory))
    }
}

/// The rules of a profile that allow mounts of ours. `homes` are the directories in which homes lie, each ending in a slash.
pub(super) fn rules(profile: &str, homes: &[String]) -> Vec<Rule> {
    let lines = profile.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| rule(line.split(" #").next()?.trim(), homes)).collect()
}

/// `mount fstype=… options=(…) options in (…) SOURCE -> TARGET,`, of which each part may be missing.
fn rule(line: &str, homes: &[String]) -> Option<Rule> {
    let line = line.trim_start_matches("audit ").trim_start_matches("allow ");
    let rest = line.strip_suffix(',')?.strip_prefix("mount")?;
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let (conditions, target) = match rest.split_once("->") {
        Some((conditions, target)) => (conditions, Some(target.trim())),
        None => (rest, None),
    };
    if !type_is_ours(conditions, homes) || !flags_are_ours(conditions) {
        return None;
    }
    let target = match target {
        Some(target) => Some(pattern(target, homes)?),
        None => None,
    };
    Some(Rule { target })
}

fn type_is_ours(conditions: &str, homes: &[String]) -> bool {
    let said = conditions.split_whitespace().find_map(|word| word.strip_prefix("fstype="));
    said.is_none_or(|said| {
        let said = said.replace(['(', ')'], "");
        pattern(&said, homes).is_some_and(|types| types.is_match("fuse.backupfs"))
    })
}

/// `options=(…)` must be set and, unless `options in (…)` allows more, nothing else.
fn flags_are_ours(conditions: &str) -> bool {
    let list = |prefix: &str| -> Option<Vec<&str>> {
        let from = conditions.split_once(prefix)?.1.trim_start();
        let inside = match from.strip_prefix('(') {
            Some(inside) => inside.split(')').next()?,
            None => from.split_whitespace().next()?,
        };
        Some(inside.split([',', ' ']).filter(|word| !word.is_empty()).collect())
    };
    let (exact, within) = (list("options="), list("options in"));
    let has_all = exact.iter().flatten().all(|flag| FLAGS.contains(flag));
    let known = |flag: &&str| {
        let in_exact = exact.as_ref().is_some_and(|exact| exact.contains(flag));
        in_exact || within.as_ref().is_some_and(|within| within.contains(flag))
    };
    has_all && (exact.is_none() && within.is_none() || FLAGS.iter().all(known))
}

/// An AppArmor pattern as a regular expression: `*` and `?` stay within a name, `**` does not, `{a,b}` are alternatives.
fn pattern(text: &str, homes: &[String]) -> Option<Regex> {
    let mut expanded = text.trim_matches('"').to_owned();
    for _ in 0..DEEPEST {
        for (name, value) in VARIABLES {
            expanded = expanded.replace(&format!("@{{{name}}}"), value);
        }
        expanded = expanded.replace("@{HOMEDIRS}", &format!("{{{}}}", homes.join(",")));
    }
    if expanded.contains("@{") {
        return None;
    }
    let mut regex = String::from("^");
    let mut depth = 0usize;
    let mut chars = expanded.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => regex.push_str(".*"),
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '{' => {
                depth += 1;
                regex.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                regex.push(')');
            }
            ',' if depth > 0 => regex.push('|'),
            '[' | ']' | '-' => regex.push(c),
            c => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&format!("{regex}$")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shapes of rules as distributions ship them.
    const PROFILE: &str = "
profile fusermount3 /usr/bin/fusermount3 {
  capability sys_admin,
  # mount fstype=fuse -> /commented/**/,
  mount fstype=@{fuse_types} options=(nosuid,nodev) options in (ro,rw,noatime,noexec) -> @{HOME}/**/,
  mount fstype=@{fuse_types} options=(nosuid,nodev) options in (ro,rw,noatime) -> /mnt/{,**/},
  mount fstype=@{fuse_types} options=(nosuid,nodev) options in (ro,rw,noatime) -> @{run}/user/@{uid}/**/,
  mount fstype=@{fuse_types} options=(nosuid,nodev,ro) -> /cvmfs/**/,
  mount fstype=fuse.revokefs-fuse options=(nosuid,nodev,rw) revokefs-fuse -> /var/tmp/flatpak-cache-*/**/,
  mount fstype=@{fuse_types} options in (ro,rw,noatime,nosuid,nodev) -> @{unknown}/**/,
  umount /srv/**/,
  mountpoint /srv/**/,
}
";

    fn allowed(profile: &str, place: &str) -> bool {
        let homes = ["/home/".to_owned(), "/data/people/".to_owned()];
        rules(profile, &homes).iter().any(|rule| rule.allows(place))
    }

    #[test]
    fn places_are_allowed_as_the_profile_has_them() {
        for (place, is_allowed) in [
            ("/home/lab/backups", true),
            ("/data/people/lab/backups", true),
            ("/root/backups", true),
            ("/home/lab", false),
            ("/mnt", true),
            ("/mnt/backups", true),
            ("/mnt/a/b/", true),
            ("/run/user/1000/b", true),
            ("/run/user/x/b", false),
            ("/srv/backups", false),
            ("/commented/x", false),
            ("/cvmfs/x", false),
            ("/var/tmp/flatpak-cache-1/x", false),
            ("/mnt2", false),
        ] {
            assert_eq!(allowed(PROFILE, place), is_allowed, "{place}");
        }
    }

    #[test]
    fn what_a_rule_does_not_say_it_allows() {
        assert!(allowed("mount,", "/anywhere"));
        assert!(allowed("  allow mount fstype=fuse.* -> /srv/b/, # ours", "/srv/b"));
        assert!(allowed("mount options=(ro,nosuid,nodev,noatime) -> /srv/b/,", "/srv/b"));
        assert!(allowed(
            "mount fstype=(fuse.backupfs) options=(ro nosuid nodev noatime) -> \"/srv/b/\",",
            "/srv/b"
        ));
        assert!(!allowed("mount fstype=ext4 -> /srv/b/,", "/srv/b"));
        assert!(!allowed("mount options=(rw) -> /srv/b/,", "/srv/b"));
        assert!(!allowed("mount -> /srv/{b/,", "/srv/b"));
        assert!(!allowed("", "/srv/b"));
    }
}
