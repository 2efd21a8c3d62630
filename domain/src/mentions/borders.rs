//! Where words begin and end, as mentions see it: by the rules of UAX #29, which this module adapts as follows, as the
//! annex allows (its section 4, "Tailoring").
//!
//! * Scripts that don't put spaces between words have a border where the script changes, and none within it: nobody can
//!   tell there without a dictionary. Korean is one of them, because it appends particles to names.
//! * Apostrophes and colons are borders: "@bob's" and "@bob: hi" mention bob.
//! * An underscore joins whatever it stands between.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};
use unicode_script::{Script, UnicodeScript};
use unicode_segmentation::UnicodeSegmentation;

/// The scripts that don't put a space between a name and the words around it.
const UNSPACED_SCRIPTS: [Script; 21] = [
    Script::Han,
    Script::Hiragana,
    Script::Katakana,
    Script::Bopomofo,
    Script::Hangul,
    Script::Yi,
    Script::Thai,
    Script::Lao,
    Script::Khmer,
    Script::Myanmar,
    Script::Tibetan,
    Script::Javanese,
    Script::Balinese,
    Script::Sundanese,
    Script::New_Tai_Lue,
    Script::Tai_Le,
    Script::Tai_Tham,
    Script::Tai_Viet,
    Script::Cham,
    Script::Nushu,
    Script::Tangut,
];

/// The borders of the words of a text.
pub(super) struct WordBorders<'a> {
    text: &'a str,
    /// Where words begin by UAX #29, in order.
    word_starts: Vec<usize>,
}

impl<'a> WordBorders<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, word_starts: text.split_word_bound_indices().map(|(start, _)| start).collect() }
    }

    /// Whether a word leads up to the `@` at this index, as in an e-mail address.
    pub(super) fn is_inside_word(&self, at: usize) -> bool {
        // No address of these scripts does so. People write them right before an `@`.
        last_letter(&self.text[..at]).is_some_and(|letter| is_word_character(letter) && !is_unspaced(letter))
    }

    /// Whether a name that ends at this index ends with a word.
    pub(super) fn is_end(&self, at: usize) -> bool {
        let mut rest = self.text[at..].char_indices().skip_while(|(_, character)| is_format(*character));
        let Some((skipped, after)) = rest.next() else { return true };
        let Some(before) = last_letter(&self.text[..at]) else { return true };
        if is_mark(after) {
            return false;
        }
        if is_word_character(before) && is_word_character(after) {
            return is_change_of_script(before, after) && (is_unspaced(before) || is_unspaced(after));
        }
        matches!(after, '\'' | '’' | ':') || self.word_starts.binary_search(&(at + skipped)).is_ok()
    }
}

/// The last character, without the marks on it and the format characters behind it (UAX #29, rule WB4).
fn last_letter(text: &str) -> Option<char> {
    text.chars().rev().find(|character| !is_mark(*character) && !is_format(*character))
}

/// Whether a character belongs to the letter before it, such as an accent or the sign of a vowel.
pub(super) fn is_mark(character: char) -> bool {
    character.general_category_group() == GeneralCategoryGroup::Mark
}

/// Whether a character is invisible and separates nothing. The zero-width space is there to separate words.
fn is_format(character: char) -> bool {
    character != '\u{200b}' && character.general_category() == GeneralCategory::Format
}

fn is_joiner(character: char) -> bool {
    character.general_category() == GeneralCategory::ConnectorPunctuation
}

fn is_word_character(character: char) -> bool {
    character.is_alphanumeric() || is_joiner(character)
}

fn is_unspaced(letter: char) -> bool {
    let scripts = letter.script_extension();
    // A character of all scripts, such as a digit, is in none of them.
    !scripts.is_common() && UNSPACED_SCRIPTS.iter().any(|script| scripts.contains_script(*script))
}

fn is_change_of_script(before: char, after: char) -> bool {
    if is_joiner(before) || is_joiner(after) {
        return false;
    }
    let shared = before.script_extension().intersection(after.script_extension());
    before.is_numeric() != after.is_numeric() || shared.is_empty()
}
