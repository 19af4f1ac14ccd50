//! From a snapshot to the names of its sets: templates, then the ordered rename rules.

use regex::bytes::{Regex, RegexBuilder};

use super::name::{self, UNKNOWN, fit, holds_mark};
use super::options::Rename;
use crate::error::{Error, Kind, Result};
use crate::tree::Snapshot;

const DEFAULT: &str = "{host}@+{path}";

/// A template of set names, such as `{host}@+{path}`.
pub(super) struct Template {
    parts: Vec<Part>,
    /// Nothing was said, so that a name that is given goes before it.
    is_default: bool,
}

enum Part {
    Text(Vec<u8>),
    Host,
    User,
    Path,
    Tag,
    Member,
    /// What the snapshot's place says under this name.
    Given(String),
}

impl Template {
    /// Parses `text`, or takes the default; `given` are the names that it knows besides its own. Errors: `Usage`, saying
    /// what is wrong with which template.
    pub(super) fn parse(text: Option<&str>, given: &[String]) -> Result<Self> {
        let is_default = text.is_none();
        let text = text.unwrap_or(DEFAULT);
        let refuse = |why: &str| Err(Error::new(Kind::Usage, format!("set = {text:?}: {why}")));
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            parts.push(Part::Text(before.into()));
            let Some((key, tail)) = after.split_once('}') else { return refuse("a { without its }") };
            parts.push(match key {
                "host" => Part::Host,
                "user" => Part::User,
                "path" => Part::Path,
                "tag" => Part::Tag,
                "member" => Part::Member,
                other if given.iter().any(|known| known == other) => Part::Given(other.to_owned()),
                _ => return refuse(&format!("it knows {}", known(given))),
            });
            rest = tail;
        }
        parts.push(Part::Text(rest.into()));
        let texts = || parts.iter().filter_map(|p| if let Part::Text(t) = p { Some(t) } else { None });
        if texts().flatten().any(|b| matches!(b, b'/' | 0..=0x1F | 0x7F)) {
            return refuse("a name holds no / and no control characters");
        }
        if !texts().any(|t| holds_mark(t)) {
            return refuse(
                "the name of a set holds @+ (which keeps it apart from `current`, `at` and groups)",
            );
        }
        Ok(Template { parts, is_default })
    }

    /// The uncut names for one path of a snapshot: one, or one for each tag where the template says `{tag}`.
    pub(super) fn expand(&self, snapshot: &Snapshot, path: &[u8], member: &str) -> Vec<Vec<u8>> {
        if let Some(set) = snapshot.given.set.as_ref().filter(|_| self.is_default) {
            return vec![set.to_vec()];
        }
        if self.parts.iter().any(|part| matches!(part, Part::Tag)) && !snapshot.tags.is_empty() {
            return snapshot.tags.iter().map(|tag| self.fill(snapshot, path, member, tag)).collect();
        }
        vec![self.fill(snapshot, path, member, UNKNOWN)]
    }

    fn fill(&self, snapshot: &Snapshot, path: &[u8], member: &str, tag: &str) -> Vec<u8> {
        let bytes =
            |value: Option<&[u8]>| name::text(value.filter(|v| !v.is_empty()).unwrap_or(UNKNOWN.as_bytes()));
        let or_unknown = |value: Option<&str>| bytes(value.map(str::as_bytes));
        let given = |name: &str| {
            let part = snapshot.given.parts.iter().find(|(part, _)| **part == *name);
            bytes(part.map(|(_, value)| &**value))
        };
        let mut name = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => name.extend_from_slice(text),
                Part::Host => name.extend(or_unknown(snapshot.host.as_deref())),
                Part::User => name.extend(or_unknown(snapshot.user.as_deref())),
                Part::Path => name.extend(name::path(path)),
                Part::Tag => name.extend(or_unknown(Some(tag))),
                Part::Member => name.extend(or_unknown(Some(member))),
                Part::Given(part) => name.extend(given(part)),
            }
        }
        name
    }
}

/// What a template may say, for people.
fn known(given: &[String]) -> String {
    let own = ["host", "user", "path", "tag", "member"].into_iter();
    let given = given.iter().map(String::as_str).filter(|name| !own.clone().any(|own| own == *name));
    let names: Vec<String> = own.clone().chain(given).map(|name| format!("{{{name}}}")).collect();
    names.join(", ")
}

/// The rename rules of the configuration, in order.
pub(super) struct Renames {
    rules: Vec<(Rename, Regex)>,
}

impl Renames {
    /// Compiles the rules: over bytes, so that `.` is any byte (`(?u)` asks for characters). Errors: `Usage`.
    pub(super) fn new(rules: &[Rename]) -> Result<Self> {
        let compile = |rule: &Rename| match RegexBuilder::new(&rule.from).unicode(false).build() {
            Ok(regex) => Ok((rule.clone(), regex)),
            Err(error) => Err(Error::caused_by(Kind::Usage, format!("rename {:?}", rule.from), error)),
        };
        Ok(Renames { rules: rules.iter().map(compile).collect::<Result<_>>()? })
    }

    /// The name of a set that the template calls `name`, not longer than a name may be. Errors: `Usage`, naming the
    /// last rule that changed it, when what comes out is no name for a set.
    pub(super) fn apply(&self, name: Vec<u8>) -> Result<Vec<u8>> {
        let mut new = name;
        let mut last = None;
        for (rule, regex) in &self.rules {
            if regex.is_match(&new) {
                new = regex.replace_all(&new, rule.to.as_bytes()).into_owned();
                last = Some(rule);
            }
        }
        let why = match last {
            Some(_) if new.iter().any(|b| matches!(b, b'/' | 0..=0x1F | 0x7F)) => {
                "it holds / or control characters"
            }
            Some(_) if !holds_mark(&new) => "a set's name holds @+",
            _ => return Ok(fit(new)),
        };
        let rule = last.map(|rule| format!("rename {:?} to {:?}", rule.from, rule.to)).unwrap_or_default();
        let new = new.escape_ascii().to_string();
        Err(Error::new(Kind::Usage, format!("{rule} makes the name {new:?}: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::fake::{self, Describe};
    use crate::tree::Given;

    fn expand(template: &str, snapshot: &Snapshot) -> Vec<String> {
        let template = Template::parse(Some(template), &["n".to_owned()]).unwrap();
        let names = template.expand(snapshot, &snapshot.paths[0], "m/1");
        names.into_iter().map(|n| String::from_utf8(n).unwrap()).collect()
    }

    fn rules(rules: &[(&str, &str)]) -> Vec<Rename> {
        rules.iter().map(|(from, to)| Rename { from: (*from).into(), to: (*to).into() }).collect()
    }

    #[test]
    fn templates_stand_over_host_user_path_tag_and_member() {
        let snapshot = fake::snapshot("ab").host("db").user("bob").tags(&["x", "y%"]).paths(&["/srv/a+b"]);
        assert_eq!(expand(DEFAULT, &snapshot), ["db@+srv+a%2Bb"]);
        assert_eq!(expand("cernbox@+eos+{member}", &snapshot), ["cernbox@+eos+m%2F1"]);
        assert_eq!(expand("{user}.{host}@+{path}", &snapshot), ["bob.db@+srv+a%2Bb"]);
        assert_eq!(expand("{tag}@+{path}", &snapshot), ["x@+srv+a%2Bb", "y%25@+srv+a%2Bb"]);
    }

    #[test]
    fn a_set_is_called_as_it_is_given_unless_a_template_says_otherwise() {
        let parts = [("n".into(), b"7/\xff".as_slice().into())].into();
        let given = Given { set: Some(b"h@+a%+b".as_slice().into()), label: None, parts };
        let snapshot = fake::snapshot("ab").host("h").given(given);
        let default = Template::parse(None, &[]).unwrap();
        assert_eq!(default.expand(&snapshot, b"/a", "m"), [b"h@+a%+b"]);
        let template = Template::parse(Some("{host}@+no{n}"), &["n".to_owned()]).unwrap();
        assert_eq!(template.expand(&snapshot, b"/a", "m"), [b"h@+no7%2F\xff"]);
        assert_eq!(expand("{host}@+{n}", &fake::snapshot("ab").host("h")), ["h@+unknown"]);
        let refused = Template::parse(Some("{m}@+"), &["n".to_owned(), "host".to_owned()]).err().unwrap();
        assert!(
            refused.to_string().ends_with("it knows {host}, {user}, {path}, {tag}, {member}, {n}"),
            "{refused}"
        );
    }

    #[test]
    fn what_is_missing_is_unknown() {
        let bare = fake::snapshot("ab").paths(&["/"]);
        assert_eq!(expand("{host}-{user}-{tag}@+{path}", &bare), ["unknown-unknown-unknown@+"]);
        assert_eq!(expand(DEFAULT, &bare.clone().host("")), ["unknown@+"]);
    }

    #[test]
    fn bad_templates_are_refused_with_the_reason() {
        for (template, reason) in [
            ("{host", "without its }"),
            ("{hots}@+{path}", "it knows {host}"),
            ("{host}/@+{path}", "no /"),
            ("{host}-{path}", "holds @+"),
            ("current", "holds @+"),
            ("", "holds @+"),
        ] {
            let error = Template::parse(Some(template), &[]).err().unwrap();
            assert!(error.to_string().contains(reason), "{template}: {error}");
            assert_eq!(error.kind(), Kind::Usage);
        }
    }

    #[test]
    fn rename_rules_apply_in_order() {
        let renames = Renames::new(&rules(&[
            (r"^(.*)\.example\.org@\+", "$1@+"),
            (r"^db(?<n>[0-9])@\+srv", "database@+${n}"),
            ("unused", "x"),
        ]))
        .unwrap();
        assert_eq!(renames.apply(b"db1.example.org@+srv".to_vec()).unwrap(), b"database@+1");
        assert_eq!(renames.apply(b"web@+srv".to_vec()).unwrap(), b"web@+srv");
    }

    #[test]
    fn rules_match_bytes_that_are_no_text_and_see_the_uncut_name() {
        let renames = Renames::new(&rules(&[("^(.*)@.*TAIL$", "$1@+short")])).unwrap();
        let long = [b"\xff@+".as_slice(), &[b'a'; 400], b"TAIL"].concat();
        assert_eq!(renames.apply(long).unwrap(), b"\xff@+short");
        let kept = renames.apply([b"h@+".as_slice(), &[b'a'; 400]].concat()).unwrap();
        assert_eq!(kept.len(), 255);
    }

    #[test]
    fn rules_that_make_reserved_or_impossible_names_are_named() {
        for to in ["current", "at", ".backupfs", "", "a/b@+", "a\n@+"] {
            let renames = Renames::new(&rules(&[("x", "y"), ("^home.*$", to), ("z", "z")])).unwrap();
            let error = renames.apply(b"home@+lab".to_vec()).unwrap_err();
            assert!(error.to_string().contains("rename \"^home.*$\""), "{error}");
        }
        let error = Renames::new(&rules(&[("(", "")])).err().unwrap();
        assert!(error.to_string().contains("rename \"(\""), "{error}");
    }
}
