//! Tells whether a text is exactly one emoji, which is all that a reaction may contain, and which emoji are the same.

use unicode_segmentation::UnicodeSegmentation;

use crate::limits;

const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// Whether a text is exactly one emoji: one extended grapheme cluster (UAX #29) of at most [`limits::MAX_EMOJI_BYTES`]
/// bytes that is an emoji of UTS #51, or several emoji joined to one. Variation selectors don't matter.
pub fn is_emoji(text: &str) -> bool {
    if text.len() > limits::MAX_EMOJI_BYTES || text.graphemes(true).count() != 1 || has_stray_selector(text) {
        return false;
    }
    let plain: String = without_selectors(text).collect();
    is_listed(&plain) || plain.split(ZERO_WIDTH_JOINER).all(is_listed)
}

/// Whether two emoji are the same: they differ at most in variation selectors. `❤` and `❤️` look alike on many systems,
/// and keyboards differ in which of them they send.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    without_selectors(one).eq(without_selectors(other))
}

/// Whether UTS #51 lists a text, which has no variation selectors, as an emoji.
fn is_listed(text: &str) -> bool {
    emojis::get(text).is_some()
}

/// Whether a character is U+FE0E or U+FE0F, which ask for the text or the emoji form of the character before it.
fn is_selector(character: char) -> bool {
    matches!(character, '\u{fe0e}' | '\u{fe0f}')
}

fn without_selectors(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(|character| !is_selector(*character))
}

/// Whether a variation selector follows nothing that it could select a form of.
fn has_stray_selector(text: &str) -> bool {
    let mut follows_base = false;
    text.chars().any(|character| {
        let is_stray = is_selector(character) && !follows_base;
        follows_base = !is_selector(character) && character != ZERO_WIDTH_JOINER;
        is_stray
    })
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
            "❤\u{fe0e}",
            "❤\u{fe0f}",
            "©\u{fe0f}",
            "👍🏽",
            "🇨🇭",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "1\u{fe0f}\u{20e3}",
            "#\u{fe0f}\u{20e3}",
            "*\u{20e3}",
            "👩\u{200d}💻",
            "👩🏽\u{200d}💻",
            "👨\u{200d}👩\u{200d}👧\u{200d}👦",
            "❤\u{fe0f}\u{200d}🔥",
            "🏳\u{fe0f}\u{200d}🌈",
            "🏳\u{200d}⚧",
            "🧑🏻\u{200d}🤝\u{200d}🧑🏿",
            "👩🏽\u{200d}❤\u{fe0f}\u{200d}💋\u{200d}👨🏽",
            "👨🏿\u{200d}👩🏻\u{200d}👧🏽\u{200d}👦🏾",
            "🏃🏽\u{200d}♀\u{fe0f}\u{200d}➡\u{fe0f}",
            "\u{1fae9}",
            "\u{1fac8}",
        ] {
            assert!(is_emoji(emoji), "{emoji} {}", emoji.escape_unicode());
        }
    }

    #[test]
    fn every_listed_emoji_is_accepted_in_each_skin_tone_and_without_selectors() {
        let mut tested = 0;
        for emoji in emojis::iter().flat_map(|emoji| emoji.skin_tones().map_or(vec![emoji], Iterator::collect)) {
            let plain: String = without_selectors(emoji.as_str()).collect();
            assert!(is_emoji(emoji.as_str()) && is_emoji(&plain), "{emoji}");
            assert!(is_same(emoji.as_str(), &plain), "{emoji}");
            tested += 1;
        }
        assert!(tested > 3_700, "{tested}");
    }

    #[test]
    fn other_texts_and_several_emoji_are_refused() {
        for text in [
            "",
            " ",
            "a",
            "Z",
            "1",
            "1\u{fe0f}",
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
            "\u{fe0f}❤",
            "❤\u{fe0f}\u{fe0f}",
            "❤\u{fe0e}\u{fe0f}",
            "❤\u{200d}\u{fe0f}🔥",
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
    fn an_emoji_has_up_to_64_bytes() {
        let joined = |count: usize| vec!["👍🏽"; count].join("\u{200d}");
        assert_eq!(joined(6).len(), 63);
        assert!(is_emoji(&joined(6)));
        assert!(is_emoji(&format!("{}\u{200d}☺", joined(5))), "58 bytes");
        assert!(!is_emoji(&format!("{}\u{fe0f}", joined(6))), "66 bytes");
    }

    #[test]
    fn emoji_that_differ_only_in_variation_selectors_are_the_same() {
        for (one, other) in [
            ("❤", "❤\u{fe0f}"),
            ("❤\u{fe0e}", "❤\u{fe0f}"),
            ("☺\u{fe0f}", "☺"),
            ("1\u{fe0f}\u{20e3}", "1\u{20e3}"),
            ("🏳\u{fe0f}\u{200d}🌈", "🏳\u{200d}🌈"),
            ("👁\u{fe0f}\u{200d}🗨\u{fe0f}", "👁\u{200d}🗨\u{fe0f}"),
            ("🕵🏽\u{200d}♂", "🕵🏽\u{200d}♂\u{fe0f}"),
        ] {
            assert!(is_same(one, other) && is_same(other, one), "{one} {other}");
            assert!(is_emoji(one) && is_emoji(other), "{one} {other}");
        }
        for (one, other) in
            [("❤", "💛"), ("👍", "👍🏽"), ("👍🏽", "👍🏾"), ("🏳\u{fe0f}", "🏳\u{fe0f}\u{200d}🌈"), ("1\u{20e3}", "2\u{20e3}")]
        {
            assert!(!is_same(one, other), "{one} {other}");
        }
    }
}
