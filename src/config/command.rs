//! Runs a command that the configuration names: split into words like a shell does, but without a shell.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::source::MEMBER;
use crate::error::{Error, Kind, Result};

/// Time enough to type a PIN.
const PATIENCE: Duration = Duration::from_secs(120);

/// No password is longer.
const PASSWORD: usize = 64 << 10;

/// What the command prints, at most `longest` bytes of it; `{member}` in its words stands for `member`. Its stdin and
/// stderr are ours, so it may ask questions. Errors: `Usage` when the line is no command, `Password` when the command
/// fails.
pub fn output(line: &str, member: &str, longest: u64) -> Result<Zeroizing<Vec<u8>>> {
    run(line, member, longest, PATIENCE)
}

fn run(line: &str, member: &str, longest: u64, patience: Duration) -> Result<Zeroizing<Vec<u8>>> {
    let words = words(line).ok_or_else(|| Error::new(Kind::Usage, "a quote is not closed"))?;
    let words = words.into_iter().map(|word| named(word, member)).collect::<Result<Vec<_>>>()?;
    let [program, arguments @ ..] = words.as_slice() else {
        return Err(Error::new(Kind::Usage, "is empty"));
    };
    let failed = |e| Error::io(program.clone(), e).with_kind(Kind::Password);
    let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let (done, read) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            // Passwords are short: a buffer that grows leaves copies behind.
            let mut bytes = Zeroizing::new(Vec::with_capacity(PASSWORD));
            // Nobody listens any more after the deadline.
            let _ = done.send(stdout.take(longest).read_to_end(&mut bytes).map(|_| bytes));
        });
    }
    let Ok(bytes) = read.recv_timeout(patience) else {
        // It may have ended by itself in the meantime.
        let _ = child.kill();
        let _ = child.wait();
        return Err(Error::new(
            Kind::Password,
            format!("{program}: no answer within {} s", patience.as_secs()),
        ));
    };
    let status = child.wait().map_err(failed)?;
    if !status.success() {
        return Err(Error::new(Kind::Password, format!("{program}: {status}")));
    }
    bytes.map_err(failed)
}

/// A word with the member's name in it: whoever chose that name cannot make another word of it, or an option.
fn named(word: String, member: &str) -> Result<String> {
    let named = word.replace(MEMBER, member);
    if named.starts_with('-') && !word.starts_with('-') {
        return Err(Error::new(Kind::Usage, format!("\"{word}\" would be an option for {member}")));
    }
    Ok(named)
}

/// The words of a line: `'…'` keeps everything, `"…"` and a backslash quote as in a shell; nothing is expanded. `None`
/// when a quote is not closed.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if open == c => quote = None,
            (None | Some('"'), '\\') => {
                let next = chars.next()?;
                let word = word.get_or_insert_default();
                if quote.is_some() && !matches!(next, '"' | '\\' | '$' | '`') {
                    word.push('\\');
                }
                word.push(next);
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_like_a_shell_s() {
        for (line, split) in [
            ("pass show backup", &["pass", "show", "backup"][..]),
            ("  a\t b ", &["a", "b"]),
            ("a 'b c' \"d e\"", &["a", "b c", "d e"]),
            (r#"a b\ c "q\"q\n" '\'"#, &["a", "b c", "q\"q\\n", "\\"]),
            ("a '' \"\"", &["a", "", ""]),
            ("a'b'\"c\"d", &["abcd"]),
            ("$HOME `x` ; |", &["$HOME", "`x`", ";", "|"]),
            ("", &[]),
        ] {
            assert_eq!(words(line).unwrap(), split, "{line}");
        }
        for open in ["'", "\"a", "a\\"] {
            assert_eq!(words(open), None, "{open}");
        }
    }

    #[test]
    fn failures_say_what_failed() {
        for (line, kind, says) in [
            ("", Kind::Usage, "is empty"),
            ("'x", Kind::Usage, "not closed"),
            ("/no/such/program", Kind::Password, "/no/such/program: No such file"),
            ("sh -c 'echo secret; exit 3'", Kind::Password, "sh: exit status: 3"),
        ] {
            let error = output(line, "", 100).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert!(!error.to_string().contains("secret"));
            assert_eq!(error.kind(), kind);
        }
    }

    #[test]
    fn a_member_s_name_stays_one_word_and_becomes_no_option() {
        let printed = |line: &str, member: &str| {
            output(line, member, 100).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        };
        assert_eq!(
            printed("printf '%s|' {member} x/{member}", "a 'b\" $(id)").unwrap(),
            "a 'b\" $(id)|x/a 'b\" $(id)|"
        );
        let error = printed("printf {member}", "--help").unwrap_err();
        assert!(error.to_string().contains("would be an option"), "{error}");
        assert_eq!(printed("printf -- --{member}", "x").unwrap(), "--x");
    }

    #[test]
    fn a_command_that_hangs_is_given_up() {
        let error = run("sleep 600", "", 100, Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("no answer"), "{error}");
    }

    #[test]
    fn output_is_bounded() {
        assert_eq!(output("printf 0123456789", "", 5).unwrap().as_slice(), b"01234");
        assert_eq!(output("printf 0123456789", "", 100).unwrap().as_slice(), b"0123456789");
    }
}
