//! Bounds what an XML reader has to hold at once: overlong texts, attribute values and tags are cut while they pass by.
//!
//! A reader of events holds each event whole, and a file decides how long its events are. This filter knows just enough of
//! XML to see where texts, values, comments and tags begin and end, and lets only the beginning of each through.

use std::io::{self, BufRead, Read};

/// What of one piece passes, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Of a text or a CDATA section.
    pub text: usize,
    /// Of an attribute's value.
    pub value: usize,
    /// Of a tag beside its values, of a comment, a declaration.
    pub markup: usize,
    /// Of whatever the reader holds as one: reading more of it is an error.
    pub event: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Text,
    /// Behind `<`, when it is not clear yet of what.
    Open,
    Tag,
    Value(u8),
    CData,
    Comment,
    Instruction,
    /// `<!` of another kind: up to the next `>`.
    Other,
}

pub(crate) struct Trim<R> {
    inner: R,
    limits: Limits,
    place: Place,
    /// Bytes that have come of the piece at this place.
    passed: usize,
    /// The same of the tag that a value stands in.
    of_the_tag: usize,
    /// The bytes behind `<`, until it is clear what they open.
    opening: Vec<u8>,
    /// The last two bytes, to see where a section ends, or the last one, to see how a tag does.
    last: [u8; 2],
    /// How many of them are held back.
    held: usize,
    piece: Vec<u8>,
    out: Vec<u8>,
    position: usize,
    /// Bytes that the reader has taken since it began an event.
    of_the_event: usize,
    /// A piece was cut.
    pub cut: bool,
}

const CDATA: &[u8] = b"![CDATA[";
const COMMENT: &[u8] = b"!--";

impl<R: Read> Trim<R> {
    pub(crate) fn new(inner: R, limits: Limits) -> Trim<R> {
        Trim {
            inner,
            limits,
            place: Place::Text,
            passed: 0,
            of_the_tag: 0,
            opening: Vec::new(),
            last: [0; 2],
            held: 0,
            piece: vec![0; 16 << 10],
            out: Vec::new(),
            position: 0,
            of_the_event: 0,
            cut: false,
        }
    }

    /// The reader begins an event.
    pub(crate) fn begin(&mut self) {
        self.of_the_event = 0;
    }

    fn pass(&mut self, byte: u8, limit: usize) {
        if self.passed < limit {
            self.out.push(byte);
        } else {
            self.cut = true;
        }
        self.passed += 1;
    }

    /// How many bytes come before anything that could end the piece at this place.
    fn plain(&self, bytes: &[u8]) -> usize {
        let until = |ends: fn(u8) -> bool| {
            let end = bytes.iter().position(|&byte| ends(byte));
            end.unwrap_or(bytes.len())
        };
        match self.place {
            Place::Text => until(|byte| byte == b'<'),
            Place::Value(b'"') => until(|byte| byte == b'"'),
            Place::Value(_) => until(|byte| byte == b'\''),
            Place::Tag => until(|byte| matches!(byte, b'>' | b'"' | b'\'')),
            Place::Open | Place::CData | Place::Comment | Place::Instruction | Place::Other => 0,
        }
    }

    fn pass_all(&mut self, bytes: &[u8]) {
        let limit = match self.place {
            Place::Text => self.limits.text,
            Place::Value(_) => self.limits.value,
            _ => self.limits.markup,
        };
        let kept = bytes.len().min(limit - self.passed.min(limit));
        self.out.extend_from_slice(&bytes[..kept]);
        self.last[1] = bytes.last().copied().unwrap_or_default();
        self.passed += bytes.len();
        self.cut |= kept < bytes.len();
    }

    /// Passes whatever its length: it closes something.
    fn close(&mut self, bytes: &[u8], next: Place) {
        self.out.extend_from_slice(bytes);
        self.enter(next);
    }

    /// Closes a tag, in the same way where it was cut: `/>` is more than `>`.
    fn close_tag(&mut self) {
        if self.passed > self.limits.markup {
            let closes_itself = self.last[1] == b'/';
            self.out.push(if closes_itself { b'/' } else { b' ' });
        }
        self.close(b">", Place::Text);
    }

    fn enter(&mut self, place: Place) {
        self.place = place;
        self.passed = 0;
        self.last = [0; 2];
        self.held = 0;
    }

    fn take(&mut self, byte: u8) {
        let Limits {
            text,
            value,
            markup,
            ..
        } = self.limits;
        match self.place {
            Place::Text if byte == b'<' => {
                self.opening.clear();
                self.enter(Place::Open);
            }
            Place::Text => self.pass(byte, text),
            Place::Open => {
                self.opening.push(byte);
                let could_be = |what: &[u8]| what.starts_with(&self.opening);
                if could_be(CDATA) || could_be(COMMENT) {
                    let place = match &*self.opening {
                        CDATA => Place::CData,
                        COMMENT => Place::Comment,
                        _ => return,
                    };
                    self.opened(place);
                    return;
                }
                let place = match self.opening[0] {
                    b'!' => Place::Other,
                    b'?' => Place::Instruction,
                    _ => Place::Tag,
                };
                let opening = std::mem::take(&mut self.opening);
                self.out.push(b'<');
                self.enter(place);
                for byte in opening {
                    self.take(byte);
                }
            }
            Place::Tag if byte == b'>' => self.close_tag(),
            Place::Tag if byte == b'"' || byte == b'\'' => {
                self.out.push(byte);
                self.of_the_tag = self.passed;
                self.enter(Place::Value(byte));
            }
            Place::Tag => {
                self.pass(byte, markup);
                self.last[1] = byte;
            }
            Place::Value(quote) if byte == quote => {
                self.out.push(byte);
                self.enter(Place::Tag);
                self.passed = self.of_the_tag;
            }
            Place::Value(_) => self.pass(byte, value),
            Place::CData => self.section(byte, b"]]>", text),
            Place::Comment => self.section(byte, b"-->", markup),
            Place::Instruction => self.section(byte, b"?>", markup),
            Place::Other if byte == b'>' => self.close(b">", Place::Text),
            Place::Other => self.pass(byte, markup),
        }
    }

    fn opened(&mut self, place: Place) {
        self.out.push(b'<');
        let opening = std::mem::take(&mut self.opening);
        self.out.extend_from_slice(&opening);
        self.enter(place);
    }

    /// A section that ends with two or three bytes. All but one are held back until it is clear that they do not end it.
    fn section(&mut self, byte: u8, end: &[u8], limit: usize) {
        let first = self.last.len() - self.held;
        if self.held + 1 < end.len() {
            self.held += 1;
        } else if self.last[first..] == end[..self.held] && byte == end[self.held] {
            self.close(end, Place::Text);
            return;
        } else {
            self.pass(self.last[first], limit);
        }
        self.last = [self.last[1], byte];
    }

    /// The input has ended: what was held back is all that is left.
    fn end(&mut self) {
        let held = &self.last[self.last.len() - self.held..];
        self.out.extend_from_slice(held);
        self.held = 0;
        if self.place == Place::Open {
            self.out.push(b'<');
            let opening = std::mem::take(&mut self.opening);
            self.out.extend_from_slice(&opening);
            self.place = Place::Text;
        }
    }
}

impl<R: Read> BufRead for Trim<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.of_the_event > self.limits.event {
            return Err(io::Error::other("it is too long"));
        }
        while self.position == self.out.len() {
            self.out.clear();
            self.position = 0;
            let read = match self.inner.read(&mut self.piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                self.end();
                break;
            }
            let piece = std::mem::take(&mut self.piece);
            let mut rest = &piece[..read];
            while let Some((&byte, behind)) = rest.split_first() {
                let plain = self.plain(rest);
                if plain > 0 {
                    self.pass_all(&rest[..plain]);
                    rest = &rest[plain..];
                } else {
                    self.take(byte);
                    rest = behind;
                }
            }
            self.piece = piece;
        }
        Ok(&self.out[self.position..])
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
        self.of_the_event += amount;
    }
}

impl<R: Read> Read for Trim<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut from = self.fill_buf()?;
        let read = from.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        text: 8,
        value: 4,
        markup: 12,
        event: 1 << 10,
    };

    fn trimmed(text: &str) -> (String, bool) {
        let mut trim = Trim::new(text.as_bytes(), LIMITS);
        let mut out = String::new();
        trim.read_to_string(&mut out).expect("a string can be read");
        (out, trim.cut)
    }

    #[test]
    fn what_is_short_passes_unchanged() {
        for text in [
            "<a b=\"1\" c='2'>text<![CDATA[x]]]]>y</a>",
            "<?xml?><!-- - -->",
            "<a>",
            "<",
            "<!",
            "<![CDATA[]]",
            "a<b",
            "<!--",
            "<a b='>'/>",
            "<![CDATA[\0]\0]>\0\0]]>",
            "<!--\0",
            "<?>",
            "<? a='> ?",
        ] {
            assert_eq!(trimmed(text), (text.to_owned(), false));
        }
    }

    #[test]
    fn what_is_long_is_cut_in_its_place() {
        for (text, kept) in [
            ("0123456789<a/>", "01234567<a/>"),
            ("<a b='012345' c=\"x\"/>", "<a b='0123' c=\"x\"/>"),
            ("<![CDATA[0123456789]]>z", "<![CDATA[01234567]]>z"),
            ("<!--0123456789abcdef--><a/>", "<!--0123456789ab--><a/>"),
            ("<abcdefghijklmnop x>", "<abcdefghijkl >"),
            ("<abcdefghijklmnop x/>", "<abcdefghijkl/>"),
            ("<abcdefghijk/mnop x>", "<abcdefghijk/ >"),
            ("<?abcdefghi>jklmnop?>", "<?abcdefghi>j?>"),
        ] {
            assert_eq!(trimmed(text), (kept.to_owned(), true));
        }
    }
}
