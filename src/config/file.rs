//! The syntax of the configuration file: TOML, with the line of every key.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::{Entry, Given};
use crate::error::{Error, Kind, Result};

/// The entries of the file at `path` whose text is `text`. Errors: `Usage`, with the line.
pub fn entries(path: &Path, text: &str) -> Result<Vec<Entry>> {
    let file = File { path: path.display().to_string(), text };
    match DeTable::parse(text) {
        Ok(table) => file.table(table.get_ref()),
        Err(error) => {
            let place = file.place(error.span().map_or(0, |span| span.start));
            Err(Error::new(Kind::Usage, format!("{place}: {}", error.message())))
        }
    }
}

struct File<'a> {
    path: String,
    text: &'a str,
}

impl File<'_> {
    /// `path:line` of the byte at `offset`.
    fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(self.text);
        format!("{}:{}", self.path, before.matches('\n').count() + 1)
    }

    fn table(&self, table: &DeTable<'_>) -> Result<Vec<Entry>> {
        let mut keys: Vec<_> = table.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        keys.into_iter()
            .map(|(key, value)| {
                let place = self.place(key.span().start);
                let value = self
                    .value(value)
                    .map_err(|why| Error::new(Kind::Usage, format!("{place}: {}: {why}", key.get_ref())))?;
                Ok(Entry { key: key.get_ref().to_string(), place, value })
            })
            .collect()
    }

    /// The value, or why it is none that any key takes.
    fn value(&self, value: &Spanned<DeValue<'_>>) -> std::result::Result<Given, String> {
        match value.get_ref() {
            DeValue::String(text) => Ok(Given::Text(text.to_string())),
            DeValue::Boolean(flag) => Ok(Given::Flag(*flag)),
            DeValue::Integer(number) => {
                i64::from_str_radix(&number.as_str().replace('_', ""), number.radix())
                    .map(Given::Number)
                    .map_err(|_| "the number is too large".to_owned())
            }
            DeValue::Table(table) => self.table(table).map(Given::Table).map_err(|e| e.to_string()),
            DeValue::Array(array) => {
                let items: Vec<Given> =
                    array.iter().map(|item| self.value(item)).collect::<std::result::Result<_, _>>()?;
                texts(&items).or_else(|| tables(&items)).ok_or_else(|| "must hold texts only".to_owned())
            }
            DeValue::Float(_) => Err("must be a whole number".to_owned()),
            DeValue::Datetime(_) => Err("must be in quotes".to_owned()),
        }
    }
}

fn texts(items: &[Given]) -> Option<Given> {
    let text = |item: &Given| match item {
        Given::Text(text) => Some(text.clone()),
        _ => None,
    };
    items.iter().map(text).collect::<Option<_>>().map(Given::List)
}

fn tables(items: &[Given]) -> Option<Given> {
    let table = |item: &Given| match item {
        Given::Table(entries) => Some(entries.clone()),
        _ => None,
    };
    items.iter().map(table).collect::<Option<_>>().map(Given::Tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Entry>> {
        entries(Path::new("c.toml"), text)
    }

    #[test]
    fn every_key_knows_its_line() {
        let entries =
            parse("refresh = \"5s\"\n\nmemory = 0x10\n[[source]]\nurl = \"/a\"\nhost = [\"x\", \"y\"]\n")
                .unwrap();
        let places: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.place.as_str())).collect();
        assert_eq!(places, [("refresh", "c.toml:1"), ("memory", "c.toml:3"), ("source", "c.toml:4")]);
        assert_eq!(entries[1].value, Given::Number(16));
        let source = &entries[2].tables().unwrap()[0];
        assert_eq!(source[1].place, "c.toml:6");
        assert_eq!(source[1].value, Given::List(vec!["x".into(), "y".into()]));
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, says) in [
            ("a = 1\nb = = 2\n", "c.toml:2: "),
            ("a = 1.5\n", "c.toml:1: a: must be a whole number"),
            ("a = 1\nc = [1, \"x\"]\n", "c.toml:2: c: must hold texts only"),
            ("a = 1\na = 2\n", "c.toml:2: "),
            ("a = 99999999999999999999\n", "c.toml:1: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().starts_with(says), "{error}");
            assert_eq!(error.kind(), Kind::Usage);
        }
    }
}
