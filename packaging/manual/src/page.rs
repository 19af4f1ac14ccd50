//! A manual page and its frame: title line, name, and the list of what to read next.

use roff::{Inline, Roff, bold, roman};

/// A finished page.
pub struct Page {
    pub name: String,
    pub section: u8,
    /// In roff, whole.
    pub text: String,
}

impl Page {
    /// A page of its head and `parts`, rendered each. It carries no date: equal sources make equal pages.
    pub fn new(name: &str, section: u8, about: &str, parts: impl IntoIterator<Item = String>) -> Self {
        let source = concat!("backupfs ", env!("CARGO_PKG_VERSION"));
        let mut head = Roff::new();
        head.control("SH", ["NAME"]).text([roman(format!("{name} - {about}"))]);
        // Whatever renders roff begins with how an apostrophe is written; one page says it once.
        let preamble = Roff::new().render();
        let mut text = format!("{preamble}.TH {name} {section} \"\" \"{source}\" backupfs\n.ad l\n");
        for part in std::iter::once(head.render()).chain(parts) {
            text.push_str(&part.replace(&preamble, ""));
        }
        Self { name: name.to_owned(), section, text }
    }

    /// Its file's name, `backupfs.1`.
    pub fn file_name(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }
}

/// The section SEE ALSO.
pub fn see_also(references: &[(&str, u8)]) -> String {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let mut line: Vec<Inline> = Vec::new();
    for (name, section) in references {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(*name), roman(format!("({section})"))]);
    }
    roff.text(line);
    roff.render()
}

/// Every `name(section)` that a page in roff mentions.
#[cfg(test)]
pub fn references(text: &str) -> Vec<String> {
    let plain = text.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace("\\-", "-");
    let mut found = Vec::new();
    for (at, _) in plain.match_indices('(') {
        let (before, after) = plain.split_at(at);
        let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name = before.rsplit(|c: char| !is_of_a_name(c)).next().unwrap_or_default();
        let section = after.get(1..2).unwrap_or_default();
        if !name.is_empty() && after.get(2..3) == Some(")") && "12345678".contains(section) {
            found.push(format!("{name}({section})"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_found_whatever_their_font() {
        let text = see_also(&[("mount.backupfs", 8), ("backupfs", 1)]);
        assert_eq!(references(&text), ["mount.backupfs(8)", "backupfs(1)"]);
        assert!(references("it may (or may not) f(x) open(2x)").is_empty());
    }

    #[test]
    fn a_head_names_the_page_and_the_version() {
        let text = Page::new("backupfs.conf", 5, "configuration", []).text;
        let title = concat!(
            ".TH backupfs.conf 5 \"\" \"backupfs ",
            env!("CARGO_PKG_VERSION"),
            "\" backupfs\n.ad l\n"
        );
        assert!(text.contains(title), "{text}");
        assert_eq!(text.matches(".ds Aq '").count(), 1, "{text}");
        assert!(text.contains("backupfs.conf \\- configuration"), "{text}");
    }
}
