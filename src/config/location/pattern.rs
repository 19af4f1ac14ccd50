//! Many repositories under one location: a spelling with `*` in it.
//!
//! A `*` stands for any text within one name, but not for the dot that a hidden name begins with. What lies above the
//! first name with a star is listed; below it, each name is matched level by level.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Location, Rclone, Rest, S3, Sftp};

/// A location whose names hold stars.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// What lies above the first name with a star. Of S3 with a star in the bucket's name it has an empty bucket: all
    /// buckets of the endpoint.
    pub fixed: Location,
    /// The names below, the first with a star.
    pub levels: Vec<Glob>,
}

/// One name of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Glob {
    /// The text around the stars; a name without one is one piece.
    pieces: Vec<String>,
}

impl Glob {
    fn new(name: &str) -> Self {
        Glob { pieces: name.split('*').map(str::to_owned).collect() }
    }

    /// The name, when it holds no star.
    pub fn plain(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// What each star stands for in `name`, each taking as little as it can; `None` when it does not match.
    pub fn matched<'a>(&self, name: &'a str) -> Option<Vec<&'a str>> {
        let [first, between @ .., last] = self.pieces.as_slice() else {
            return (self.plain()? == name).then(Vec::new);
        };
        if first.is_empty() && name.starts_with('.') {
            return None;
        }
        let mut rest = name.strip_prefix(first.as_str())?.strip_suffix(last.as_str())?;
        let mut stars = Vec::new();
        for piece in between {
            let (star, behind) = rest.split_once(piece.as_str())?;
            stars.push(star);
            rest = behind;
        }
        stars.push(rest);
        Some(stars)
    }
}

impl Pattern {
    /// The pattern that `location` is; `None` when it names one place.
    pub fn of(location: &Location) -> Option<Pattern> {
        let (above, path) = divided(location)?;
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let first = names.iter().position(|name| name.contains('*'))?;
        let (fixed, levels) = names.split_at_checked(first)?;
        let fixed = joined(location, &above, fixed);
        Some(Pattern { fixed, levels: levels.iter().map(|name| Glob::new(name)).collect() })
    }

    /// How many stars there are.
    pub fn stars(&self) -> usize {
        self.levels.iter().map(|name| name.pieces.len().saturating_sub(1)).sum()
    }

    /// The location of what is called `names`, level by level.
    pub fn at(&self, names: &[&str]) -> Location {
        let (above, path) = divided(&self.fixed).unwrap_or_default();
        let fixed = path.split('/').filter(|name| !name.is_empty());
        let all: Vec<&str> = fixed.chain(names.iter().copied()).collect();
        joined(&self.fixed, &above, &all)
    }
}

/// What stands before the names of a location's path, and the path. `None` where it is no text.
fn divided(location: &Location) -> Option<(String, String)> {
    let slash = |path: &str| if path.starts_with('/') { "/".to_owned() } else { String::new() };
    Some(match location {
        Location::Local(path) => ("/".to_owned(), path.to_str()?.to_owned()),
        Location::S3(S3 { bucket, prefix, .. }) => (String::new(), format!("{bucket}/{prefix}")),
        Location::Rest(Rest { path, .. }) => ("/".to_owned(), path.clone()),
        Location::Sftp(Sftp { path, .. }) => (slash(path), path.clone()),
        Location::Rclone(Rclone { remote }) => {
            let (remote, path) = remote.rsplit_once(':')?;
            (format!("{remote}:{}", slash(path)), path.to_owned())
        }
        Location::Zfs(dataset) => (String::new(), dataset.clone()),
    })
}

/// `like` with another path.
fn joined(like: &Location, above: &str, names: &[&str]) -> Location {
    let path = format!("{above}{}", names.join("/"));
    match like.clone() {
        Location::Local(_) => Location::Local(PathBuf::from(path)),
        Location::S3(s3) => {
            let (bucket, prefix) = path.split_once('/').unwrap_or((&path, ""));
            Location::S3(S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned(), ..s3 })
        }
        Location::Rest(rest) => {
            let end = if names.is_empty() { "" } else { "/" };
            Location::Rest(Rest { path: path + end, ..rest })
        }
        Location::Sftp(sftp) => Location::Sftp(Sftp { path, ..sftp }),
        Location::Rclone(_) => Location::Rclone(Rclone { remote: path }),
        Location::Zfs(_) => Location::Zfs(path),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_of_one_name() {
        let stars = |pattern: &str, name: &str| Glob::new(pattern).matched(name).map(|stars| stars.join("|"));
        for (pattern, name, found) in [
            ("*", "a", Some("a")),
            ("cback-*", "cback-jdoe", Some("jdoe")),
            ("cback-*", "cback-", Some("")),
            ("cback-*", "other-jdoe", None),
            ("*-restic", "a-b-restic", Some("a-b")),
            ("*-*", "a-b-c", Some("a|b-c")),
            ("a*b*c", "axbyc", Some("x|y")),
            ("a*b*c", "axyc", None),
            ("aa*aa", "aaa", None),
            ("*", ".hidden", None),
            (".*", ".hidden", Some("hidden")),
            ("plain", "plain", Some("")),
            ("plain", "other", None),
        ] {
            assert_eq!(stars(pattern, name).as_deref(), found, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_of_every_kind_of_place_lead_to_their_members() {
        for (spelled, fixed, names, member) in [
            ("/srv/restic/*", "/srv/restic", &["a"][..], "/srv/restic/a"),
            ("/*/restic-*", "/", &["x", "restic-y"], "/x/restic-y"),
            ("s3:https://h.x/b/cback-*", "s3:https://h.x/b", &["cback-1"], "s3:https://h.x/b/cback-1"),
            ("s3:https://h.x/cback-*", "s3:https://h.x/", &["cback-1"], "s3:https://h.x/cback-1"),
            ("s3:https://h.x/cback-*/r", "s3:https://h.x/", &["cback-1", "r"], "s3:https://h.x/cback-1/r"),
            ("sftp:u@h:/srv/*", "sftp:u@h:/srv", &["a"], "sftp:u@h:/srv/a"),
            ("sftp:u@h:*", "sftp:u@h:", &["a"], "sftp:u@h:a"),
            ("rclone:r:a/*", "rclone:r:a", &["b"], "rclone:r:a/b"),
            ("rest:https://h.x/*/", "rest:https://h.x/", &["a"], "rest:https://h.x/a/"),
        ] {
            let pattern = Pattern::of(&read(spelled)).expect(spelled);
            assert_eq!(pattern.fixed.to_string(), fixed, "{spelled}");
            assert_eq!(pattern.at(names), read(member), "{spelled}");
            assert_eq!(pattern.levels.len(), names.len());
            assert!(pattern.levels[0].plain().is_none());
            assert_eq!(pattern.stars(), spelled.matches('*').count());
        }
        assert_eq!(Pattern::of(&read("/srv/restic")), None);
    }
}
