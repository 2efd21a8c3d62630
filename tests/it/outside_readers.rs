//! Readers that share nothing with the product but docs/events.md recompute from the log what the query API answers. Each
//! in `tests/readers` has a fold of its own: kcat with jq, Python with a Kafka client, and DuckDB over a Parquet export.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use domain::testing::random_history;
use domain::{Event, EventData, EventId};
use serde_json::{Value, json};
use service::config::Config;
use tokio::process::Command;
use uuid::Uuid;

use crate::harness::System;
use crate::harness::log::{self, NewRecord};
use crate::harness::process::command;
use crate::log_export::duckdb;
use crate::log_replay::Replayed;

const COMMUNITY: [&str; 10] =
    ["demo", "--users", "60", "--conversations", "80", "--messages", "1500", "--seed", "7", "--yes"];
/// A page that doesn't have all participants of the community's first group.
const PARTICIPANTS_PAGE: usize = 40;

/// Read marks with unread counts by conversation and user, and users by conversation, message and emoji.
type Findings = BTreeMap<[String; 3], Value>;

/// The findings that lines of JSON state. Each may be stated once.
fn findings(lines: Vec<Value>) -> Findings {
    let mut findings = Findings::new();
    for line in lines {
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let place = [text("conversation"), text("user") + &text("message"), text("emoji")];
        let before = findings.insert(place, line.clone());
        assert_eq!(before, None, "stated twice: {line}");
    }
    findings
}

/// Asserts that a reader found what the API answers, and nothing else.
fn assert_same(reader: &str, found: &Findings, answered: &Findings) {
    let places: BTreeSet<_> = found.keys().chain(answered.keys()).collect();
    let differ = places.iter().filter(|place| found.get(**place) != answered.get(**place));
    let differ: Vec<_> = differ.map(|place| (found.get(*place), answered.get(*place))).collect();
    let (count, of) = (differ.len(), places.len());
    assert!(differ.is_empty(), "{reader}: {count} of {of} differ; the first, found and answered: {:#?}", differ[0]);
}

/// What the API answers each user about each of their conversations, and about each message in it.
async fn answered(system: &System) -> Findings {
    let mut users = BTreeSet::new();
    for record in system.records().await {
        let participants = record.value["data"]["participantIds"].as_array().cloned().unwrap_or_default();
        users.extend(participants.iter().map(|user| user.as_str().unwrap().to_owned()));
    }
    let mut lines = Vec::new();
    let mut read_marks = BTreeMap::new();
    for user in users {
        for conversation in system.all_pages(&user, "/api/messages?limit=100").await {
            let id = conversation["id"].as_str().unwrap();
            if !read_marks.contains_key(id) {
                read_marks.insert(id.to_owned(), answered_read_marks(system, &user, id).await);
                lines.extend(answered_reactions(system, &user, id).await);
            }
            let marks = &read_marks[id];
            for participant in conversation["participants"].as_array().unwrap() {
                assert_eq!(marks[participant["userId"].as_str().unwrap()], participant["lastReadSeq"]);
            }
            let unread = &conversation["unreadCount"];
            lines.push(json!({"conversation": id, "user": user, "lastReadSeq": marks[&user], "unread": unread}));
        }
    }
    findings(lines)
}

/// The read mark of each participant, as one of them reads it.
async fn answered_read_marks(system: &System, user: &str, conversation: &str) -> BTreeMap<String, Value> {
    let path = format!("/api/conversations/{conversation}?limit={PARTICIPANTS_PAGE}");
    let mut marks = BTreeMap::new();
    let mut next = path.clone();
    loop {
        let page = system.get(user, &next).await;
        assert_eq!(page.status, 200, "{page:?}");
        for participant in page.data()["participants"].as_array().unwrap() {
            let user = participant["userId"].as_str().unwrap().to_owned();
            marks.insert(user, participant["lastReadSeq"].clone());
        }
        let Some(cursor) = page.next_cursor() else { return marks };
        next = format!("{path}&cursor={cursor}");
    }
}

/// A line for each emoji of each message, as a participant reads them.
async fn answered_reactions(system: &System, user: &str, conversation: &str) -> Vec<Value> {
    let mut lines = Vec::new();
    let path = format!("/api/messages?conversationId={conversation}&limit=100");
    for message in system.all_pages(user, &path).await {
        for reaction in message["reactions"].as_array().unwrap() {
            let users = &reaction["userIds"];
            assert_eq!(reaction["count"], users.as_array().unwrap().len(), "the API shows only some users");
            let (id, emoji) = (&message["id"], &reaction["emoji"]);
            lines.push(json!({"conversation": conversation, "message": id, "emoji": emoji, "users": users}));
        }
    }
    lines
}

/// A file of this package.
fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What users do who retry, lose races, and do what no server would have accepted.
fn history() -> Vec<Event> {
    let mut history = random_history(23, 1_500);
    let is_keyed = |event: &Event| event.request.is_some() && matches!(event.data, EventData::MessageSent(_));
    let keyed = history.iter().position(is_keyed).unwrap();
    // Servers ignore keys on typing. Where another program wrote one, the command that comes after it counts.
    let typing = Event { event_id: EventId(Uuid::now_v7()), data: EventData::TypingStart {}, ..history[keyed].clone() };
    history.insert(keyed, typing);
    history
}

/// Some members of the largest group react to its newest messages, with few emoji in both spellings. Some take theirs
/// back, and some of these give it again.
async fn react(system: &System) {
    let conversations = system.all_pages("alice", "/api/messages?limit=100").await;
    let group = conversations.iter().max_by_key(|it| it["participantCount"].as_u64()).unwrap();
    let path = format!("/api/messages?conversationId={}&limit=10", group["id"].as_str().unwrap());
    let newest = system.get("alice", &path).await;
    for (number, participant) in group["participants"].as_array().unwrap()[..15].iter().enumerate() {
        let user = participant["userId"].as_str().unwrap();
        for (message, id) in newest.ids().into_iter().enumerate() {
            let emoji = |shift: usize| ["❤", "❤\u{fe0f}", "👍"][(number + message + shift) % 3];
            let body = |action: &str, emoji: &str| json!({"action": action, "messageId": id, "emoji": emoji});
            let mut bodies = vec![body("reaction", emoji(0))];
            if (number + message) % 4 == 0 {
                bodies.push(body("remove_reaction", emoji(1)));
            }
            if (number + message) % 8 == 0 {
                bodies.push(body("reaction", emoji(0)));
            }
            for body in bodies {
                let done = system.post(user, body).await;
                assert!([200, 201].contains(&done.status), "{done:?}");
            }
        }
    }
}

/// What a command prints as lines of JSON.
async fn printed(command: &mut Command) -> Findings {
    let output = command.output().await.unwrap_or_else(|error| panic!("{command:?}: {error}; `make test` installs it"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    findings(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

async fn found_by_kcat(config: &Config) -> Findings {
    let pipe = "set -o pipefail; kcat -b \"$0\" -t \"$1\" -C -o beginning -e -q -J | jq -nc -f \"$2\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", pipe, &config.kafka_brokers, &config.kafka_topic]).arg(file("readers/fold.jq"));
    printed(&mut bash).await
}

async fn found_by_python(config: &Config) -> Findings {
    let mut script = Command::new(file("py/.venv/bin/python"));
    script.arg(file("readers/fold.py")).args([&config.kafka_brokers, &config.kafka_topic]);
    printed(&mut script).await
}

async fn found_by_duckdb(config: &Config) -> Findings {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--format", "parquet", "--file-records", "500", "--folder", folder.path().to_str().unwrap()];
    Replayed::ok(config, &options).await;
    let fold = std::fs::read_to_string(file("readers/fold.sql")).unwrap();
    let mut rows = duckdb(folder.path(), &format!("{fold} FROM read_marks")).await;
    rows.extend(duckdb(folder.path(), &format!("{fold} FROM reactions")).await);
    findings(rows)
}

/// Asserts that what was compared is not trivial.
fn assert_rich(answered: &Findings) {
    let count = |is_it: fn(&Value) -> bool| answered.values().filter(|line| is_it(line)).count();
    let counts = [
        count(|line| line["user"].is_string()),
        count(|line| line["lastReadSeq"].as_i64() > Some(0)),
        count(|line| line["unread"].as_i64() > Some(0)),
        count(|line| line["emoji"].is_string()),
        count(|line| line["users"].as_array().is_some_and(|users| users.len() > 1)),
    ];
    let floors = [800, 400, 400, 250, 25];
    assert!(counts.iter().zip(floors).all(|(count, floor)| *count >= floor), "{counts:?}, not at least {floors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_with_folds_of_their_own_find_the_read_marks_unread_counts_and_reactions_that_the_api_answers() {
    let system = System::unlimited().await;
    let community = command(&system.config, &COMMUNITY).output().await.unwrap();
    assert!(community.status.success(), "{community:?}");
    log::append(&system.config, &history().iter().map(NewRecord::event).collect::<Vec<_>>()).await;
    system.wait_until_caught_up().await;
    react(&system).await;
    system.wait_until_caught_up().await;

    let answered = answered(&system).await;
    assert_rich(&answered);
    let config = &system.config;
    assert_same("kcat with jq", &found_by_kcat(config).await, &answered);
    assert_same("Python with a Kafka client", &found_by_python(config).await, &answered);
    assert_same("DuckDB over Parquet", &found_by_duckdb(config).await, &answered);
}
