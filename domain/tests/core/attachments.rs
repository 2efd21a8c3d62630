//! What an attachment of a message may be.

use domain::{Command, limits};
use serde_json::{Value, json};

use crate::parsing::{assert_refused, post_with_attachment};

#[test]
fn each_field_of_an_attachment_is_checked() {
    let url_of_length = |length: usize| format!("https://a.example/{}", "x".repeat(length - 18));
    for (field, code, invalid) in [
        ("url", "invalid_url", json!("http://files.example/1")),
        ("url", "invalid_url", json!("https://")),
        ("url", "invalid_url", json!("höttps://a")),
        ("url", "invalid_url", json!("javascript:alert(1)")),
        ("url", "invalid_url", json!("https://:443/x")),
        ("url", "invalid_url", json!("https://a b.example/")),
        ("url", "invalid_url", json!("https://a.example:99999/")),
        ("url", "invalid_url", json!("https://[::1/")),
        ("url", "invalid_url", json!("https://a.example%00/")),
        ("url", "invalid_url", json!("https://256.0.0.1/")),
        ("url", "invalid_url", json!("https://xn--a-ä.example/")),
        ("url", "invalid_url", json!("https://user@a.example/")),
        ("url", "invalid_url", json!("https://:secret@a.example/")),
        ("url", "invalid_url", json!("//a.example/x")),
        ("url", "invalid_url", json!("a.example/x")),
        ("url", "invalid_url", json!("blob:https://a.example/x")),
        ("url", "too_long", json!(url_of_length(limits::MAX_URL_CHARS + 1))),
        ("url", "empty", json!(" ")),
        ("url", "control_character", json!("https://a.example/\u{7f}")),
        ("name", "empty", json!("")),
        ("name", "too_long", json!("ü".repeat(limits::MAX_NAME_CHARS + 1))),
        ("name", "empty", json!("\u{3164}")),
        ("name", "control_character", json!("a\nb")),
        ("name", "control_character", json!("a\u{2028}b")),
        ("name", "control_character", json!("photo\u{202e}gnp.exe")),
        ("name", "control_character", json!("a\u{2067}b")),
        ("mimeType", "invalid_value", json!("png")),
        ("mimeType", "invalid_value", json!("image/")),
        ("mimeType", "invalid_value", json!("/png")),
        ("mimeType", "invalid_value", json!("a/b/c")),
        ("size", "invalid_value", json!(-1)),
        ("size", "invalid_value", json!(1.5)),
        ("size", "invalid_value", json!(1_u64 << 53)),
        ("size", "invalid_value", json!(9_007_199_254_740_992.0)),
        ("size", "invalid_value", json!(1e300)),
        ("size", "invalid_value", json!(-1.0)),
        ("size", "wrong_type", json!("5")),
    ] {
        assert_refused(post_with_attachment(field, invalid), &format!("attachments[0].{field}"), code);
    }
    for (field, valid) in [
        ("url", json!("HTTPS://a.example")),
        ("url", json!("https://a.example/a b?c d#e")),
        ("url", json!("https:///a.example")),
        ("url", json!("https:\\\\a.example\\b")),
        ("url", json!("https://bücher.example/ü")),
        ("url", json!("https://[2001:db8::1]:8443/")),
        ("url", json!("https://127.1")),
        ("name", json!("תמונה\u{200f}.png")),
        ("name", json!("می\u{200c}خواهم.png")),
        ("size", json!(5.0)),
        ("size", json!(5e3)),
        ("size", json!(0.0)),
        ("size", json!(9_007_199_254_740_991.0)),
        ("url", json!(url_of_length(limits::MAX_URL_CHARS))),
        ("name", json!("ü".repeat(limits::MAX_NAME_CHARS))),
        ("mimeType", json!("text/plain; charset=utf-8")),
        ("size", json!(0)),
        ("size", json!((1_u64 << 53) - 1)),
    ] {
        assert!(post_with_attachment(field, valid.clone()).is_ok(), "{field} {valid}");
    }
}

#[test]
fn a_whole_number_is_the_same_in_each_way_to_write_it() {
    let sized = |text: &str| {
        let size: Value = serde_json::from_str(text).unwrap();
        let Ok(Command::Message(send)) = post_with_attachment("size", size) else { panic!("{text} is refused") };
        send.attachments[0].size
    };
    assert_eq!(["5", "5.0", "5e0", "0.5e1", "50E-1"].map(sized), [5; 5]);
    assert_eq!(sized("-0.0"), 0);
}
