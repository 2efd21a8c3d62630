//! What a process asks of Redis and of Postgres, read off the wire by proxies in front of them. The code that counts
//! here knows the two protocols and nothing of the product.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::proxy::{Observer, Proxy};

/// The requests that have arrived since the last [`Requests::take`], in order.
#[derive(Debug, Clone, Default)]
struct Requests<T>(Arc<Mutex<Vec<T>>>);

impl<T> Requests<T> {
    fn add(&self, request: T) {
        self.0.lock().unwrap().push(request);
    }

    fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A command to Redis: its name and its arguments.
pub(crate) type RedisCommand = Vec<String>;

/// A proxy in front of Redis that records all commands.
pub(crate) struct RedisTraffic {
    /// The address of the proxy.
    pub(crate) url: String,
    round_trips: Requests<Vec<RedisCommand>>,
}

impl RedisTraffic {
    pub(crate) async fn to(server: &str) -> Self {
        let round_trips = Requests::default();
        let recorded = round_trips.clone();
        let proxy = Proxy::observed(0, server, move || redis_observer(recorded.clone())).await;
        Self { url: proxy.url, round_trips }
    }

    /// The round trips since the last call: the commands that a client sent together. Redis-rs sends a pipeline at once.
    pub(crate) fn take(&self) -> Vec<Vec<RedisCommand>> {
        self.round_trips.take()
    }
}

/// Reads the commands of one connection (RESP: arrays of bulk strings).
fn redis_observer(round_trips: Requests<Vec<RedisCommand>>) -> Observer {
    let (mut unread, mut together) = (Vec::new(), Vec::new());
    Box::new(move |bytes| {
        unread.extend_from_slice(bytes);
        while let Some((command, length)) = redis_command(&unread) {
            together.push(command);
            unread.drain(..length);
        }
        if unread.is_empty() && !together.is_empty() {
            round_trips.add(std::mem::take(&mut together));
        }
    })
}

/// The first command of these bytes and its length, if all of it is there.
fn redis_command(bytes: &[u8]) -> Option<(RedisCommand, usize)> {
    let mut at = 0;
    let number = |at: &mut usize, kind: u8| -> Option<usize> {
        let line = bytes.get(*at..)?;
        let end = line.windows(2).position(|pair| pair == b"\r\n")?;
        assert_eq!(line[0], kind, "not RESP: {}", String::from_utf8_lossy(line));
        *at += end + 2;
        Some(std::str::from_utf8(&line[1..end]).unwrap().parse().unwrap())
    };
    let mut command = Vec::new();
    for _ in 0..number(&mut at, b'*')? {
        let length = number(&mut at, b'$')?;
        let argument = bytes.get(at..at + length)?;
        bytes.get(at + length..at + length + 2)?;
        command.push(String::from_utf8_lossy(argument).into_owned());
        at += length + 2;
    }
    Some((command, at))
}

/// The statements of one transaction, or the one statement outside of any.
pub(crate) type PostgresTransaction = Vec<String>;

/// A proxy in front of Postgres that records all statements.
pub(crate) struct PostgresTraffic {
    /// The address of the proxy.
    pub(crate) url: String,
    transactions: Requests<PostgresTransaction>,
}

impl PostgresTraffic {
    pub(crate) async fn to(server: &str) -> Self {
        let transactions = Requests::default();
        let recorded = transactions.clone();
        let proxy = Proxy::observed(0, server, move || postgres_observer(recorded.clone())).await;
        // Encrypted statements couldn't be read.
        Self { url: format!("{}?sslmode=disable", proxy.url), transactions }
    }

    /// The transactions that have ended since the last call.
    pub(crate) fn take(&self) -> Vec<PostgresTransaction> {
        self.transactions.take()
    }
}

/// The code of a request for encryption. It takes the place of a protocol version.
const SSL_REQUEST: u32 = 80_877_103;

/// Reads the statements of one connection (version 3 of Postgres' protocol).
fn postgres_observer(transactions: Requests<PostgresTransaction>) -> Observer {
    let (mut unread, mut began) = (Vec::new(), false);
    // What each prepared statement and each portal executes.
    let (mut prepared, mut portals) = (HashMap::new(), HashMap::new());
    let mut open = Vec::new();
    Box::new(move |bytes| {
        unread.extend_from_slice(bytes);
        if !began && let Some(length) = u32_at(&unread, 0).filter(|length| unread.len() >= *length as usize) {
            began = u32_at(&unread, 4) != Some(SSL_REQUEST);
            unread.drain(..length as usize);
        }
        while began && let Some((kind, body)) = postgres_message(&mut unread) {
            let statement = match kind {
                b'P' => {
                    prepared.insert(text(&body, 0), text(&body, 1));
                    continue;
                }
                b'B' => {
                    portals.insert(text(&body, 0), prepared.get(&text(&body, 1)).cloned().unwrap_or_default());
                    continue;
                }
                b'E' => portals.get(&text(&body, 0)).cloned().unwrap_or_default(),
                b'Q' => text(&body, 0),
                _ => continue,
            };
            let ends = ["COMMIT", "ROLLBACK"].iter().any(|end| statement.starts_with(end));
            let is_alone = open.is_empty() && !statement.starts_with("BEGIN");
            open.push(statement);
            if ends || is_alone {
                transactions.add(std::mem::take(&mut open));
            }
        }
    })
}

/// Takes the first message off these bytes: its type and its body, if all of it is there.
fn postgres_message(unread: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let length = u32_at(unread, 1)? as usize;
    if unread.len() < 1 + length {
        return None;
    }
    let message: Vec<u8> = unread.drain(..=length).collect();
    Some((message[0], message[5..].to_vec()))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().unwrap()))
}

/// One of the texts with which a message begins. Each ends with a zero.
fn text(body: &[u8], index: usize) -> String {
    let text = body.split(|byte| *byte == 0).nth(index).unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[test]
fn commands_that_arrive_together_or_in_pieces_are_one_round_trip() {
    let round_trips = Requests::default();
    let mut observe = redis_observer(round_trips.clone());
    observe(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPI");
    observe(b"NG\r\n");
    observe(b"*1\r\n$4\r\nPING\r\n");
    assert_eq!(round_trips.take(), [vec![vec!["GET", "a"], vec!["PING"]], vec![vec!["PING"]]]);
}

#[test]
fn executions_of_prepared_statements_count_and_transactions_stay_together() {
    let transactions = Requests::default();
    let mut observe = postgres_observer(transactions.clone());
    let message =
        |kind: u8, body: &str| [&[kind][..], &(4 + body.len() as u32).to_be_bytes(), body.as_bytes()].concat();
    observe(&[0, 0, 0, 8, 0, 3, 0, 0]);
    observe(&[message(b'P', "one\0SELECT 1\0"), message(b'B', "\0one\0"), message(b'E', "\0")].concat());
    observe(&message(b'Q', "BEGIN\0"));
    observe(&[message(b'B', "\0one\0"), message(b'E', "\0"), message(b'S', "")].concat());
    observe(&message(b'Q', "COMMIT\0"));
    assert_eq!(transactions.take(), [vec!["SELECT 1"], vec!["BEGIN", "SELECT 1", "COMMIT"]]);
}
