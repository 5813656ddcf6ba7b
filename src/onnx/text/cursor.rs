//! The characters of the text: blanks, comments, names, strings, numbers.

use super::super::LoadError;
use super::is_float_word;

pub(super) type Parsed<T> = Result<T, LoadError>;

/// A number or string as it stands in the text.
#[derive(Debug, PartialEq)]
pub(super) enum Literal<'a> {
    Int(&'a str),
    Float(&'a str),
    Str(Vec<u8>),
}

/// Deepest nesting of graphs and types; far more than a protobuf reader accepts.
const MAX_DEPTH: u32 = 32;

/// A place in the text.
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    depth: u32,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8]) -> Cursor<'a> {
        Cursor { text, at: 0, depth: 0 }
    }

    /// An error at this place.
    pub(super) fn fail<T>(&self, what: impl Into<String>) -> Parsed<T> {
        let line = 1 + self.text[..self.at].iter().filter(|&&b| b == b'\n').count();
        Err(LoadError::Text { line, what: what.into() })
    }

    /// An error that says what should stand here.
    pub(super) fn expected<T>(&self, what: &str) -> Parsed<T> {
        let rest = &self.text[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()).min(30);
        match String::from_utf8_lossy(&rest[..end]).trim_end() {
            "" if rest.is_empty() => self.fail(format!("expected {what}, but the text ends")),
            found => self.fail(format!("expected {what}, found `{found}`")),
        }
    }

    /// Runs `f` one level deeper.
    pub(super) fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            return self.fail("graphs or types are nested too deeply");
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    fn current(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn skip_blanks(&mut self) {
        while self.at < self.text.len() {
            match self.text[self.at] {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => self.at += 1,
                b'#' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
                }
                _ => break,
            }
        }
    }

    /// The next character that is no blank; 0 at the end.
    pub(super) fn peek(&mut self) -> u8 {
        self.skip_blanks();
        self.current()
    }

    pub(super) fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.at >= self.text.len()
    }

    /// Takes `c` if it comes next.
    pub(super) fn eat(&mut self, c: u8) -> bool {
        let found = !self.at_end() && self.current() == c;
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, c: u8) -> Parsed<()> {
        match self.eat(c) {
            true => Ok(()),
            false => self.expected(&format!("`{}`", char::from(c))),
        }
    }

    /// Takes `=>`.
    pub(super) fn arrow(&mut self) -> Parsed<()> {
        self.skip_blanks();
        if !self.text[self.at..].starts_with(b"=>") {
            return self.expected("`=>`");
        }
        self.at += 2;
        Ok(())
    }

    /// Takes `...`.
    pub(super) fn eat_dots(&mut self) -> bool {
        self.skip_blanks();
        let found = self.text[self.at..].starts_with(b"...");
        self.at += if found { 3 } else { 0 };
        found
    }

    /// The word that comes next, not taken: a letter or `_`, then letters, digits, `_`.
    pub(super) fn peek_word(&mut self) -> Option<&'a str> {
        self.skip_blanks();
        let rest = &self.text[self.at..];
        let first = rest.first()?;
        if !first.is_ascii_alphabetic() && *first != b'_' {
            return None;
        }
        let end = rest.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_');
        std::str::from_utf8(&rest[..end.unwrap_or(rest.len())]).ok()
    }

    pub(super) fn word(&mut self) -> Option<&'a str> {
        let word = self.peek_word()?;
        self.at += word.len();
        Some(word)
    }

    pub(super) fn expect_word(&mut self, what: &str) -> Parsed<&'a str> {
        match self.word() {
            Some(word) => Ok(word),
            None => self.expected(what),
        }
    }

    /// A word or a quoted name.
    pub(super) fn name(&mut self) -> Parsed<Option<String>> {
        match self.peek() {
            b'"' => self.string().map(Some),
            _ => Ok(self.word().map(str::to_owned)),
        }
    }

    pub(super) fn expect_name(&mut self, what: &str) -> Parsed<String> {
        match self.name()? {
            Some(name) => Ok(name),
            None => self.expected(what),
        }
    }

    /// Words joined by dots, any of them quoted.
    pub(super) fn dotted(&mut self, what: &str) -> Parsed<(String, String)> {
        let (mut domain, mut last) = (String::new(), self.expect_name(what)?);
        while self.eat(b'.') {
            if !domain.is_empty() {
                domain.push('.');
            }
            domain.push_str(&last);
            last = self.expect_name(what)?;
        }
        Ok((domain, last))
    }

    /// A quoted string that is UTF-8.
    pub(super) fn string(&mut self) -> Parsed<String> {
        let bytes = self.bytes()?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(_) => self.fail("a string is not UTF-8"),
        }
    }

    /// A quoted string. A backslash makes the next character plain; `\xHH` is a byte.
    pub(super) fn bytes(&mut self) -> Parsed<Vec<u8>> {
        if self.peek() != b'"' {
            return self.expected("a quoted string");
        }
        let start = self.at;
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let Some(&c) = self.text.get(self.at) else {
                self.at = start;
                return self.fail("a string is not closed");
            };
            self.at += 1;
            match c {
                b'"' => return Ok(out),
                b'\\' => match self.escaped_byte() {
                    Some(byte) => out.push(byte),
                    None => {
                        out.extend(self.text.get(self.at));
                        self.at += 1;
                    }
                },
                _ => out.push(c),
            }
        }
    }

    fn escaped_byte(&mut self) -> Option<u8> {
        let rest = self.text.get(self.at..self.at + 3)?;
        let digits = rest.strip_prefix(b"x").filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
        let byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        self.at += 3;
        Some(byte)
    }

    /// A number or string.
    pub(super) fn literal(&mut self) -> Parsed<Literal<'a>> {
        if self.peek() == b'"' {
            return self.bytes().map(Literal::Str);
        }
        let start = self.at;
        self.at += usize::from(self.current() == b'-');
        let is_float = match self.current() {
            b'0'..=b'9' => self.digits(),
            c if c.is_ascii_alphabetic() => {
                let word = self.word().unwrap_or_default();
                if !is_float_word(word) {
                    self.at = start;
                    return self.expected("a number");
                }
                true
            }
            _ => {
                self.at = start;
                return self.expected("a number or string");
            }
        };
        let text = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        Ok(if is_float { Literal::Float(text) } else { Literal::Int(text) })
    }

    /// Takes digits, a fraction and an exponent; whether there was one of the latter two.
    fn digits(&mut self) -> bool {
        let start = self.at;
        let mut float = false;
        while self.current().is_ascii_digit() || (self.current() == b'.' && !float) {
            float |= self.current() == b'.';
            self.at += 1;
        }
        if self.at > start && matches!(self.current(), b'e' | b'E') {
            float = true;
            self.at += 1;
            self.at += usize::from(matches!(self.current(), b'+' | b'-'));
            while self.current().is_ascii_digit() {
                self.at += 1;
            }
        }
        float
    }

    /// An integer.
    pub(super) fn int(&mut self) -> Parsed<i64> {
        match self.literal()? {
            Literal::Int(text) => match text.parse() {
                Ok(n) => Ok(n),
                Err(_) => self.fail(format!("{text} does not fit 64 bits")),
            },
            _ => self.fail("expected an integer"),
        }
    }

    /// A number as a float; too large ones are errors.
    pub(super) fn float<T: std::str::FromStr + Into<f64> + Copy>(&self, text: &str) -> Parsed<T> {
        let parsed = text.parse::<T>().ok();
        let sound = |v: &T| !(*v).into().is_infinite() || text.ends_with(['f', 'y', 'F', 'Y']);
        match parsed.filter(sound) {
            Some(v) => Ok(v),
            None => self.fail(format!("{text} is no number of this type")),
        }
    }

    /// Items separated by commas up to `close`, which is taken.
    pub(super) fn list<T>(
        &mut self,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let mut out = Vec::new();
        if self.eat(close) {
            return Ok(out);
        }
        loop {
            out.push(item(self)?);
            if self.eat(close) {
                return Ok(out);
            }
            if !self.eat(b',') {
                return self.expected(&format!("`,` or `{}`", char::from(close)));
            }
        }
    }
}
