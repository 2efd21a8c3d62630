//! Tells whether a text is exactly one emoji, which is all that a reaction may contain.

use unicode_segmentation::UnicodeSegmentation;

use crate::limits;

const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// Whether a text is exactly one emoji: one extended grapheme cluster (UAX #29) of at most [`limits::MAX_EMOJI_BYTES`]
/// bytes that is an emoji of UTS #51, or several emoji joined to one.
pub fn is_emoji(text: &str) -> bool {
    if text.len() > limits::MAX_EMOJI_BYTES || text.graphemes(true).count() != 1 {
        return false;
    }
    text.split(ZERO_WIDTH_JOINER).all(|part| emojis::get(part).is_some()) || emojis::get(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_emoji_of_any_kind_is_accepted() {
        for emoji in [
            "👍",
            "🎉",
            "☺",
            "☺\u{fe0f}",
            "❤\u{fe0f}",
            "©\u{fe0f}",
            "👍🏽",
            "🇨🇭",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "1\u{fe0f}\u{20e3}",
            "#\u{fe0f}\u{20e3}",
            "👩\u{200d}💻",
            "👩🏽\u{200d}💻",
            "👨\u{200d}👩\u{200d}👧\u{200d}👦",
            "❤\u{fe0f}\u{200d}🔥",
            "🏳\u{fe0f}\u{200d}🌈",
            "🧑🏻\u{200d}🤝\u{200d}🧑🏿",
        ] {
            assert!(is_emoji(emoji), "{emoji} {}", emoji.escape_unicode());
        }
    }

    #[test]
    fn other_texts_and_several_emoji_are_refused() {
        for text in [
            "",
            " ",
            "a",
            "Z",
            "1",
            "#",
            "*",
            "é",
            "用",
            ":)",
            "👍👍",
            "👍 ",
            " 👍",
            "👍a",
            "🇨",
            "🇨🇭🇨🇭",
            "\u{fe0f}",
            "\u{200d}",
            "👍\u{200d}",
            "\u{200d}👍",
            "a\u{200d}👍",
            "👍\u{301}",
            "a\u{20e3}",
            "\u{1f3fd}\u{1f3fd}",
            "👍\0",
        ] {
            assert!(!is_emoji(text), "{text} {}", text.escape_unicode());
        }
    }

    #[test]
    fn an_emoji_has_up_to_32_bytes() {
        let couple = "👩\u{200d}❤\u{fe0f}\u{200d}💋\u{200d}👩";
        assert!(couple.len() <= limits::MAX_EMOJI_BYTES && is_emoji(couple));
        let toned = "👩🏽\u{200d}❤\u{fe0f}\u{200d}💋\u{200d}👨🏽";
        assert!(toned.len() > limits::MAX_EMOJI_BYTES && !is_emoji(toned));
    }
}
