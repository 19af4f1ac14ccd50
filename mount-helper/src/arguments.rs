//! The shapes in which mount(8) calls a helper, and the command that they become.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::shown;

/// What was asked for.
#[derive(Debug, PartialEq)]
pub enum Typed {
    Request(Request),
    Help,
    Version,
}

/// A mount to be made.
#[derive(Debug, Default, PartialEq)]
pub struct Request {
    spec: OsString,
    /// Absolute.
    directory: OsString,
    /// All that was said by `-o`, as it was said, but for what this process does itself.
    options: Vec<OsString>,
    fake: bool,
    verbose: usize,
    /// Whose mount it shall be (`-o setuid=`).
    pub user: Option<OsString>,
    /// In which mount namespace (`-N`): a path, or the number of a process.
    pub namespace: Option<OsString>,
}

impl Typed {
    /// Reads the arguments behind the program's name. Errors: what is wrong, for people.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let first = arguments.next().ok_or("nothing to mount: mount.backupfs SPEC DIR [-o OPTIONS]")?;
        match first.as_bytes() {
            b"-h" | b"--help" => return Ok(Typed::Help),
            b"-V" | b"--version" => return Ok(Typed::Version),
            _ => {}
        }
        let directory = arguments.next().ok_or("no directory to mount on: mount.backupfs SPEC DIR")?;
        let mut request = Request { spec: first, directory, ..Request::default() };
        request.check()?;
        while let Some(argument) = arguments.next() {
            match argument.as_bytes() {
                [b'-', letters @ ..] if !letters.is_empty() => request.take(letters, &mut arguments)?,
                _ => return Err(format!("\"{}\" is too much: SPEC and DIR come first", shown(&argument))),
            }
        }
        Ok(Typed::Request(request))
    }
}

impl Request {
    /// Refuses what no administrator writes but whoever makes up keys of an automounter's map may: something that
    /// would be an option of the programs that it is handed to, or would break a line of a log.
    fn check(&self) -> Result<(), String> {
        for (what, text) in [("SPEC", &self.spec), ("DIR", &self.directory)] {
            let bytes = text.as_bytes();
            if bytes.is_empty() {
                return Err(format!("{what} is empty"));
            }
            if bytes.first() == Some(&b'-') || bytes.iter().any(u8::is_ascii_control) {
                return Err(format!(
                    "{what} \"{}\" is refused: it comes first, and is a plain name",
                    shown(text)
                ));
            }
        }
        if self.directory.as_bytes().first() != Some(&b'/') {
            return Err(format!("DIR \"{}\" must be an absolute path", shown(&self.directory)));
        }
        Ok(())
    }

    /// One argument of letters, the last of which may have a value, in it or behind it.
    fn take(&mut self, letters: &[u8], following: &mut impl Iterator<Item = OsString>) -> Result<(), String> {
        let mut rest = letters;
        while let [letter, behind @ ..] = rest {
            rest = behind;
            match letter {
                b'f' => self.fake = true,
                b'v' => self.verbose += 1,
                // No word on what is unknown to be tolerated, no line in /etc/mtab; read-only, or not: it always is.
                b's' | b'n' | b'r' | b'w' => {}
                b'o' | b't' | b'N' => {
                    let value = match behind {
                        [] => following.next(),
                        inside => Some(OsStr::from_bytes(inside).to_owned()),
                    };
                    let value = value.ok_or_else(|| format!("-{} needs a value", char::from(*letter)))?;
                    match letter {
                        b'o' => self.take_options(&value),
                        b'N' => self.namespace = Some(value),
                        // The type is why this program was called.
                        _ => {}
                    }
                    return Ok(());
                }
                other => return Err(format!("unknown option -{}", char::from(*other).escape_debug())),
            }
        }
        Ok(())
    }

    fn take_options(&mut self, options: &OsStr) {
        let mut kept: Vec<&[u8]> = Vec::new();
        for option in split_commas(options.as_bytes()) {
            match option.strip_prefix(b"setuid=") {
                Some(user) => self.user = Some(OsStr::from_bytes(user).to_owned()),
                None => kept.push(option),
            }
        }
        if !kept.is_empty() {
            self.options.push(OsString::from_vec(kept.join(&b',')));
        }
    }

    /// The arguments of `backupfs` that this is.
    pub fn command(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["mount".into(), "--spec".into(), self.spec.clone()];
        for options in &self.options {
            words.extend(["-o".into(), options.clone()]);
        }
        if self.fake {
            words.push("--fake".into());
        }
        words.extend(std::iter::repeat_n("-v".into(), self.verbose));
        words.extend(["--".into(), self.directory.clone()]);
        words
    }
}

/// The options between commas, as they stand there: a comma behind a backslash is part of one.
fn split_commas(options: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while let Some(byte) = options.get(at) {
        match byte {
            b'\\' => at += 1,
            b',' => {
                parts.extend(options.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.extend(options.get(start..));
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Request, String> {
        match Typed::parse(words.iter().map(OsString::from))? {
            Typed::Request(request) => Ok(request),
            other => panic!("{other:?}"),
        }
    }

    /// The command that arguments become.
    fn becomes(words: &[&str]) -> String {
        let words = parse(words).unwrap().command();
        words.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn the_shapes_of_mount_become_a_command() {
        for (words, command) in [
            (&["home", "/mnt", "-o", "rw"][..], "mount --spec home -o rw -- /mnt"),
            (&["home", "/mnt"], "mount --spec home -- /mnt"),
            (
                &["home", "/mnt", "-s", "-f", "-n", "-v", "-o", "ro"],
                "mount --spec home -o ro --fake -v -- /mnt",
            ),
            (&["home", "/mnt", "-sfnvv", "-oro,x=y"], "mount --spec home -o ro,x=y --fake -v -v -- /mnt"),
            (&["none", "/mnt", "-o", "a", "-o", "b"], "mount --spec none -o a -o b -- /mnt"),
            (&["x y", "/m n", "-t", "fuse.backupfs", "-o", "ro"], "mount --spec x y -o ro -- /m n"),
            (
                &["s3:https://h/b", "/mnt", "-tbackupfs", "-nro", "ro"],
                "mount --spec s3:https://h/b -o ro -- /mnt",
            ),
        ] {
            assert_eq!(becomes(words), command);
        }
    }

    #[test]
    fn options_arrive_as_they_were_said() {
        let said = r"repo=a\,b,name=\\,x-foo,comment=c d,_netdev,nofail,users,uid=7";
        assert_eq!(parse(&["a", "/m", "-o", said]).unwrap().options, [said]);
    }

    #[test]
    fn a_user_is_taken_out_of_the_options() {
        let request = parse(&["a", "/m", "-o", r"ro,setuid=alice,x=a\,setuid=b"]).unwrap();
        assert_eq!(
            (request.user.unwrap(), request.options),
            ("alice".into(), vec![r"ro,x=a\,setuid=b".into()])
        );
        let request = parse(&["a", "/m", "-o", "setuid=alice"]).unwrap();
        assert!(request.options.is_empty());
        // The comma behind an escaped backslash separates.
        let request = parse(&["a", "/m", "-o", r"x=\\,setuid=bob"]).unwrap();
        assert_eq!((request.user.unwrap(), request.options), ("bob".into(), vec![r"x=\\".into()]));
    }

    #[test]
    fn a_namespace_is_told_apart() {
        let request = parse(&["a", "/m", "-N", "/proc/7/ns/mnt", "-o", "ro"]).unwrap();
        assert_eq!(request.namespace.unwrap(), "/proc/7/ns/mnt");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (words, says) in [
            (&[][..], "nothing to mount"),
            (&["home"], "no directory"),
            (&["home", "mnt"], "absolute"),
            (&["", "/mnt"], "SPEC is empty"),
            (&["home", "/mnt", "-o"], "-o needs a value"),
            (&["home", "/mnt", "-x"], "unknown option -x"),
            (&["home", "/mnt", "--force"], "unknown option --"),
            (&["home", "/mnt", "more"], "\"more\" is too much"),
            (&["home", "/mnt", "-"], "\"-\" is too much"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(says), "{words:?}: {error}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        for spec in ["-o", "-osuid", "--spec=x", "a\nb", "\x1b[31m", "a\tb", "\x7f"] {
            let error = parse(&[spec, "/mnt"]).unwrap_err();
            assert!(
                error.contains("is refused") && !error.contains('\n') && !error.contains('\x1b'),
                "{error:?}"
            );
            assert!(parse(&["home", &format!("/mnt{spec}")]).is_err() != spec.starts_with('-'), "{spec:?}");
        }
        // These mean nothing to anybody: no shell ever sees them.
        for spec in [";id", "$(id)", "../x", "a b", "`id`"] {
            assert_eq!(becomes(&[spec, "/mnt"]), format!("mount --spec {spec} -- /mnt"));
        }
    }

    #[test]
    fn help_and_version_are_asked_for() {
        assert_eq!(Typed::parse(["--help".into()]), Ok(Typed::Help));
        assert_eq!(Typed::parse(["-V".into()]), Ok(Typed::Version));
    }
}
