//! How names, tables and times appear on the screen.
//!
//! Names in a backup are bytes that somebody else chose. On the screen every byte that is not plain visible text is
//! written as an escape that bash's `$'…'` reads back (`\n`, `\x1b`, `\xff`). In JSON it is as
//! [`json_name`](crate::observe::json_name) has it.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::error::{Error, Result};
use crate::tree::{FileType, Time};

/// Writes `text` to stdout. Whoever stopped reading (`| head`) had enough: no error.
pub fn stdout(text: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::io("stdout", error)),
        _ => Ok(()),
    }
}

/// Writes `value` to stdout as one JSON document.
pub fn json(value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::io("stdout", e.into()))?;
    text.push(b'\n');
    stdout(&text)
}

/// `name` with everything escaped that a terminal might obey or not show.
pub fn visible(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                c if is_hidden(c) => escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => text.push(c),
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Control characters, and those that reorder or hide the text around them.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `word` as a shell reads it back: bare, in quotes, or as `$'…'` where something has to be escaped.
pub fn shell_word(word: &[u8]) -> String {
    let is_bare = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@:,%".contains(byte) || *byte >= 0x80;
    let visible = visible(word);
    if visible.as_bytes() != word && visible.replace("\\\\", "\\").as_bytes() != word {
        format!("$'{}'", visible.replace('\'', "\\'"))
    } else if !word.is_empty() && word.iter().all(is_bare) {
        visible
    } else {
        format!("'{}'", String::from_utf8_lossy(word).replace('\'', "'\\''"))
    }
}

/// A column of a [`table`]: its heading, and whether its cells stand on the right.
pub struct Column(pub &'static str, pub bool);

/// Lines of columns two blanks apart, the headings first if there are any; no blanks behind the last cell of a line.
pub fn table(columns: &[Column], rows: &[Vec<String>]) -> String {
    let width = |i: usize, heading: &str| {
        let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(heading.chars().count())
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(|(i, c)| width(i, c.0)).collect();
    let mut text = String::new();
    let headings: Vec<String> = columns.iter().map(|c| c.0.to_owned()).collect();
    let has_headings = headings.iter().any(|heading| !heading.is_empty());
    for row in has_headings.then_some(&headings).into_iter().chain(rows) {
        let mut line = String::new();
        for ((cell, Column(_, right)), width) in row.iter().zip(columns).zip(&widths) {
            let _ = if *right { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The instant in this machine's zone to the minute, as `ls` writes it.
pub fn local_minute(time: Time) -> String {
    zoned(time, "%Y-%m-%d %H:%M")
}

/// The instant in this machine's zone to the second.
pub fn local_second(time: Time) -> String {
    zoned(time, "%Y-%m-%d %H:%M:%S")
}

fn zoned(time: Time, format: &str) -> String {
    match Timestamp::from_second(time.secs) {
        Ok(instant) => instant.to_zoned(TimeZone::system()).strftime(format).to_string(),
        // Beyond the year 9999.
        Err(_) => format!("@{}", time.secs),
    }
}

/// The instant in UTC with nanoseconds (RFC 3339), or `@seconds` beyond the year 9999.
pub fn utc(time: Time) -> String {
    let nanos = i32::try_from(time.nanos).unwrap_or(0);
    match Timestamp::new(time.secs, nanos) {
        Ok(instant) => instant.to_string(),
        Err(_) => format!("@{}", time.secs),
    }
}

/// Type and permissions as `ls -l` writes them.
pub fn mode(kind: FileType, perm: u16) -> String {
    let mut text = String::from(match kind {
        FileType::Dir => 'd',
        FileType::File => '-',
        FileType::Symlink => 'l',
        FileType::Block => 'b',
        FileType::Char => 'c',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
    });
    for (shift, special, on, off) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = perm >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (perm & special != 0, bits & 1 != 0) {
            (true, true) => on,
            (true, false) => off,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// The type in a word, as JSON has it.
pub fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::Dir => "dir",
        FileType::File => "file",
        FileType::Symlink => "symlink",
        FileType::Block => "block",
        FileType::Char => "char",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
    }
}

/// A number of bytes in the largest unit that leaves a digit before the point.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = bytes.checked_ilog2().map_or(0, |log| log / 10);
    match (unit, units.get(unit as usize)) {
        (0, _) | (_, None) => format!("{bytes} B"),
        // Tenths, rounded down: never more than there is.
        (_, Some(name)) => {
            let tenths = (u128::from(bytes) * 10) >> (unit * 10);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
    }
}

/// `1 file`, `2 files`.
pub fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_at_a_glance() {
        let sizes = [0, 1, 1023, 1024, 1535, 1 << 20, (1 << 30) - 1, 10 << 30, u64::MAX].map(size);
        let expected =
            ["0 B", "1 B", "1023 B", "1.0 KiB", "1.4 KiB", "1.0 MiB", "1023.9 MiB", "10.0 GiB", "15.9 EiB"];
        assert_eq!(sizes, expected);
    }

    #[test]
    fn nothing_a_terminal_obeys_is_left() {
        for (name, shown) in [
            (&b"plain \xc3\xbc.txt"[..], "plain ü.txt"),
            (b"a\nb\tc\rd", "a\\nb\\tc\\rd"),
            (b"\x1b[31mred\x7f", "\\x1b[31mred\\x7f"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"back\\slash", "back\\\\slash"),
            ("\u{202e}gpj.exe".as_bytes(), "\\xe2\\x80\\xaegpj.exe"),
            ("\u{9b}31m".as_bytes(), "\\xc2\\x9b31m"),
        ] {
            assert_eq!(visible(name), shown);
        }
    }

    #[test]
    fn words_are_quoted_only_where_a_shell_needs_it() {
        for (word, quoted) in [
            (&b"/mnt/laptop@+home/20260301_030000/a.tex"[..], "/mnt/laptop@+home/20260301_030000/a.tex"),
            (b"a b", "'a b'"),
            (b"it's", "'it'\\''s'"),
            (b"", "''"),
            (b"back\\slash", "'back\\slash'"),
            (b"a\nb'c\\", "$'a\\nb\\'c\\\\'"),
            (b"\xff", "$'\\xff'"),
            ("Zürich".as_bytes(), "Zürich"),
            (b"$HOME;~", "'$HOME;~'"),
        ] {
            assert_eq!(shell_word(word), quoted);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn bash_reads_every_word_back(word in prop::collection::vec(1u8.., 0..24)) {
            let script = format!("printf %s {}", shell_word(&word));
            let run = std::process::Command::new("bash").args(["-c", &script]).env("LC_ALL", "C").output().unwrap();
            prop_assert_eq!(run.stdout, word, "{}", script);
        }
    }

    #[test]
    fn tables_align_and_leave_no_blanks_behind() {
        let rows = vec![
            vec!["ä".to_owned(), "10".into(), "x".into()],
            vec!["long".into(), "7".into(), String::new()],
        ];
        let text = table(&[Column("A", false), Column("N", true), Column("", false)], &rows);
        assert_eq!(text, "A      N\nä     10  x\nlong   7\n");
    }

    #[test]
    fn times_are_shown_whatever_they_are() {
        let time = |secs, nanos| Time { secs, nanos };
        assert_eq!(utc(time(0, 5)), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(utc(time(-1, 0)), "1969-12-31T23:59:59Z");
        assert_eq!(utc(time(i64::MAX, 0)), format!("@{}", i64::MAX));
        assert_eq!(local_minute(time(i64::MIN, 0)), format!("@{}", i64::MIN));
    }

    #[test]
    fn modes_read_like_ls() {
        for (kind, perm, shown) in [
            (FileType::File, 0o644, "-rw-r--r--"),
            (FileType::File, 0o4755, "-rwsr-xr-x"),
            (FileType::File, 0o2644, "-rw-r-Sr--"),
            (FileType::Dir, 0o1777, "drwxrwxrwt"),
            (FileType::Dir, 0o1750, "drwxr-x--T"),
            (FileType::Symlink, 0o777, "lrwxrwxrwx"),
        ] {
            assert_eq!(mode(kind, perm), shown);
        }
    }
}
