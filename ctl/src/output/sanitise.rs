//! Text that came from elsewhere, made safe to print on a terminal: it cannot move the cursor, change the title, hide
//! what was printed before, or turn the direction of the text.

use std::borrow::Cow;
use std::fmt::Write;

/// One line: every control character becomes visible.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            '\r' => safe.push_str("\\r"),
            c if is_dangerous(c) && u32::from(c) < 0x100 => {
                // Writing to a String cannot fail.
                let _ = write!(safe, "\\x{:02x}", u32::from(c));
            }
            c if is_dangerous(c) => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Control characters, and those that turn the direction of the text or cannot be seen.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A stream of bytes on its way to a terminal: text, line ends, tabs and colours pass; other escapes are left out.
/// Sequences may be cut anywhere between two pieces.
#[derive(Debug, Default)]
pub struct Filter {
    state: State,
    /// Bytes of a character or sequence that is not whole yet.
    pending: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// In `ESC [ …`.
    Sequence,
    /// In a string (title, hyperlink …) that goes on to BEL or `ESC \`.
    Title,
    /// In such a string, after an ESC.
    TitleEnd,
}

/// A colour sequence is never longer than this.
const LONGEST: usize = 64;

impl Filter {
    /// What of `bytes` (after what came before) may be printed.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut safe = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.step(byte, &mut safe);
        }
        safe
    }

    fn step(&mut self, byte: u8, safe: &mut Vec<u8>) {
        match self.state {
            State::Text => self.text(byte, safe),
            State::Escape => {
                self.state = match byte {
                    b'[' => State::Sequence,
                    b']' | b'P' | b'X' | b'^' | b'_' => State::Title,
                    // ESC with intermediates (character sets): wait for the last byte.
                    0x20..=0x2f | 0x1b => State::Escape,
                    _ => State::Text,
                };
                self.pending.clear();
            }
            State::Sequence => self.sequence(byte, safe),
            State::Title => match byte {
                0x07 | b'\n' => self.state = State::Text,
                0x1b => self.state = State::TitleEnd,
                _ => {}
            },
            State::TitleEnd => self.state = if byte == b'\\' { State::Text } else { State::Title },
        }
    }

    fn text(&mut self, byte: u8, safe: &mut Vec<u8>) {
        match byte {
            0x1b => {
                self.give_up(safe);
                self.state = State::Escape;
            }
            b'\n' | b'\r' | b'\t' | 0x20..=0x7e => {
                self.give_up(safe);
                safe.push(byte);
            }
            0x00..=0x1f | 0x7f => self.give_up(safe),
            0x80.. => self.character(byte, safe),
        }
    }

    /// A byte of a character of more than one.
    fn character(&mut self, byte: u8, safe: &mut Vec<u8>) {
        if byte >= 0xc0 {
            self.give_up(safe);
        }
        self.pending.push(byte);
        match std::str::from_utf8(&self.pending) {
            Ok(text) => {
                if !text.chars().any(is_dangerous) {
                    safe.extend_from_slice(&self.pending);
                }
                self.pending.clear();
            }
            Err(error) if error.error_len().is_some() || self.pending.len() >= 4 => self.give_up(safe),
            Err(_) => {}
        }
    }

    fn sequence(&mut self, byte: u8, safe: &mut Vec<u8>) {
        match byte {
            b'0'..=b'9' | b';' | b':' if self.pending.len() < LONGEST => self.pending.push(byte),
            0x40..=0x7e => {
                let plain = self.pending.iter().all(|b| b.is_ascii_digit() || *b == b';' || *b == b':');
                if byte == b'm' && plain {
                    safe.extend_from_slice(b"\x1b[");
                    safe.append(&mut self.pending);
                    safe.push(b'm');
                }
                self.pending.clear();
                self.state = State::Text;
            }
            // Anything else makes it something other than a colour; a line end ends it.
            b'\n' => {
                self.pending.clear();
                self.state = State::Text;
                safe.push(byte);
            }
            0x1b => {
                self.pending.clear();
                self.state = State::Escape;
            }
            _ => {
                self.pending.truncate(LONGEST);
                self.pending.push(b'?');
            }
        }
    }

    /// What began a character was none.
    fn give_up(&mut self, safe: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            self.pending.clear();
            safe.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_what_it_must_not_do() {
        let table = [
            ("plain ünïcode 山", "plain ünïcode 山"),
            ("a\u{1b}[2Jb", "a\\x1b[2Jb"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("c1 \u{9b}2J", "c1 \\x9b2J"),
            ("turned \u{202e}txt", "turned \\u{202e}txt"),
            ("bell\u{7}", "bell\\x07"),
        ];
        for (text, expected) in table {
            assert_eq!(line(text), expected);
        }
    }

    const STREAMS: [(&[u8], &str); 14] = [
        (b"plain\ttext\r\n", "plain\ttext\r\n"),
        ("ünï 山 🙂".as_bytes(), "ünï 山 🙂"),
        (b"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        (b"\x1b[2Jcleared", "cleared"),
        (b"\x1b[?25lhidden", "hidden"),
        (b"\x1b]0;title\x07after", "after"),
        (b"\x1b]8;;http://x\x1b\\link", "link"),
        (b"\x1bPdevice\x1b\\after", "after"),
        (b"\x1b(Bset", "set"),
        (b"a\x07\x08b\x7f", "ab"),
        ("c1 \u{9b}2J".as_bytes(), "c1 2J"),
        (b"bad \xff\xc3( \xe5\xb1", "bad \u{fffd}\u{fffd}( "),
        (b"\x1b[12;\nline", "\nline"),
        ("turn \u{202e}x".as_bytes(), "turn x"),
    ];

    #[test]
    fn a_stream_keeps_text_and_colours_and_loses_the_rest() {
        for (bytes, expected) in STREAMS {
            assert_eq!(String::from_utf8(Filter::default().pass(bytes)).unwrap(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn it_does_not_matter_where_a_stream_is_cut() {
        for (bytes, expected) in STREAMS {
            let mut filter = Filter::default();
            let safe: Vec<u8> = bytes.iter().flat_map(|byte| filter.pass(&[*byte])).collect();
            assert_eq!(String::from_utf8(safe).unwrap(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_sequence_without_end_takes_no_memory() {
        let mut filter = Filter::default();
        assert!(filter.pass(b"\x1b[").is_empty());
        assert!(filter.pass(&[b'1'; 10_000]).is_empty());
        assert!(filter.pending.len() <= LONGEST + 1);
        assert!(filter.pass(b"m").is_empty());
    }
}
