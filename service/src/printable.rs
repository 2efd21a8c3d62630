//! Text of others, such as of records, headers and error messages, where people read it: in logs and on terminals.
//!
//! A control character could clear the screen, or forge a line. A bidirectional override shows text in another order
//! than it has. Everything that a person reads is therefore escaped, where it is printed.

use std::borrow::Cow;
use std::fmt::Write;
use std::io;

use domain::is_format_character;

/// The text with every character escaped that a terminal doesn't show as itself: `\n` for a line break, and otherwise
/// `\u` with four digits, as in JSON.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            character if is_unprintable(character) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing to a string never fails.
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
            character => escaped.push(character),
        }
    }
    Cow::Owned(escaped)
}

/// Whether a terminal doesn't show a character as itself: a control, a line or paragraph separator, or a format
/// character. The joiners U+200C and U+200D are part of words and emojis.
fn is_unprintable(character: char) -> bool {
    let is_joiner = matches!(character, '\u{200c}' | '\u{200d}');
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}')
        || (is_format_character(character) && !is_joiner)
}

/// Escapes lines of JSON, each on its own. JSON has such characters only in its strings, where the escapes mean the same.
pub(crate) struct EscapedJsonLines<W>(pub(crate) W);

impl<W: io::Write> io::Write for EscapedJsonLines<W> {
    /// Takes whole lines: the logs write each event at once.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        for line in text.split_inclusive('\n') {
            let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
            self.0.write_all(format!("{}{end}", escaped(line)).as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn nothing_in_a_text_moves_the_cursor_or_reverses_what_follows() {
        let hostile = "a\u{1b}[2Jb\nc\r\td\u{7f}e\u{9b}31mf\u{2028}g\u{202e}h\u{2066}i\u{feff}j\u{e0041}k\0";
        let expected =
            "a\\u001b[2Jb\\nc\\r\\td\\u007fe\\u009b31mf\\u2028g\\u202eh\\u2066i\\ufeffj\\udb40\\udc41k\\u0000";
        assert_eq!(escaped(hostile), expected);
        for plain in ["it's 5 °C, \"really\" \\ ✓", "日本語", "नमस्ते\u{200d}", "👩\u{200d}👩\u{200d}👧", "שלום"]
        {
            assert_eq!(escaped(plain), plain);
        }
    }

    #[test]
    fn a_line_of_json_keeps_its_meaning() {
        let line = "{\"reason\":\"\u{202e}\u{9b}\\n\"}\n";
        let mut written = Vec::new();
        EscapedJsonLines(&mut written).write_all(line.as_bytes()).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert_eq!(written, "{\"reason\":\"\\u202e\\u009b\\n\"}\n");
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        assert_eq!(parse(&written), parse(line));
    }
}
