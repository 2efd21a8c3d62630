//! Names and doc comments: the field's words, each with one meaning, and no comment that only repeats its item's name.

use std::path::Path;

use super::{code_of, rust_sources, sources};
use crate::harness::repository::text;

/// Names of Rust items that this project once used with a private or a second meaning, and the words to use instead.
const RETIRED_ITEMS: [(&str, &str); 57] = [
    ("Asked", "a request: CommandRequest, ReadRequest"),
    ("Given", "CommandHeaders"),
    ("Made", "CreatedResponse"),
    ("Done", "CommandOutcome"),
    ("Answer", "ResponseData, or a response"),
    ("Begun", "PendingEntity, or CreatedConversation"),
    ("Lately", "PendingChanges"),
    ("Look", "KeyLookup"),
    ("Doubt", "Idempotency"),
    ("Place", "TraceContext, PageKey, ChangeLocation"),
    ("Reading", "ReadRequest, DecodedEnvelope"),
    ("Writing", "EncodedEnvelope"),
    ("Found", "RenderedView"),
    ("Placed", "LocatedMessage"),
    ("PageAsked", "PageRequest"),
    ("Listed", "Page"),
    ("Whole", "DataResponse"),
    ("Paged", "PageResponse"),
    ("Partly", "PartialEvent"),
    ("CatchUp", "SyncCursor"),
    ("Head", "Dependency"),
    ("Stamps", "Versions"),
    ("stamps", "versions"),
    ("fresh_stamp", "fresh_version"),
    ("fill_participants", "put_participants"),
    ("Announced", "PublishOutcome"),
    ("Held", "LocalCache"),
    ("Seen", "KnownProgress"),
    ("Entry", "ReservationRequest"),
    ("Scope", "IdempotencyScope"),
    ("Step", "OffsetAdvance"),
    ("PartitionStep", "OffsetAdvance"),
    ("Unreserved", "RedisOutage"),
    ("Barrier", "LogEnd"),
    ("misses", "failed_lookups"),
    ("patience", "wait_for_services"),
    ("PATIENCE", "TIMEOUT"),
    ("LOOK_EVERY", "POLL_INTERVAL"),
    ("kinship", "topic_guard"),
    ("comes", "await_pending"),
    ("admitted", "acquire_permit"),
    ("TURN", "PERMIT_TIMEOUT"),
    ("Checkup", "RedisHealth, PostgresHealth"),
    ("checkup", "health"),
    ("Wanted", "RetryRequested"),
    ("FoldedUntold", "FoldedPendingInvalidation"),
    ("Retries", "DeadLetterRetrier"),
    ("Desk", "DeadLetterAdmin"),
    ("REST", "IDLE_FACTOR"),
    ("SAVED", "IDLE_CREDIT"),
    ("Seats", "ConnectionLimit"),
    ("STRANGERS", "UNAUTHENTICATED"),
    ("Pace", "RateLimit"),
    ("Recent", "Dedup"),
    ("SOCIABLE", "PRESENCE_PARTICIPANTS_MAX"),
    ("Vouched", "heartbeat"),
    ("bury", "expire_node"),
];

/// Names of files that this project no longer uses, without their endings, by the folders that they stood in.
const RETIRED_FILES: [(&[&str], &[&str]); 3] = [
    (
        &["clients/", "web/"],
        &[
            "begin", "changes", "company", "contract", "follow", "library", "notices", "talk", "telling", "thread",
            "tools",
        ],
    ),
    (&["tests/it/"], &["alone", "crowd", "following", "front", "starting", "trust", "unreserved"]),
    (
        &["bench/", "cache/", "command-api/", "messages/", "projector/", "query-api/", "read-model/", "realtime/"],
        &[
            "announce", "answer", "arrive", "barrier", "checkup", "deliver", "done", "doubt", "kinship", "leave",
            "pace", "paging", "patience", "reading", "recent", "redirect", "seats", "stamps", "suites", "whole",
        ],
    ),
];

/// The words before an item's name in its definition.
const KEYWORDS: [&str; 8] = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod"];

/// The names of the items that code defines.
fn items(code: &str) -> impl Iterator<Item = &str> {
    let words: Vec<&str> = code.split(|character: char| !(character.is_alphanumeric() || character == '_')).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let pairs: Vec<(&str, &str)> = words.windows(2).map(|pair| (pair[0], pair[1])).collect();
    pairs.into_iter().filter(|(keyword, _)| KEYWORDS.contains(keyword)).map(|(_, name)| name)
}

#[test]
fn retired_names_of_items_stay_retired() {
    let mut found = Vec::new();
    for file in rust_sources() {
        let code = code_of(&text(&file));
        for (retired, instead) in RETIRED_ITEMS {
            if items(&code).any(|name| name == retired) {
                found.push(format!("{file} defines {retired}: say {instead}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn retired_names_of_files_stay_retired() {
    let is_retired = |file: &String| {
        let name = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = name.split('.').next().unwrap_or_default();
        let is_here = |folders: &[&str]| folders.iter().any(|folder| file.starts_with(folder));
        RETIRED_FILES.iter().any(|(folders, stems)| is_here(folders) && stems.contains(&stem))
    };
    let found: Vec<String> = sources().filter(is_retired).collect();
    assert!(found.is_empty(), "name these files by the field's standard words: {found:?}");
}

#[test]
fn a_retired_name_is_found_where_it_is_defined_only() {
    let code = "pub(crate) struct Place { kind: Reading }\nasync fn comes() {}";
    assert_eq!(items(code).collect::<Vec<_>>(), ["Place", "comes"]);
}

/// Words that say nothing by themselves in a doc comment.
const FILLERS: [&str; 22] = [
    "a", "an", "and", "are", "as", "by", "in", "is", "it", "its", "of", "on", "one", "or", "that", "the", "their",
    "this", "what", "which", "who", "whose",
];

/// The doc comments of one line that say no more than the name of their item.
fn echoes(source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(doc) = line.trim().strip_prefix("/// ") else { continue };
        let is_doc = |line: Option<&&str>| line.is_some_and(|line| line.trim().starts_with("///"));
        if is_doc(lines.get(index + 1)) || index.checked_sub(1).is_some_and(|before| is_doc(lines.get(before))) {
            continue;
        }
        let item = lines[index + 1..].iter().map(|line| line.trim()).find(|line| !line.starts_with("#["));
        let name = item.and_then(name_of).unwrap_or_default();
        let said: Vec<String> = words(doc).into_iter().filter(|word| !FILLERS.contains(&word.as_str())).collect();
        let named = words(&name);
        if said.iter().all(|word| named.iter().any(|part| part.trim_end_matches('s') == word.trim_end_matches('s'))) {
            found.push(format!("line {}: {doc}", index + 1));
        }
    }
    found
}

/// The name that a line defines: an item, a field or a variant.
fn name_of(line: &str) -> Option<String> {
    let words = line.split(|character: char| !(character.is_alphanumeric() || character == '_'));
    let skipped = ["pub", "crate", "super", "async", "unsafe", "default", "export", "readonly", ""];
    words.into_iter().find(|word| !skipped.contains(word) && !KEYWORDS.contains(word)).map(str::to_owned)
}

/// The words of a text or of a name, in lower case.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous_is_lower = false;
    for character in text.chars() {
        if !character.is_alphanumeric() {
            words.push(String::new());
        } else {
            if character.is_uppercase() && previous_is_lower {
                words.push(String::new());
            }
            match words.last_mut() {
                Some(word) => word.extend(character.to_lowercase()),
                None => words.push(character.to_lowercase().collect()),
            }
        }
        previous_is_lower = character.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn no_doc_comment_only_repeats_the_name_of_its_item() {
    let all = rust_sources().flat_map(|file| {
        let echoes = echoes(&text(&file));
        echoes.into_iter().map(move |echo| format!("{file}: {echo}"))
    });
    let all: Vec<String> = all.collect();
    assert!(all.is_empty(), "say what it means, or leave the comment out:\n{}", all.join("\n"));
}

#[test]
fn a_doc_comment_that_repeats_a_name_is_found() {
    let source = "/// The partition.\npub partition: i32,\n/// Its next offset before the commit.\npub from: i64,\n\
                  /// A conversation.\n#[serde]\nConversation {";
    assert_eq!(echoes(source), ["line 1: The partition.", "line 5: A conversation."]);
    assert_eq!(words("isMessageKey of_sent"), ["is", "message", "key", "of", "sent"]);
}
