//! Whom texts mention, by tables of cases and by laws.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

fn mentioned<'a>(text: &str, participants: &'a [&'a str]) -> Vec<&'a str> {
    mentioned_users(text, participants).into_iter().copied().collect()
}

/// What the documentation says of texts without code, addresses with a slash, and other letters, at any cost.
fn expected_mentions<'a>(text: &str, participants: &'a [String]) -> Vec<&'a str> {
    let text: Vec<char> = text.chars().collect();
    let (mut expected, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let is_start = text[at] == '@' && !(at > 0 && matches!(text[at - 1], 'a' | 'b' | 'é' | '_'));
        at += 1;
        let fits = |id: &&String| {
            let id: Vec<char> = id.chars().collect();
            text[at..].starts_with(&id) && is_expected_end(&text, at + id.len())
        };
        let longest = participants.iter().filter(fits).max_by_key(|id| id.len());
        let Some(longest) = longest.filter(|_| is_start) else { continue };
        at += longest.chars().count();
        if !expected.contains(&longest.as_str()) {
            expected.push(longest.as_str());
        }
    }
    expected.truncate(limits::MAX_MENTIONS + 1);
    expected
}

fn is_expected_end(text: &[char], end: usize) -> bool {
    let is_latin = |at: usize| matches!(text.get(at), Some('a' | 'b' | 'é'));
    match (text[end - 1], text.get(end)) {
        (_, None) => true,
        ('_', Some('a' | 'b' | 'é' | '用' | '_')) | ('a' | 'b' | 'é' | '用', Some('_')) => false,
        ('a' | 'b' | 'é', Some('a' | 'b' | 'é')) | ('用', Some('用')) => false,
        ('a' | 'b' | 'é', Some('.')) => !is_latin(end + 1),
        ('.', Some('a' | 'b' | 'é')) => !is_latin(end - 2),
        (_, Some('@')) => {
            let rest: String = text[end + 1..].iter().collect();
            let host = rest.split(['@', '_', ' ']).next().unwrap().trim_end_matches('.');
            let labels: Vec<&str> = host.split('.').collect();
            let has_top = labels.last().unwrap().chars().count() > 1;
            labels.len() == 1 || labels.iter().any(|label| label.is_empty()) || !has_top
        }
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_text_mentions_whom_the_rules_say(
        text in "[@@@ab.é用_ ]{0,24}",
        participants in prop::collection::hash_set("[@ab.é用_]{1,5}", 0..40),
    ) {
        let participants: Vec<String> = participants.into_iter().collect();
        let found: Vec<&str> = mentioned_users(&text, &participants).into_iter().map(String::as_str).collect();
        prop_assert_eq!(found, expected_mentions(&text, &participants));
    }

    #[test]
    fn adding_a_mark_to_a_neighbour_never_makes_a_mention(
        before in "([a.éд用กी가1_` /:~\n\u{200b}\u{2060}'@(]|https://x/|x.example/){0,6}",
        after in "[a.éд用กी가1_` /:~\n\u{200b}\u{2060}'@)]{0,6}",
        mark in "[\u{301}\u{30a}\u{93f}\u{e48}\u{fe0f}\u{20e3}]",
    ) {
        let participants = ["bob"];
        if !mentioned(&format!("{before}@bob{after}"), &participants).is_empty() {
            return Ok(());
        }
        let marked = format!("{before}{mark}@bob{after}");
        prop_assert!(mentioned(&marked, &participants).is_empty(), "{}", marked.escape_unicode());
        let neighbour = after.chars().next().map_or(0, char::len_utf8);
        let (neighbour, rest) = after.split_at(neighbour);
        let marked = format!("{before}@bob{neighbour}{mark}{rest}");
        prop_assert!(mentioned(&marked, &participants).is_empty(), "{}", marked.escape_unicode());
    }

    #[test]
    fn any_text_is_searched(text in "(\\PC|[@`~\n]){0,40}", id in "\\PC{1,4}") {
        mentioned_users(&text, &[id]);
    }
}

/// A user id that counts how often somebody reads it.
struct CountedId<'a> {
    id: String,
    reads: &'a Cell<usize>,
}

impl AsRef<str> for CountedId<'_> {
    fn as_ref(&self) -> &str {
        self.reads.set(self.reads.get() + 1);
        &self.id
    }
}

#[test]
fn four_thousand_at_signs_in_a_group_of_a_thousand_cost_no_four_million_comparisons() {
    let numbered: Vec<String> = (0..limits::MAX_PARTICIPANTS).map(|number| format!("user-{number}")).collect();
    let nested: Vec<String> = (1..limits::MAX_USER_ID_CHARS).map(|length| "@".repeat(length) + "!").collect();
    let at_signs = "@".repeat(limits::MAX_CONTENT_CHARS);
    let mentions = "@user-7 ".repeat(limits::MAX_CONTENT_CHARS / 8);
    for (ids, text) in [(&numbered, &at_signs), (&numbered, &mentions), (&nested, &at_signs)] {
        let reads = Cell::new(0);
        let participants: Vec<CountedId<'_>> =
            ids.iter().map(|id| CountedId { id: id.clone(), reads: &reads }).collect();
        mentioned_users(text, &participants);
        let most = 20 * (limits::MAX_CONTENT_CHARS + limits::MAX_PARTICIPANTS);
        assert!(reads.get() <= most, "{} reads of user ids, more than {most}", reads.get());
    }
}

#[test]
fn a_mention_may_stand_anywhere_but_inside_a_word() {
    let outside_words = [
        "@bob",
        "hi @bob",
        "(@bob)",
        "@bob, hi",
        "@bob's",
        "@bob’s",
        "@bob: hi",
        "@bob:hi",
        "@@bob",
        "\n@bob\n",
        "你好 @bob",
        "🎉@bob🎉",
        "@bob.",
        "@bob. Hi",
        "@bob…",
        "/@bob/",
        "-@bob-",
        "\u{2068}@bob\u{2069} hi",
        "@bob\u{200b}hi",
    ];
    for text in outside_words {
        assert_eq!(mentioned(text, &["bob"]), ["bob"], "{}", text.escape_unicode());
    }
    let inside_words = [
        "mail@bob",
        "_@bob",
        "1@bob",
        "é@bob",
        "д@bob",
        "@bobby",
        "@bob_",
        "@bob2",
        "@bobé",
        "@bobд",
        "@bob.example",
        "a.b-c@bob.example",
        "@bob\u{2060}by",
        "ª@bob",
        "‿@bob",
    ];
    let other_texts = ["bob", "@ bob", "@Bob", "＠bob"];
    for text in inside_words.iter().chain(&other_texts) {
        assert!(mentioned(text, &["bob"]).is_empty(), "{}", text.escape_unicode());
    }
}

#[test]
fn marks_belong_to_their_letter() {
    let texts = [
        "cafe\u{301}@bob.example",
        "cafe\u{301}@bob",
        "हिन्दी@bob",
        "क्@bob",
        "שָ@bob",
        "كُ@bob",
        "a\u{301}\u{327}@bob",
        "a\u{2060}@bob",
        "a\u{20e3}@bob",
        "@bob\u{301}",
        "@bob\u{301} hi",
        "@bob\u{fe0f}",
        "@bob\u{2060}\u{301}",
    ];
    for text in texts {
        assert!(mentioned(text, &["bob"]).is_empty(), "{}", text.escape_unicode());
    }
    assert_eq!(mentioned("@zoe\u{308}", &["zoe", "zoe\u{308}"]), ["zoe\u{308}"]);
}

#[test]
fn a_script_without_spaces_has_a_border_where_the_script_changes() {
    for text in [
        "交给@bob处理",
        "你好@bob",
        "@bob你好",
        "ありがとう@bobさん",
        "サーバー@bobサン",
        "คุณ@bobครับ",
        "안녕@bob님",
        "ສະບາຍດີ@bobເດີ",
        "សួស្តី@bobបាទ",
        "မင်္ဂလာပါ@bobရေ",
        "交给@bob，谢谢",
    ] {
        assert_eq!(mentioned(text, &["bob"]), ["bob"], "{text}");
    }
    assert_eq!(mentioned("请@小明看", &["小明", "小"]), [""; 0], "nobody can tell where the name ends");
    assert_eq!(mentioned("请@小明さん", &["小明"]), ["小明"]);
    assert_eq!(mentioned("请@小明 看", &["小明", "小"]), ["小明"]);
    assert_eq!(mentioned("@小明3点见", &["小明"]), ["小明"]);
    assert_eq!(mentioned("@bob2号", &["bob", "bob2"]), ["bob2"]);
    assert!(mentioned("@用户们 @สมชายครับ @小明_", &["用户", "สมชาย", "小明"]).is_empty());
    assert!(mentioned("привет@bob γεια@bob مرحبا@bob", &["bob"]).is_empty(), "these scripts have spaces");
}

#[test]
fn code_and_addresses_mention_nobody() {
    for text in [
        "`@bob`",
        "see `a @bob b`",
        "``@bob ` ``",
        "```\n@bob\n```",
        "```@bob```",
        "~~~\n\n@bob\n~~~",
        "```js\n@bob",
        "https://x/@bob",
        "(https://x/@bob)",
        "http://x?to=@bob",
        "ftp://@bob",
        "www.x.example/@bob",
        "x.example/@bob",
        "localhost:80/@bob",
        "看https://x/@bob",
        "@bob@x.example",
        "[a](https://x/@bob)",
    ] {
        assert!(mentioned(text, &["bob"]).is_empty(), "{text}");
    }
    for text in [
        "`a` @bob",
        "` @bob",
        "\\`@bob`",
        "`a @bob\n\n`",
        "```\na\n``` \n@bob",
        "https://x/ @bob",
        "<https://x/>@bob",
        "看https://x/，@bob",
        "[@bob](https://x/a)",
        "@bob/@carol",
        "and/@bob",
        "@bob https://x/@carol",
        "@bob@carol",
    ] {
        assert_eq!(mentioned(text, &["bob"]), ["bob"], "{text}");
    }
    let address = "alice@x.example";
    assert_eq!(mentioned("@alice@x.example", &[address, "alice"]), [address]);
}

#[test]
fn the_longest_id_that_fits_is_mentioned() {
    let participants = ["ann", "ann-marie", "ann.", "a"];
    assert_eq!(mentioned("@ann-marie", &participants), ["ann-marie"]);
    assert_eq!(mentioned("@ann-mari", &participants), ["ann"]);
    assert_eq!(mentioned("@ann.", &participants), ["ann."]);
    assert_eq!(mentioned("@ann!", &participants), ["ann"]);
    assert!(mentioned("@anna", &participants).is_empty());
}

#[test]
fn an_at_sign_inside_a_mentioned_id_mentions_nobody_else() {
    let participants = ["a.b@c", "c", "x-@c", "@home"];
    assert_eq!(mentioned("@a.b@c", &participants), ["a.b@c"]);
    assert_eq!(mentioned("@a.b@c @c", &participants), ["a.b@c", "c"]);
    assert_eq!(mentioned("@x-@c", &participants), ["x-@c"], "c is not mentioned");
    assert_eq!(mentioned("@@home", &participants), ["@home"]);
}

#[test]
fn an_id_that_ends_in_punctuation_needs_no_space_after_it() {
    assert_eq!(mentioned("@bob!hi", &["bob!"]), ["bob!"]);
    assert!(mentioned("@bobhi!", &["bob"]).is_empty());
}

#[test]
fn ids_of_any_script_are_mentioned() {
    assert_eq!(mentioned("@zoë @用户, @Ωmega", &["zoë", "用户", "Ωmega", "zo"]), ["zoë", "用户", "Ωmega"]);
}

#[test]
fn each_participant_is_mentioned_once_in_the_order_of_the_text() {
    assert_eq!(mentioned("@b @a @b @c@a", &["a", "b", "c"]), ["b", "a", "c"]);
}
