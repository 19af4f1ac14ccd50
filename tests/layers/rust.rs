//! As much of Rust as is needed to see which paths a file names: comments and literals are skipped, `use` trees are
//! spread, `super` is counted from the inline module it stands in.

use std::iter::Peekable;
use std::str::Chars;

/// A path that a file names, from the crate's root (`crate` left out) or, if `foreign`, from another crate's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub line: usize,
    pub path: Vec<String>,
    pub foreign: bool,
}

/// A `mod name;`, with the value of its `#[path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub name: String,
    pub path: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Literal(String),
    Colons,
    Mark(char),
}

/// Every path of two or more segments that `source` names; `module` is where the file stands in its crate.
pub fn paths(source: &str, module: &[&str]) -> Vec<Named> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    // Inline modules, each with the depth of braces that it opened.
    let (mut inline, mut depth) = (Vec::<(String, usize)>::new(), 0);
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at].1 {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => {
                depth -= 1;
                inline.pop_if(|(_, opened)| *opened > depth);
            }
            Token::Word(word) if word == "mod" => {
                if let (Some((_, Token::Word(name))), Some((_, Token::Mark('{')))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    inline.push((name.clone(), depth + 1));
                }
            }
            Token::Word(_) if matches!(tokens.get(at + 1), Some((_, Token::Colons))) => {
                let mut here: Vec<String> = module.iter().map(|part| (*part).to_owned()).collect();
                here.extend(inline.iter().map(|(name, _)| name.clone()));
                let mut spread = Vec::new();
                at = tree(&tokens, at, &[], &mut spread);
                found.extend(spread.into_iter().map(|(line, path)| resolve(line, &path, here.clone())));
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Every module that `source` keeps in another file.
pub fn modules(source: &str) -> Vec<Declared> {
    let tokens: Vec<_> = tokens(source).into_iter().map(|(_, token)| token).collect();
    let mut found = Vec::new();
    for (at, window) in tokens.windows(3).enumerate() {
        if let [Token::Word(word), Token::Word(name), Token::Mark(';')] = window
            && word == "mod"
        {
            let path = match tokens[..at].strip_suffix(&[Token::Mark(']')]) {
                Some([.., Token::Word(path), Token::Mark('='), Token::Literal(value)]) if path == "path" => {
                    Some(value.clone())
                }
                _ => None,
            };
            found.push(Declared { name: name.clone(), path });
        }
    }
    found
}

/// Reads a path or a `use` tree from `at`, which continues `above`; answers where it ends.
fn tree(
    tokens: &[(usize, Token)],
    mut at: usize,
    above: &[String],
    found: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let mut path = above.to_vec();
    loop {
        match tokens.get(at) {
            Some((_, Token::Word(word))) => path.push(word.clone()),
            Some((_, Token::Mark('*'))) => {}
            Some((_, Token::Mark('{'))) => {
                at += 1;
                while !matches!(tokens.get(at), None | Some((_, Token::Mark('}')))) {
                    let next = tree(tokens, at, &path, found);
                    // Whatever is no part of a tree (`as name`, a comma) is stepped over.
                    at = next.max(at + 1);
                    while matches!(tokens.get(at), Some((_, Token::Mark(','))))
                        || matches!(tokens.get(at), Some((_, Token::Word(word))) if word == "as")
                    {
                        at += if tokens[at].1 == Token::Mark(',') { 1 } else { 2 };
                    }
                }
                return at + 1;
            }
            _ => return at,
        }
        let line = tokens[at].0;
        at += 1;
        if !matches!(tokens.get(at), Some((_, Token::Colons))) {
            found.push((line, path));
            return at;
        }
        at += 1;
        // `Vec::<u8>` goes on with types, which are paths of their own.
        if matches!(tokens.get(at), Some((_, Token::Mark('<')))) {
            found.push((line, path));
            return at;
        }
    }
}

fn resolve(line: usize, path: &[String], here: Vec<String>) -> Named {
    let (mut base, mut rest) = (here, path);
    let mut foreign = true;
    while let [first, tail @ ..] = rest {
        match first.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => drop(base.pop()),
            _ => break,
        }
        foreign = false;
        rest = tail;
    }
    if foreign {
        base.clear();
    }
    base.extend_from_slice(rest);
    Named { line, path: base, foreign }
}

fn tokens(source: &str) -> Vec<(usize, Token)> {
    let mut lexer = Lexer { chars: source.chars().peekable(), line: 1 };
    let mut tokens = Vec::new();
    while let Some(c) = lexer.next() {
        let line = lexer.line;
        let token = match c {
            '/' if lexer.chars.peek() == Some(&'/') => {
                lexer.skip_line();
                continue;
            }
            '/' if lexer.chars.peek() == Some(&'*') => {
                lexer.skip_comment();
                continue;
            }
            c if c.is_whitespace() => continue,
            '"' => Token::Literal(lexer.string()),
            '\'' => match lexer.character() {
                Some(literal) => Token::Literal(literal),
                None => continue,
            },
            ':' if lexer.chars.peek() == Some(&':') => {
                lexer.next();
                Token::Colons
            }
            c if c.is_alphanumeric() || c == '_' => match lexer.word(c) {
                word if matches!(word.as_str(), "r" | "br" | "cr") => match lexer.raw_string() {
                    Some(literal) => Token::Literal(literal),
                    None => Token::Word(word),
                },
                word => Token::Word(word),
            },
            c => Token::Mark(c),
        };
        tokens.push((line, token));
    }
    tokens
}

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|c| c != '\n') {}
    }

    fn skip_comment(&mut self) {
        let (mut depth, mut last) = (0, '/');
        while let Some(c) = self.next() {
            match (last, c) {
                ('/', '*') => (depth, last) = (depth + 1, ' '),
                ('*', '/') => (depth, last) = (depth - 1, ' '),
                _ => last = c,
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn word(&mut self, first: char) -> String {
        let mut word = String::from(first);
        while let Some(&c) = self.chars.peek()
            && (c.is_alphanumeric() || c == '_')
        {
            word.push(c);
            self.next();
        }
        word
    }

    fn string(&mut self) -> String {
        let mut text = String::new();
        while let Some(c) = self.next() {
            match c {
                '"' => break,
                '\\' => {
                    self.next();
                }
                c => text.push(c),
            }
        }
        text
    }

    /// What follows an `r`: a raw string, or nothing of the kind (`r#type`).
    fn raw_string(&mut self) -> Option<String> {
        let mut ahead = self.chars.clone();
        let mut hashes = 0;
        while ahead.next_if_eq(&'#').is_some() {
            hashes += 1;
        }
        ahead.next_if_eq(&'"')?;
        for _ in 0..=hashes {
            self.next();
        }
        let end = format!("\"{}", "#".repeat(hashes));
        let mut text = String::new();
        while !text.ends_with(&end) {
            text.push(self.next()?);
        }
        Some(text[..text.len() - end.len()].to_owned())
    }

    /// What follows a `'`: a character, or `None` for a lifetime.
    fn character(&mut self) -> Option<String> {
        let mut ahead = self.chars.clone();
        let first = ahead.next()?;
        if first == '\\' {
            self.next();
            self.next();
            while self.next().is_some_and(|c| c != '\'') {}
            return Some(String::new());
        }
        ahead.next_if_eq(&'\'')?;
        self.next();
        self.next();
        Some(first.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(source: &str, module: &[&str]) -> Vec<(usize, String)> {
        let named = paths(source, module).into_iter().filter(|named| !named.foreign);
        named.map(|named| (named.line, named.path.join("::"))).collect()
    }

    fn found(expected: &[(usize, &str)]) -> Vec<(usize, String)> {
        expected.iter().map(|&(line, path)| (line, path.to_owned())).collect()
    }

    #[test]
    fn use_trees_are_spread() {
        let source =
            "use crate::{error::{Error, Kind as K}, tree::*,\n store};\nuse crate::cache::Budget as B;";
        let expected =
            [(1, "error::Error"), (1, "error::Kind"), (1, "tree"), (2, "store"), (3, "cache::Budget")];
        assert_eq!(local(source, &["fuse"]), found(&expected));
    }

    #[test]
    fn super_counts_from_the_module_it_stands_in() {
        let source = "use super::a; mod tests { use super::b; use super::super::c; mod deep { fn f() { super::d() } } }\n\
                      fn g() { if x { self::e() } super::super::f::g(); }";
        let expected =
            [(1, "x::a"), (1, "x::y::b"), (1, "x::c"), (1, "x::y::tests::d"), (2, "x::y::e"), (2, "f::g")];
        assert_eq!(local(source, &["x", "y"]), found(&expected));
    }

    #[test]
    fn paths_are_seen_in_expressions_and_types_and_not_in_text() {
        let source = r###"
            // crate::not::this
            /* nor /* crate::that */ crate::either */
            const A: &str = "crate::text"; const B: &str = r#"crate::"raw"#;
            fn f<'a>(x: &'a u8, c: char) -> Vec<crate::error::Error> { let q = '"'; let b = '\''; crate::a::b(); }
            pub(crate) fn g() { pub(in crate::fuse) x; r#type(); Vec::<crate::c::D>::new(); }
        "###;
        let expected = [(5, "error::Error"), (5, "a::b"), (6, "fuse"), (6, "c::D")];
        assert_eq!(local(source, &["z"]), found(&expected));
    }

    #[test]
    fn other_crates_are_told_apart() {
        let named = paths("use fuser::Session; let x = std::mem::take(y);", &["fuse"]);
        assert!(named.iter().all(|named| named.foreign));
        assert_eq!(named.iter().map(|n| n.path[0].as_str()).collect::<Vec<_>>(), ["fuser", "std"]);
    }

    #[test]
    fn modules_in_other_files_are_found_with_their_paths() {
        let source =
            "mod a; #[path = \"../b/mod.rs\"]\nmod b; mod tests { } #[cfg(test)] pub mod c; // mod d;";
        let declared =
            |name: &str, path: Option<&str>| Declared { name: name.into(), path: path.map(Into::into) };
        assert_eq!(
            modules(source),
            [declared("a", None), declared("b", Some("../b/mod.rs")), declared("c", None)]
        );
    }
}
