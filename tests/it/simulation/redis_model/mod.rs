//! A model of Redis: it executes the commands of the production client, and runs the production scripts. It keeps its
//! keys in memory, has a clock that only the test moves, and can fail on demand.

mod conformance;
mod keyspace;
mod scripts;

use std::sync::{Arc, Mutex, MutexGuard};

use cache::CommandExecutor;
use redis::{Arg, Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use self::keyspace::{Keyspace, Reply};
use self::scripts::Scripts;

/// How the modelled Redis answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Health {
    #[default]
    Up,
    /// It does nothing, and answers each command with an error.
    Down,
    /// It executes the next command, but the client gets an error: its connection broke before the reply came. Then it
    /// is up again.
    LosesNextReply,
}

/// A model. Clones share everything.
#[derive(Clone)]
pub(super) struct RedisModel {
    keyspace: Arc<Mutex<Keyspace>>,
    server: Arc<Mutex<Server>>,
}

struct Server {
    scripts: Scripts,
    health: Health,
}

impl RedisModel {
    /// An empty Redis that is up.
    pub(super) fn new() -> Self {
        let keyspace = Arc::<Mutex<Keyspace>>::default();
        let scripts = Scripts::new(keyspace.clone());
        Self { keyspace, server: Arc::new(Mutex::new(Server { scripts, health: Health::Up })) }
    }

    fn keyspace(&self) -> MutexGuard<'_, Keyspace> {
        self.keyspace.lock().unwrap()
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap()
    }

    /// Makes it what a new one is, with its clock at the beginning.
    pub(super) fn reset(&self) {
        self.lose_everything();
        self.keyspace().now_ms = 0;
        self.set_health(Health::Up);
    }

    /// Loses all keys and scripts, as a Redis without persistence does when it restarts.
    pub(super) fn lose_everything(&self) {
        self.keyspace().clear();
        self.server().scripts.unload();
    }

    /// The fields and values of a hash, as numbers.
    pub(super) fn numbers_in(&self, hash: &str) -> Vec<(i32, i64)> {
        let command = [b"HGETALL".to_vec(), hash.as_bytes().to_vec()];
        let Reply::Array(words) = self.keyspace().execute(&command) else { return Vec::new() };
        let texts: Vec<String> = words.into_iter().map(Reply::into_text).collect();
        texts.chunks(2).map(|pair| (pair[0].parse().unwrap(), pair[1].parse().unwrap())).collect()
    }

    /// Changes how it answers from now on.
    pub(super) fn set_health(&self, health: Health) {
        self.server().health = health;
    }

    /// Moves the clock forward.
    pub(super) fn pass_time(&self, millis: i64) {
        self.keyspace().now_ms += millis;
    }

    fn execute_one(&self, server: &mut Server, command: &[Vec<u8>]) -> Reply {
        let name = String::from_utf8_lossy(&command[0]).to_uppercase();
        match (name.as_str(), command) {
            ("SCRIPT", [_, _, source]) => {
                server.scripts.load(source).map_or_else(Reply::Error, |sha1| Reply::Bulk(sha1.into()))
            }
            ("EVAL", [_, source, arguments @ ..]) => match server.scripts.load(source) {
                Ok(sha1) => server.scripts.run(&sha1, arguments),
                Err(error) => Reply::Error(error),
            },
            ("EVALSHA", [_, sha1, arguments @ ..]) => {
                let sha1 = String::from_utf8_lossy(sha1);
                if server.scripts.is_loaded(&sha1) {
                    server.scripts.run(&sha1, arguments)
                } else {
                    Reply::Error("NOSCRIPT No matching script. Please use EVAL.".to_owned())
                }
            }
            _ => self.keyspace().execute(command),
        }
    }
}

impl CommandExecutor for RedisModel {
    fn execute(&self, commands: &[&Cmd]) -> RedisResult<Vec<Value>> {
        let mut server = self.server();
        if server.health == Health::Down {
            return Err(no_reply());
        }
        let replies: Vec<Reply> =
            commands.iter().map(|command| self.execute_one(&mut server, &words_of(command))).collect();
        let replies = replies.into_iter().map(to_value).collect::<RedisResult<Vec<Value>>>();
        // Of a script that Redis doesn't have yet, the client calls once more.
        let is_preparation = commands.iter().any(|command| words_of(command)[0] == b"SCRIPT") || lacks_script(&replies);
        if server.health == Health::LosesNextReply && !is_preparation {
            server.health = Health::Up;
            return Err(no_reply());
        }
        replies
    }
}

fn no_reply() -> RedisError {
    (ErrorKind::Io, "the modelled Redis doesn't reply").into()
}

fn lacks_script(replies: &RedisResult<Vec<Value>>) -> bool {
    replies.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}

/// The name and the arguments of a command.
fn words_of(command: &Cmd) -> Vec<Vec<u8>> {
    let word = |argument| match argument {
        Arg::Simple(bytes) => Vec::from(bytes),
        Arg::Cursor => b"0".to_vec(),
        other => panic!("the model doesn't know {other:?}"),
    };
    command.args_iter().map(word).collect()
}

/// A reply as the client returns it.
fn to_value(reply: Reply) -> RedisResult<Value> {
    Ok(match reply {
        Reply::Nil => Value::Nil,
        Reply::Integer(number) => Value::Int(number),
        Reply::Bulk(bytes) => Value::BulkString(bytes),
        Reply::Status("OK") => Value::Okay,
        Reply::Status(status) => Value::SimpleString(status.to_owned()),
        Reply::Error(error) if error.starts_with("NOSCRIPT") => {
            return Err((ErrorKind::Server(ServerErrorKind::NoScript), "no such script", error).into());
        }
        Reply::Error(error) => {
            return Err((ErrorKind::Server(ServerErrorKind::ResponseError), "an error", error).into());
        }
        Reply::Array(items) => Value::Array(items.into_iter().map(to_value).collect::<RedisResult<_>>()?),
    })
}
