//! Where a text has addresses of the web. What stands in an address names a page, and no participant.

use std::ops::Range;

/// The addresses of a text, in order: each from its scheme or its host to the end of the word that has it.
///
/// An address has a scheme (`https://…`), or it begins with the host (`example.org/…`, `localhost:8080/…`).
pub(super) fn addresses(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for word in text.split_inclusive(ends_address) {
        found.extend(address_start(word).map(|at| start + at..start + word.len()));
        start += word.len();
    }
    found
}

/// Whether a name that is followed by this text is the first part of an address, as in `@name@example.org`.
pub(super) fn continues_as_address(after: &str) -> bool {
    let Some(rest) = after.strip_prefix('@') else { return false };
    let host = rest.split(|character| !is_host_character(character)).next().unwrap_or_default();
    is_domain(host.trim_end_matches(['.', '-']))
}

/// Whether an address ends before this character: white space, quotation marks and brackets around it, and punctuation
/// of scripts that need no space after it.
fn ends_address(character: char) -> bool {
    character.is_whitespace()
        || matches!(character,
            '<' | '>' | '"' | '`' | '“' | '”' | '„' | '«' | '»'
                | '\u{3000}'..='\u{3003}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}'
                | '！' | '（' | '）' | '，' | '：' | '；' | '？')
}

/// Where the address begins that a word has.
fn address_start(word: &str) -> Option<usize> {
    let of_scheme = word.match_indices("://").find_map(|(at, _)| {
        let is_scheme = |character: char| character.is_ascii_alphanumeric() || matches!(character, '+' | '-' | '.');
        let scheme = &word[word[..at].trim_end_matches(is_scheme).len()..at];
        scheme.starts_with(|first: char| first.is_ascii_alphanumeric()).then_some(at - scheme.len())
    });
    let of_host = word.match_indices(['/', '?', '#']).find_map(|(at, _)| {
        let before = &word[..at];
        let without_port = before.trim_end_matches(|character: char| character.is_ascii_digit());
        let (named, has_port) = match without_port.strip_suffix(':') {
            Some(named) if without_port.len() < at => (named, true),
            _ => (before, false),
        };
        let host = &named[named.trim_end_matches(is_host_character).len()..];
        let is_host = is_domain(host) || is_ipv4(host) || has_port && host.contains(char::is_alphabetic);
        is_host.then_some(named.len() - host.len())
    });
    of_scheme.into_iter().chain(of_host).min()
}

/// Whether a character may stand in the name of a host. Marks belong to the letters of any script.
fn is_host_character(character: char) -> bool {
    character.is_alphanumeric() || super::borders::is_mark(character) || matches!(character, '-' | '.')
}

/// Whether a text is a domain of several labels, of which the last is no number.
fn is_domain(host: &str) -> bool {
    let mut labels = host.rsplit('.');
    let top = labels.next().unwrap_or_default();
    let is_top = top.chars().count() >= 2 && top.starts_with(char::is_alphabetic);
    let mut others = labels.peekable();
    is_top && others.peek().is_some() && others.all(|label| !label.is_empty())
}

fn is_ipv4(host: &str) -> bool {
    host.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<&str> {
        addresses(text).into_iter().map(|part| text[part].trim_end_matches(ends_address)).collect()
    }

    #[test]
    fn an_address_begins_with_its_scheme_or_its_host_and_ends_with_the_word() {
        for (text, expected) in [
            ("see https://x/@bob now", &["https://x/@bob"][..]),
            ("HTTP://x?q=@bob", &["HTTP://x?q=@bob"]),
            ("(git+ssh://git@x/@bob)", &["git+ssh://git@x/@bob)"]),
            ("example.org/@bob", &["example.org/@bob"]),
            ("www.example.org#@bob", &["www.example.org#@bob"]),
            ("bücher.example/@bob", &["bücher.example/@bob"]),
            ("bu\u{308}cher.example/@bob", &["bu\u{308}cher.example/@bob"]),
            ("localhost:8080/@bob", &["localhost:8080/@bob"]),
            ("10.0.0.1/@bob 10.0.0.1:80/@bob", &["10.0.0.1/@bob", "10.0.0.1:80/@bob"]),
            ("<https://x/@bob>@carol", &["https://x/@bob"]),
            ("看https://x/@bob，@carol", &["https://x/@bob"]),
            ("[@carol](https://x/@bob)", &["https://x/@bob)"]),
            ("@ann/@bob and/or/@bob", &[]),
            ("://@bob 1:2/@bob 3.4/@bob e.g./@bob .x/@bob", &[]),
            ("example.org @bob", &[]),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }

    #[test]
    fn a_name_with_a_domain_is_an_address() {
        for after in ["@example.org", "@a.example.org, hi", "@example.org."] {
            assert!(continues_as_address(after), "{after}");
        }
        for after in ["", "@", "@bob", "@bob.", "@1.2", " @example.org", "@.org", "x@example.org"] {
            assert!(!continues_as_address(after), "{after}");
        }
    }
}
