//! Markdown, as far as our documents use it, in roff.
//!
//! A heading of the second level is a section, deeper ones are subsections. A table becomes a list of definitions: the
//! first column is the term, the last its text, those between stand in front of the text with their headings. Links
//! within the documents lose their targets, others show them.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use roff::{Inline, Roff, bold, italic, roman};

/// A document in roff, ready to be part of a page.
pub fn roff(text: &str) -> String {
    let mut writer = Writer::default();
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        writer.take(event);
    }
    writer.flush();
    writer.roff.render()
}

#[derive(Default)]
struct Writer {
    roff: Roff,
    /// Text that is not written yet, of one paragraph, heading or cell.
    line: Vec<Inline>,
    fonts: Vec<Font>,
    /// Where the links lead that are open, `None` for those within the documents.
    links: Vec<Option<String>>,
    lists: Vec<Option<u64>>,
    /// Paragraphs of a list's entry begin without a gap, which the entry has made.
    begins_entry: bool,
    code: Option<String>,
    table: Table,
}

#[derive(Clone, Copy)]
enum Font {
    Bold,
    Italic,
}

#[derive(Default)]
struct Table {
    headings: Vec<String>,
    cells: Vec<Vec<Inline>>,
}

impl Writer {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match &mut self.code {
                Some(code) => code.push_str(&text),
                None => self.push(&text),
            },
            Event::Code(code) => self.line.push(bold(code.into_string())),
            Event::SoftBreak => self.push(" "),
            Event::HardBreak => self.line.push(Inline::LineBreak),
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph if self.begins_entry => self.begins_entry = false,
            Tag::Paragraph => drop(self.roff.control("PP", [])),
            Tag::Strong => self.fonts.push(Font::Bold),
            Tag::Emphasis => self.fonts.push(Font::Italic),
            Tag::Link { dest_url, .. } => {
                self.links.push(dest_url.contains("://").then(|| dest_url.into_string()));
            }
            Tag::CodeBlock(_) => {
                self.flush();
                self.code = Some(String::new());
            }
            Tag::List(first) => {
                self.flush();
                if !self.lists.is_empty() {
                    self.roff.control("RS", []);
                }
                self.lists.push(first);
            }
            Tag::Item => self.entry(),
            Tag::Table(_) => self.table = Table::default(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph => self.flush(),
            TagEnd::Item => {
                self.flush();
                self.begins_entry = false;
            }
            TagEnd::Heading(level) => self.heading(level),
            TagEnd::Strong | TagEnd::Emphasis => drop(self.fonts.pop()),
            TagEnd::Link => {
                if let Some(Some(target)) = self.links.pop() {
                    self.line.push(roman(format!(" <{target}>")));
                }
            }
            TagEnd::CodeBlock => self.code_block(),
            TagEnd::List(_) => {
                self.lists.pop();
                if !self.lists.is_empty() {
                    self.roff.control("RE", []);
                }
            }
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.line);
                self.table.cells.push(cell);
            }
            TagEnd::TableHead => {
                self.table.headings = self.table.cells.drain(..).map(|cell| plain(&cell)).collect();
            }
            TagEnd::TableRow => self.row(),
            _ => {}
        }
    }

    fn push(&mut self, text: &str) {
        let text = text.to_owned();
        self.line.push(match self.fonts.last() {
            Some(Font::Bold) => bold(text),
            Some(Font::Italic) => italic(text),
            None => roman(text),
        });
    }

    fn flush(&mut self) {
        if !self.line.is_empty() {
            self.roff.text(std::mem::take(&mut self.line));
        }
    }

    fn heading(&mut self, level: HeadingLevel) {
        let title = plain(&std::mem::take(&mut self.line));
        match level {
            HeadingLevel::H1 | HeadingLevel::H2 => self.roff.control("SH", [title.to_uppercase().as_str()]),
            _ => self.roff.control("SS", [title.as_str()]),
        };
    }

    /// Begins an entry of the innermost list.
    fn entry(&mut self) {
        match self.lists.last_mut() {
            Some(Some(number)) => {
                self.roff.control("IP", [format!("{number}.").as_str(), "4"]);
                *number += 1;
            }
            _ => drop(self.roff.control("IP", ["\\(bu", "2"])),
        }
        self.begins_entry = true;
    }

    fn code_block(&mut self) {
        self.roff.control("PP", []).control("RS", ["4"]).control("EX", []);
        for line in self.code.take().unwrap_or_default().lines() {
            self.roff.text([roman(line)]);
        }
        self.roff.control("EE", []).control("RE", []);
        self.begins_entry = false;
    }

    /// A row as a definition.
    fn row(&mut self) {
        let mut cells = std::mem::take(&mut self.table.cells).into_iter();
        let term = cells.next().unwrap_or_default();
        let text = cells.next_back().unwrap_or_default();
        self.roff.control("TP", []).text(term);
        let between = self.table.headings.iter().skip(1).zip(cells).filter(|(_, cell)| !cell.is_empty());
        let mut remarks: Vec<Inline> = Vec::new();
        for (heading, cell) in between {
            remarks.push(roman(if remarks.is_empty() { "(" } else { "; " }));
            remarks.push(roman(format!("{heading}: ")));
            remarks.extend(cell);
        }
        if !remarks.is_empty() {
            remarks.push(roman(")"));
            self.roff.text(remarks).control("br", []);
        }
        self.roff.text(text);
    }
}

/// Text without its fonts.
fn plain(line: &[Inline]) -> String {
    let words = line.iter().map(|inline| match inline {
        Inline::Roman(text) | Inline::Italic(text) | Inline::Bold(text) => text.as_str(),
        Inline::LineBreak => " ",
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        // Behind the two that define apostrophes.
        roff(text).lines().skip(2).map(str::to_owned).collect()
    }

    #[test]
    fn headings_paragraphs_and_fonts() {
        assert_eq!(
            lines("## Who sees *what*\n\nAll `of` **it**,\n*here*.\n\n### More\n\nText."),
            [
                ".SH \"WHO SEES WHAT\"",
                ".PP",
                "All \\fBof\\fR \\fBit\\fR, \\fIhere\\fR.",
                ".SS More",
                ".PP",
                "Text."
            ]
        );
    }

    #[test]
    fn a_table_becomes_definitions() {
        assert_eq!(
            lines(
                "| option | where | default | meaning |\n|---|---|---|---|\n| `a` | `-o`, `file` | | First. |\n| `b` | `file` | off | Second. |\n"
            ),
            [
                ".TP",
                "\\fBa\\fR",
                "(where: \\fB\\-o\\fR, \\fBfile\\fR)",
                ".br",
                "First.",
                ".TP",
                "\\fBb\\fR",
                "(where: \\fBfile\\fR; default: off)",
                ".br",
                "Second.",
            ]
        );
        assert_eq!(lines("| you see | do |\n|---|---|\n| x | y |\n"), [".TP", "x", "y"]);
    }

    #[test]
    fn lists_nest_and_count() {
        assert_eq!(
            lines("* one\n* two\n  1. a\n  2. b\n\nText."),
            [
                ".IP \\(bu 2",
                "one",
                ".IP \\(bu 2",
                "two",
                ".RS",
                ".IP 1. 4",
                "a",
                ".IP 2. 4",
                "b",
                ".RE",
                ".PP",
                "Text.",
            ]
        );
    }

    #[test]
    fn code_keeps_its_lines_and_what_roff_would_take_for_its_own() {
        assert_eq!(
            lines("```sh\n.x 'y' \\z\n\n'a -b\n```\n"),
            [".PP", ".RS 4", ".EX", "\\&.x \\*(Aqy\\*(Aq \\\\z", "", "\\*(Aqa \\-b", ".EE", ".RE"]
        );
    }

    #[test]
    fn links_show_where_they_lead_unless_it_is_here() {
        assert_eq!(lines("[below](#x) [site](https://e.org/)"), [".PP", "below site <https://e.org/>"]);
    }
}
