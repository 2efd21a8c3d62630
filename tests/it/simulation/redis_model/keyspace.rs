//! The keys of the modelled Redis, and the commands that the `cache` crate and its scripts use. Any other command is an
//! error, so that a script that begins to use one fails its first run here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A reply to a command, as the protocol carries it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    Nil,
    Integer(i64),
    Bulk(Vec<u8>),
    Status(&'static str),
    Error(String),
    Array(Vec<Reply>),
}

impl Reply {
    fn optional(bytes: Option<&Vec<u8>>) -> Self {
        bytes.map_or(Self::Nil, |bytes| Self::Bulk(bytes.clone()))
    }

    /// The text of a bulk reply.
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Bulk(bytes) => String::from_utf8(bytes).unwrap(),
            other => panic!("not a text: {other:?}"),
        }
    }

    fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).unwrap())
    }

    fn bulks<'a>(items: impl IntoIterator<Item = &'a Vec<u8>>) -> Self {
        Self::Array(items.into_iter().map(|item| Self::Bulk(item.clone())).collect())
    }
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
enum Stored {
    Text(Vec<u8>),
    /// In the order in which the fields were added, as Redis keeps a small hash.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    Set(BTreeSet<Vec<u8>>),
    SortedSet(BTreeMap<Vec<u8>, f64>),
}

#[derive(Debug, Clone, PartialEq)]
struct Key {
    value: Stored,
    expires_at_ms: Option<i64>,
}

/// All keys, and a clock that only the test moves.
#[derive(Debug, Default)]
pub(super) struct Keyspace {
    keys: HashMap<Vec<u8>, Key>,
    pub(super) now_ms: i64,
}

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// Reads or creates the value of a type under a key. The command ends with an error if the key has another type.
macro_rules! stored {
    ($self:ident, $key:expr, $type:ident) => {
        match $self.live($key) {
            None => None,
            Some(Key { value: Stored::$type(value), .. }) => Some(value),
            Some(_) => return Err(WRONG_TYPE.to_owned()),
        }
    };
    ($self:ident, $key:expr, $type:ident, create) => {{
        $self.live($key);
        let empty = || Key { value: Stored::$type(Default::default()), expires_at_ms: None };
        match $self.keys.entry($key.to_vec()).or_insert_with(empty) {
            Key { value: Stored::$type(value), .. } => value,
            _ => return Err(WRONG_TYPE.to_owned()),
        }
    }};
}

impl Keyspace {
    /// Deletes all keys.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
    }

    /// Executes a command: its name and its arguments.
    pub(super) fn execute(&mut self, command: &[Vec<u8>]) -> Reply {
        let name = String::from_utf8_lossy(&command[0]).to_uppercase();
        let arguments: Vec<&[u8]> = command[1..].iter().map(Vec::as_slice).collect();
        let done = match arguments.as_slice() {
            arguments if name.starts_with('H') => self.hash_command(&name, arguments),
            arguments if name.starts_with(['Z']) || ["SADD", "SREM", "SMEMBERS"].contains(&name.as_str()) => {
                self.set_command(&name, arguments)
            }
            arguments => self.key_command(&name, arguments),
        };
        done.unwrap_or_else(Reply::Error)
    }

    fn key_command(&mut self, name: &str, arguments: &[&[u8]]) -> Result<Reply, String> {
        Ok(match (name, arguments) {
            ("PING", []) => Reply::Status("PONG"),
            ("TIME", []) => {
                let micros = self.now_ms % 1_000 * 1_000;
                Reply::bulks([&text(self.now_ms / 1_000), &text(micros)])
            }
            ("PUBLISH", [_, _]) => Reply::Integer(0),
            ("GET", [key]) => Reply::optional(stored!(self, key, Text).map(|it| &*it)),
            ("SET", [key, value, options @ ..]) => self.set(key, value, options)?,
            ("DEL", keys) => {
                let mut deleted = |key: &&&[u8]| self.live(key).is_some() && self.keys.remove(**key).is_some();
                Reply::count(keys.iter().filter(&mut deleted).count())
            }
            ("EXISTS", keys) => Reply::count(keys.iter().filter(|key| self.live(key).is_some()).count()),
            ("INCR", [key]) => self.add(key, 1)?,
            ("INCRBY", [key, amount]) => self.add(key, number(amount)?)?,
            ("DECRBY", [key, amount]) => self.add(key, -number(amount)?)?,
            ("EXPIRE", [key, seconds]) => self.expire_in(key, number(seconds)? * 1_000),
            ("PEXPIRE", [key, millis]) => self.expire_in(key, number(millis)?),
            ("PTTL", [key]) => {
                let now_ms = self.now_ms;
                Reply::Integer(match self.live(key) {
                    None => -2,
                    Some(Key { expires_at_ms: None, .. }) => -1,
                    Some(Key { expires_at_ms: Some(at_ms), .. }) => *at_ms - now_ms,
                })
            }
            _ => return Err(format!("ERR the model doesn't know {name} with {} arguments", arguments.len())),
        })
    }

    fn hash_command(&mut self, name: &str, arguments: &[&[u8]]) -> Result<Reply, String> {
        let field = |hash: Option<&mut Vec<(Vec<u8>, Vec<u8>)>>, field: &[u8]| {
            hash.and_then(|hash| hash.iter().find(|(name, _)| name == field).map(|(_, value)| value.clone()))
        };
        Ok(match (name, arguments) {
            ("HGET", [key, name]) => Reply::optional(field(stored!(self, key, Hash), name).as_ref()),
            ("HEXISTS", [key, name]) => Reply::count(usize::from(field(stored!(self, key, Hash), name).is_some())),
            ("HMGET", [key, names @ ..]) => {
                let mut values = Vec::new();
                for name in names {
                    values.push(Reply::optional(field(stored!(self, key, Hash), name).as_ref()));
                }
                Reply::Array(values)
            }
            ("HGETALL", [key]) => {
                let hash = stored!(self, key, Hash);
                Reply::bulks(hash.iter().flat_map(|hash| hash.iter()).flat_map(|(name, value)| [name, value]))
            }
            ("HSTRLEN", [key, name]) => {
                Reply::count(field(stored!(self, key, Hash), name).map_or(0, |value| value.len()))
            }
            ("HDEL", [key, names @ ..]) if !names.is_empty() => match stored!(self, key, Hash) {
                Some(hash) => {
                    let before = hash.len();
                    hash.retain(|(name, _)| !names.contains(&name.as_slice()));
                    let (deleted, is_empty) = (before - hash.len(), hash.is_empty());
                    // A hash without fields doesn't exist.
                    if is_empty {
                        self.keys.remove(*key);
                    }
                    Reply::count(deleted)
                }
                None => Reply::Integer(0),
            },
            ("HSETNX", [key, name, value]) => {
                let hash = stored!(self, key, Hash, create);
                let is_new = hash.iter().all(|(known, _)| known != name);
                if is_new {
                    hash.push((name.to_vec(), value.to_vec()));
                }
                Reply::count(usize::from(is_new))
            }
            ("HSET", [key, pairs @ ..]) if !pairs.is_empty() && pairs.len().is_multiple_of(2) => {
                let hash = stored!(self, key, Hash, create);
                let mut added = 0;
                for pair in pairs.chunks(2) {
                    match hash.iter_mut().find(|(name, _)| name == pair[0]) {
                        Some((_, value)) => *value = pair[1].to_vec(),
                        None => {
                            hash.push((pair[0].to_vec(), pair[1].to_vec()));
                            added += 1;
                        }
                    }
                }
                Reply::count(added)
            }
            _ => return Err(format!("ERR the model doesn't know {name} with {} arguments", arguments.len())),
        })
    }

    fn set_command(&mut self, name: &str, arguments: &[&[u8]]) -> Result<Reply, String> {
        let reply = match (name, arguments) {
            ("SADD", [key, members @ ..]) if !members.is_empty() => {
                let set = stored!(self, key, Set, create);
                Reply::count(members.iter().filter(|member| set.insert(member.to_vec())).count())
            }
            ("SREM", [key, members @ ..]) if !members.is_empty() => match stored!(self, key, Set) {
                Some(set) => Reply::count(members.iter().filter(|member| set.remove(**member)).count()),
                None => Reply::Integer(0),
            },
            ("SMEMBERS", [key]) => Reply::bulks(stored!(self, key, Set).iter().flat_map(|set| set.iter())),
            ("ZADD", [key, score, member]) => {
                let score = String::from_utf8_lossy(score).parse().map_err(|_| "ERR value is not a valid float")?;
                let is_new = stored!(self, key, SortedSet, create).insert(member.to_vec(), score).is_none();
                Reply::count(usize::from(is_new))
            }
            ("ZREM", [key, member]) => {
                let removed = stored!(self, key, SortedSet).and_then(|set| set.remove(*member));
                Reply::count(usize::from(removed.is_some()))
            }
            ("ZSCORE", [key, member]) => {
                let score = stored!(self, key, SortedSet).and_then(|set| set.get(*member).copied());
                score.map_or(Reply::Nil, |score| Reply::Bulk(text(score)))
            }
            _ => return Err(format!("ERR the model doesn't know {name} with {} arguments", arguments.len())),
        };
        // A set without members doesn't exist.
        self.keys.retain(|_, key| match &key.value {
            Stored::Set(set) => !set.is_empty(),
            Stored::SortedSet(set) => !set.is_empty(),
            Stored::Text(_) | Stored::Hash(_) => true,
        });
        Ok(reply)
    }

    /// The key, unless it has expired.
    fn live(&mut self, key: &[u8]) -> Option<&mut Key> {
        let now_ms = self.now_ms;
        if self.keys.get(key).is_some_and(|it| it.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)) {
            self.keys.remove(key);
        }
        self.keys.get_mut(key)
    }

    fn expire_in(&mut self, key: &[u8], millis: i64) -> Reply {
        let at_ms = self.now_ms + millis;
        let found = self.live(key).map(|key| key.expires_at_ms = Some(at_ms)).is_some();
        Reply::count(usize::from(found))
    }

    fn set(&mut self, key: &[u8], value: &[u8], options: &[&[u8]]) -> Result<Reply, String> {
        let now_ms = self.now_ms;
        let expires_at_ms = match options {
            [] => None,
            [b"EX", seconds] => Some(now_ms + number(seconds)? * 1_000),
            [b"PX", millis] => Some(now_ms + number(millis)?),
            [b"XX", b"KEEPTTL"] if self.live(key).is_none() => return Ok(Reply::Nil),
            [b"KEEPTTL"] | [b"XX", b"KEEPTTL"] => self.live(key).and_then(|key| key.expires_at_ms),
            _ => return Err("ERR the model doesn't know this option of SET".to_owned()),
        };
        self.keys.insert(key.to_vec(), Key { value: Stored::Text(value.to_vec()), expires_at_ms });
        Ok(Reply::Status("OK"))
    }

    fn add(&mut self, key: &[u8], difference: i64) -> Result<Reply, String> {
        let value = stored!(self, key, Text, create);
        let sum = if value.is_empty() { 0 } else { number(value)? } + difference;
        *value = text(sum);
        Ok(Reply::Integer(sum))
    }
}

fn text(value: impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn number(bytes: &[u8]) -> Result<i64, String> {
    let text = String::from_utf8_lossy(bytes);
    text.parse().map_err(|_| "ERR value is not an integer or out of range".to_owned())
}
