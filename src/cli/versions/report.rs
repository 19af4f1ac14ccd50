//! The history of one file in one set, as lines for the screen and as JSON.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::history::{Change, Dated, Set};
use super::place;
use crate::cli::print::{self, Column};
use crate::observe::json_name;
use crate::tree::FileType;

/// What to print.
#[derive(Serialize)]
pub struct Report {
    set: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    set_base64: Option<String>,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_base64: Option<String>,
    versions: Vec<Row>,
    /// Whether the commands that restore need a mount first.
    #[serde(skip)]
    mounted: bool,
}

/// One date.
#[derive(Serialize)]
struct Row {
    date: String,
    change: Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// For the first date of each content.
    #[serde(skip_serializing_if = "Option::is_none")]
    restore: Option<String>,
    #[serde(skip)]
    local_mtime: String,
}

impl Report {
    /// The history of `path` in `set`. Commands restore into the directory `beside`, from the tree at `mountpoint`.
    pub fn new(
        set: &Set,
        path: &[Vec<u8>],
        beside: &Path,
        mountpoint: Option<&Path>,
        history: Vec<Dated>,
    ) -> Report {
        let (name, set_base64) = json_name(&set.place.join(&b'/'));
        let below = if path.is_empty() { b".".to_vec() } else { path.join(&b'/') };
        let (file, file_base64) = json_name(&below);
        let restore =
            |date: &[u8]| restore(set, date, path, beside, mountpoint.unwrap_or(Path::new("/mnt/backups")));
        let versions = history.into_iter().map(|dated| row(dated, &restore)).collect();
        Report { set: name, set_base64, file, file_base64, versions, mounted: mountpoint.is_some() }
    }

    /// Whether every date could be looked at.
    pub fn complete(&self) -> bool {
        self.versions.iter().all(|row| row.change != Change::Unknown)
    }

    /// Whether any date holds the file.
    pub fn found(&self) -> bool {
        self.versions.iter().any(|row| row.r#type.is_some())
    }

    /// The lines for the screen; `to_mount` is the command that makes the others possible.
    pub fn text(&self, to_mount: &str) -> String {
        let columns = [
            Column("DATE", false),
            Column("SIZE", true),
            Column("MODIFIED", false),
            Column("CONTENT", false),
        ];
        let rows: Vec<Vec<String>> = self.versions.iter().map(Row::cells).collect();
        let shown = |text: &str| print::visible(text.as_bytes());
        let held = self.versions.iter().filter(|row| row.r#type.is_some()).count();
        let (file, set, dates) = (shown(&self.file), shown(&self.set), print::count(rows.len(), "date"));
        let mut text = format!("{file} in {set}: on {held} of {dates}\n\n{}", print::table(&columns, &rows));
        let errors = self.versions.iter().filter_map(|row| Some((&row.date, row.error.as_ref()?)));
        for (i, (date, error)) in errors.enumerate() {
            text.push_str(if i == 0 { "\n" } else { "" });
            text.push_str(&format!("{}: {}\n", shown(date), shown(error)));
        }
        let commands: Vec<&String> = self.versions.iter().filter_map(|row| row.restore.as_ref()).collect();
        if !commands.is_empty() {
            text.push_str("\nTo restore a version beside the original:\n");
            let first = (!self.mounted).then_some(to_mount);
            for command in first.into_iter().chain(commands.into_iter().map(String::as_str)) {
                text.push_str(&format!("  {command}\n"));
            }
        }
        text
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
        let content = match self.change {
            Change::First => "first".to_owned(),
            Change::Same => "same".to_owned(),
            Change::Touched => "same, other time, mode or owner".to_owned(),
            Change::Changed => "changed".to_owned(),
            Change::Absent => "not there".to_owned(),
            Change::Directory => "directory (not compared)".to_owned(),
            Change::Unknown => "cannot be read".to_owned(),
        };
        vec![
            print::visible(self.date.as_bytes()),
            or_dash(self.size.map(|size| size.to_string())),
            self.local_mtime.clone(),
            content,
        ]
    }
}

fn row(dated: Dated, restore: &dyn Fn(&[u8]) -> String) -> Row {
    let Dated { date, version, change } = dated;
    let (version, error) = match version {
        Ok(version) => (version, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let restorable = matches!(change, Change::First | Change::Changed | Change::Directory);
    Row {
        change,
        r#type: version.as_ref().map(|version| print::kind(version.kind)),
        size: version.as_ref().filter(|version| version.kind != FileType::Dir).map(|version| version.size),
        mtime: version.as_ref().map(|version| print::utc(version.mtime)),
        error,
        restore: restorable.then(|| restore(&date)),
        local_mtime: version.as_ref().map_or("-".to_owned(), |version| print::local_second(version.mtime)),
        date: json_name(&date).0,
    }
}

fn restore(set: &Set, date: &[u8], path: &[Vec<u8>], beside: &Path, mountpoint: &Path) -> String {
    let names = set.place.iter().map(Vec::as_slice).chain([date]).chain(path.iter().map(Vec::as_slice));
    let mut from = mountpoint.to_owned();
    from.extend(names.map(OsStr::from_bytes));
    let original = path
        .last()
        .map_or_else(|| set.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default(), Vec::as_slice);
    let to: PathBuf = beside.join(OsStr::from_bytes(&place::beside(original, date)));
    let word = |path: &Path| print::shell_word(path.as_os_str().as_bytes());
    format!("cp -a {} {}", word(&from), word(&to))
}

#[cfg(test)]
mod tests {
    use super::super::history::Version;
    use super::*;
    use crate::error::{Error, Kind};
    use crate::tree::Time;

    fn report(mountpoint: Option<&Path>) -> Report {
        let set = place::set(vec![b"laptop@+home+lab".to_vec()]).unwrap();
        let version = Version {
            identity: None,
            kind: FileType::File,
            perm: 0o644,
            uid: 0,
            gid: 0,
            size: 703,
            mtime: Time { secs: 0, nanos: 0 },
            target: None,
        };
        let dated = |date: &str, version, change| Dated { date: date.into(), version, change };
        let history = vec![
            dated("D1", Ok(None), Change::Absent),
            dated("D2", Ok(Some(version.clone())), Change::First),
            dated("D3", Ok(Some(version)), Change::Same),
            dated("D4", Err(Error::new(Kind::Corrupt, "pack ab\n12")), Change::Unknown),
        ];
        let path = [b"my thesis".to_vec(), b"a.tex".to_vec()];
        Report::new(&set, &path, Path::new("/home/lab/my thesis"), mountpoint, history)
    }

    #[test]
    fn the_screen_shows_every_date_and_one_command_for_each_content() {
        let when = print::local_second(Time { secs: 0, nanos: 0 });
        let expected = format!(
            "my thesis/a.tex in laptop@+home+lab: on 2 of 4 dates\n\n\
             DATE  SIZE  MODIFIED             CONTENT\n\
             D1       -  -                    not there\n\
             D2     703  {when}  first\n\
             D3     703  {when}  same\n\
             D4       -  -                    cannot be read\n\n\
             D4: pack ab\\n12\n\n\
             To restore a version beside the original:\n\
             {{mount}}  cp -a '/mnt/backups/laptop@+home+lab/D2/my thesis/a.tex' '/home/lab/my thesis/a.D2.tex'\n"
        );
        assert_eq!(
            report(None).text("backupfs mount …"),
            expected.replace("{mount}", "  backupfs mount …\n")
        );
        assert_eq!(report(Some(Path::new("/mnt/backups"))).text("-"), expected.replace("{mount}", ""));
    }

    #[test]
    fn json_leaves_out_what_is_not_known() {
        let json = serde_json::to_value(report(Some(Path::new("/m")))).unwrap();
        assert_eq!(json["set"], "laptop@+home+lab");
        assert_eq!(json["versions"][0], serde_json::json!({"date": "D1", "change": "absent"}));
        assert_eq!(
            json["versions"][2],
            serde_json::json!({
                "date": "D3", "change": "same", "type": "file", "size": 703, "mtime": "1970-01-01T00:00:00Z"
            })
        );
        assert_eq!(json["versions"][3]["error"], "pack ab\n12");
    }
}
