//! Where a text shows code, by the rules of CommonMark 0.31: code spans (section 6.1) and fenced code blocks (section
//! 4.5). Indented lines aren't code: in messages, people indent other things.

use std::collections::HashMap;
use std::ops::Range;

/// The code of a text, in order: code spans and fenced blocks, with their backticks.
pub(super) fn code(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut fence: Option<Fence> = None;
    // Where the lines begin among which a code span may begin and end.
    let mut paragraph = 0;
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let line_end = line_start + line.len();
        match &fence {
            Some(open) if open.is_closed_by(line) => {
                found.push(open.start..line_end);
                (fence, paragraph) = (None, line_end);
            }
            Some(_) => {}
            None => {
                fence = Fence::opened_by(line, line_start);
                if fence.is_some() || line.trim().is_empty() {
                    found.extend(code_spans(text, paragraph..line_start));
                    paragraph = line_end;
                }
            }
        }
        line_start = line_end;
    }
    match fence {
        Some(open) => found.push(open.start..text.len()),
        None => found.extend(code_spans(text, paragraph..text.len())),
    }
    found
}

/// The line that opens a fenced code block.
struct Fence {
    start: usize,
    character: char,
    length: usize,
}

impl Fence {
    fn opened_by(line: &str, start: usize) -> Option<Self> {
        let (character, length, rest) = fence_of(line)?;
        // Otherwise the line has a code span.
        let is_fence = character == '~' || !rest.contains('`');
        is_fence.then_some(Self { start, character, length })
    }

    fn is_closed_by(&self, line: &str) -> bool {
        fence_of(line).is_some_and(|(character, length, rest)| {
            character == self.character && length >= self.length && rest.trim().is_empty()
        })
    }
}

/// The character and the length of the fence with which a line begins, and the rest of the line.
fn fence_of(line: &str) -> Option<(char, usize, &str)> {
    let unindented = line.trim_start_matches(' ');
    let character = unindented.chars().next().filter(|first| matches!(first, '`' | '~'))?;
    let rest = unindented.trim_start_matches(character);
    let length = unindented.len() - rest.len();
    (line.len() - unindented.len() <= 3 && length >= 3).then_some((character, length, rest))
}

/// The code spans of a part of a text: each from a run of backticks to the next run that is as long.
fn code_spans(text: &str, part: Range<usize>) -> Vec<Range<usize>> {
    let runs = backtick_runs(text, part.clone());
    // The indexes of the runs of each length, so that a text of many runs isn't searched again for each.
    let mut by_length: HashMap<usize, Vec<usize>> = HashMap::new();
    for (index, run) in runs.iter().enumerate() {
        by_length.entry(run.len()).or_default().push(index);
    }
    let mut spans = Vec::new();
    let mut index = 0;
    while let Some(run) = runs.get(index) {
        let backslashes = text[part.start..run.start].bytes().rev().take_while(|byte| *byte == b'\\').count();
        // A backslash makes a backtick an ordinary character, unless another one makes the backslash such.
        let start = run.start + backslashes % 2;
        let closing = by_length
            .get(&(run.end - start))
            .and_then(|indexes| indexes.get(indexes.partition_point(|other| *other <= index)));
        match closing {
            Some(closing) => {
                spans.push(start..runs[*closing].end);
                index = closing + 1;
            }
            None => index += 1,
        }
    }
    spans
}

fn backtick_runs(text: &str, part: Range<usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, _) in text[part.clone()].match_indices('`') {
        let at = part.start + index;
        match runs.last_mut() {
            Some(run) if run.end == at => run.end += 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<&str> {
        code(text).into_iter().map(|part| &text[part]).collect()
    }

    #[test]
    fn a_code_span_ends_at_the_next_run_of_as_many_backticks() {
        for (text, expected) in [
            ("a `b` c", &["`b`"][..]),
            ("``a ` b`` c", &["``a ` b``"]),
            ("`a``b`", &["`a``b`"]),
            ("`a` `b`", &["`a`", "`b`"]),
            ("```a``` b", &["```a```"]),
            ("a ` b", &[]),
            ("`` a `", &[]),
            ("` a `` b `", &["` a `` b `"]),
            ("a `b\nc` d", &["`b\nc`"]),
            ("a `b\n\nc` d", &[]),
            (r"\`a` b`", &["` b`"]),
            (r"\\`a`", &["`a`"]),
            (r"`a\` b`", &[r"`a\`"]),
            (r"\``a`", &["`a`"]),
            ("`用é`", &["`用é`"]),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }

    #[test]
    fn a_fenced_block_ends_at_a_fence_of_its_kind_or_with_the_text() {
        for (text, expected) in [
            ("a\n```\nb\n```\nc", &["```\nb\n```\n"][..]),
            ("```rust\na\n\nb\n```", &["```rust\na\n\nb\n```"]),
            ("~~~\na\n```\nb\n~~~~\nc", &["~~~\na\n```\nb\n~~~~\n"]),
            ("````\na\n```\nb", &["````\na\n```\nb"]),
            ("   ```\r\na\r\n   ```\r\nb", &["   ```\r\na\r\n   ```\r\n"]),
            ("```\na\n``` b\nc", &["```\na\n``` b\nc"]),
            ("    ```\na", &[]),
            ("``\na", &[]),
            ("~~a~~", &[]),
            ("`a\n```\nb\n```\n`", &["```\nb\n```\n"]),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }

    #[test]
    fn the_code_of_a_text_of_backticks_is_found_in_no_time_to_speak_of() {
        let runs: String = (1..90).map(|length| format!("{} ", "`".repeat(length))).collect();
        assert!(code(&runs).is_empty());
        assert_eq!(code(&"` ".repeat(2_000)).len(), 1_000);
        assert!(code(&"\\`".repeat(2_000)).is_empty());
    }
}
