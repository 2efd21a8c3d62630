//! Which texts people can see, and which characters are safe to show beside other texts.

/// Whether a text shows nothing, in any font: it consists of white space, controls, and characters without a shape.
pub(crate) fn is_blank(text: &str) -> bool {
    text.chars().all(|character| character.is_whitespace() || character.is_control() || has_no_shape(character))
}

/// Whether fonts show nothing for a character that isn't white space: the property `Default_Ignorable_Code_Point` of
/// Unicode (DerivedCoreProperties.txt), the annotation characters, and signs that are blank by their meaning.
fn has_no_shape(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
            | '\u{fff9}'..='\u{fffb}'
            // Braille without dots, the Khitan filler, and a note without a head.
            | '\u{2800}' | '\u{16fe4}' | '\u{1d159}')
}

/// Whether a character only changes how other characters look, such as a bidirectional override.
pub fn is_format_character(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether a character may hide or reorder what stands around it, or begin a new line. A text of one line, which others
/// see in lists and beside other texts, must not have any: controls, line and paragraph separators, the controls of
/// bidirectional text that embed, override or isolate, and the deprecated format characters.
pub(crate) fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_characters_without_a_shape_are_blank() {
        for text in [
            "",
            " \t\r\n\u{a0}\u{2003}\u{3000}",
            "\u{85}\u{2028}\u{1680}",
            "\u{200b}",
            "\u{2060}\u{feff}",
            "\u{2800}",
            "\u{3164}",
            "\u{ffa0}\u{115f}\u{1160}",
            "\u{ad}\u{34f}\u{61c}\u{180e}",
            "\u{fe0f}\u{fe00}",
            "\u{202e}\u{2066}",
            "\u{e0001}\u{e0020}\u{e01ef}",
            "\u{1d159}\u{1d173}",
            "\u{17b4}",
            "\u{fff9}\u{fffb}",
            "\0\u{7}\u{9f}",
            " \u{200b}\n\u{3164} ",
        ] {
            assert!(is_blank(text), "{}", text.escape_unicode());
        }
    }

    #[test]
    fn a_text_with_anything_to_see_is_not_blank() {
        for text in
            [".", "\u{200b}a", "👍", "ᅟ가", "用", "\u{301}", "\u{2801}", "\u{600}", "\u{e000}", "\u{fffd}", "\u{fffc}"]
        {
            assert!(!is_blank(text), "{}", text.escape_unicode());
        }
    }

    #[test]
    fn a_character_that_reorders_or_breaks_a_line_is_a_control() {
        let controls = "\0\t\n\r\u{1b}\u{7f}\u{85}\u{9f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{206a}\u{fff9}";
        for character in controls.chars() {
            assert!(is_control(character), "{}", character.escape_unicode());
        }
        // Hebrew and Arabic names need the marks, Persian and Hindi words the joiners, and flags the tags.
        for character in "a é用👍\u{a0}\u{200c}\u{200d}\u{200e}\u{200f}\u{61c}\u{301}\u{fe0f}\u{e0067}".chars() {
            assert!(!is_control(character), "{}", character.escape_unicode());
        }
    }
}
