//! What counts as an emoji.

use unicode_segmentation::UnicodeSegmentation;

use crate::limits;

const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// Whether a text is exactly one emoji: one extended grapheme cluster (UAX #29) of at most
/// [`limits::EMOJI_BYTES`] bytes that is an emoji of UTS #51, or several joined to one.
pub fn is_emoji(text: &str) -> bool {
    if text.len() > limits::EMOJI_BYTES || text.graphemes(true).count() != 1 {
        return false;
    }
    text.split(ZERO_WIDTH_JOINER).all(|part| emojis::get(part).is_some()) || emojis::get(text).is_some()
}
