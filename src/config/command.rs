//! Runs a password command: split into words like a shell does, but without a shell.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};

/// Time enough to type a PIN.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the command prints, at most `longest` bytes of it. Its stdin and stderr are ours, so it may ask questions.
/// Errors: `Usage` when the line is no command, `Password` when the command fails.
pub fn output(line: &str, longest: u64) -> Result<Zeroizing<Vec<u8>>> {
    run(line, longest, PATIENCE)
}

fn run(line: &str, longest: u64, patience: Duration) -> Result<Zeroizing<Vec<u8>>> {
    let words = words(line).ok_or_else(|| Error::new(Kind::Usage, "a quote is not closed"))?;
    let [program, arguments @ ..] = words.as_slice() else {
        return Err(Error::new(Kind::Usage, "is empty"));
    };
    let failed = |e| Error::io(program.clone(), e).with_kind(Kind::Password);
    let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let (done, read) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut bytes = Zeroizing::new(Vec::new());
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

/// The words of a line: `'…'` keeps everything, `"…"` and a backslash quote as in a shell; nothing is expanded. `None`
/// when a quote is not closed.
fn words(line: &str) -> Option<Vec<String>> {
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
            let error = output(line, 100).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert!(!error.to_string().contains("secret"));
            assert_eq!(error.kind(), kind);
        }
    }

    #[test]
    fn a_command_that_hangs_is_given_up() {
        let error = run("sleep 600", 100, Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("no answer"), "{error}");
    }

    #[test]
    fn output_is_bounded() {
        assert_eq!(output("printf 0123456789", 100).unwrap().as_slice(), b"0123456789");
    }
}
