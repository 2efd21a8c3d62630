//! A model of Redis: the production client talks to it over a socket, and it runs the production scripts. It keeps its
//! keys in memory, has a clock that only the test moves, and can fail on demand.

mod conformance;
mod keyspace;
mod scripts;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::keyspace::{Keyspace, Reply};
use self::scripts::Scripts;

/// How many bytes a connection has room for at first.
const BUFFER: usize = 64 << 10;

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

/// A running model. Its connections run as local tasks.
pub(super) struct RedisModel {
    keyspace: Rc<RefCell<Keyspace>>,
    scripts: Rc<RefCell<Scripts>>,
    health: Rc<Cell<Health>>,
    pub(super) url: String,
}

impl RedisModel {
    /// Listens on a free port. Needs a `LocalSet`.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let keyspace = Rc::new(RefCell::new(Keyspace::default()));
        let scripts = Rc::new(RefCell::new(Scripts::new(keyspace.clone())));
        let model = Self { keyspace, scripts, health: Rc::default(), url };
        let (keyspace, scripts, health) = (model.keyspace.clone(), model.scripts.clone(), model.health.clone());
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = Connection {
                    keyspace: keyspace.clone(),
                    scripts: scripts.clone(),
                    health: health.clone(),
                    transaction: None,
                };
                tokio::task::spawn_local(connection.serve(stream));
            }
        });
        model
    }

    /// Loses all keys.
    pub(super) fn clear(&self) {
        self.keyspace.borrow_mut().clear();
    }

    /// The fields and values of a hash, as numbers.
    pub(super) fn numbers_in(&self, hash: &str) -> Vec<(i32, i64)> {
        let command = [b"HGETALL".to_vec(), hash.as_bytes().to_vec()];
        let Reply::Array(words) = self.keyspace.borrow_mut().execute(&command) else { return Vec::new() };
        let texts: Vec<String> = words.into_iter().map(Reply::into_text).collect();
        texts.chunks(2).map(|pair| (pair[0].parse().unwrap(), pair[1].parse().unwrap())).collect()
    }

    /// Changes how it answers from now on.
    pub(super) fn set_health(&self, health: Health) {
        self.health.set(health);
    }

    /// Moves the clock forward.
    pub(super) fn pass_time(&self, millis: i64) {
        self.keyspace.borrow_mut().now_ms += millis;
    }
}

/// A client's connection.
struct Connection {
    keyspace: Rc<RefCell<Keyspace>>,
    scripts: Rc<RefCell<Scripts>>,
    health: Rc<Cell<Health>>,
    /// The queued commands between `MULTI` and `EXEC`.
    transaction: Option<Vec<Vec<Vec<u8>>>>,
}

impl Connection {
    /// Serves requests until the client closes the connection.
    async fn serve(mut self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let (mut received, mut replies) = (Vec::with_capacity(BUFFER), Vec::with_capacity(BUFFER));
        while let Ok(1..) = stream.read_buf(&mut received).await {
            while let Some((command, length)) = parse(&received) {
                received.drain(..length);
                let reply = self.answer(&command);
                encode(&reply, &mut replies);
            }
            if stream.write_all(&replies).await.is_err() {
                return;
            }
            replies.clear();
        }
    }

    fn answer(&mut self, command: &[Vec<u8>]) -> Reply {
        let name = String::from_utf8_lossy(&command[0]).to_uppercase();
        match (name.as_str(), &mut self.transaction) {
            // What the client says about itself when it connects, whatever happens later.
            ("CLIENT", _) => Reply::Status("OK"),
            ("MULTI", _) => {
                self.transaction = Some(Vec::new());
                Reply::Status("OK")
            }
            ("EXEC", transaction) => {
                let commands = transaction.take().unwrap_or_default();
                self.answer_in_health(|connection| {
                    Reply::Array(commands.iter().map(|command| connection.execute(command)).collect())
                })
            }
            (_, Some(commands)) => {
                commands.push(command.to_vec());
                Reply::Status("QUEUED")
            }
            _ => self.answer_in_health(|connection| connection.execute(command)),
        }
    }

    fn answer_in_health(&self, execute: impl FnOnce(&Self) -> Reply) -> Reply {
        let error = Reply::Error("ERR the model is down".to_owned());
        match self.health.get() {
            Health::Up => execute(self),
            Health::Down => error,
            Health::LosesNextReply => {
                let reply = execute(self);
                if matches!(&reply, Reply::Error(error) if error.starts_with("NOSCRIPT")) {
                    return reply;
                }
                self.health.set(Health::Up);
                error
            }
        }
    }

    fn execute(&self, command: &[Vec<u8>]) -> Reply {
        let name = String::from_utf8_lossy(&command[0]).to_uppercase();
        let loaded = |source: &[u8]| self.scripts.borrow_mut().load(source);
        match (name.as_str(), command) {
            ("SCRIPT", [_, _, source]) => loaded(source).map_or_else(Reply::Error, |sha1| Reply::Bulk(sha1.into())),
            ("EVAL", [_, source, arguments @ ..]) => match loaded(source) {
                Ok(sha1) => self.scripts.borrow().run(&sha1, arguments),
                Err(error) => Reply::Error(error),
            },
            ("EVALSHA", [_, sha1, arguments @ ..]) => {
                let (sha1, scripts) = (String::from_utf8_lossy(sha1), self.scripts.borrow());
                if scripts.is_loaded(&sha1) {
                    scripts.run(&sha1, arguments)
                } else {
                    Reply::Error("NOSCRIPT No matching script. Please use EVAL.".to_owned())
                }
            }
            _ => self.keyspace.borrow_mut().execute(command),
        }
    }
}

/// The first command in a buffer, if all of it has come, and its length in bytes.
fn parse(received: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let mut at = 0;
    let header = |at: &mut usize| {
        let rest = received.get(*at..)?;
        let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let line = &rest[1..length];
        *at += length + 2;
        String::from_utf8_lossy(line).parse::<usize>().ok()
    };
    let count = header(&mut at)?;
    let mut command = Vec::with_capacity(count);
    for _ in 0..count {
        let length = header(&mut at)?;
        command.push(received.get(at..at + length)?.to_vec());
        at += length + 2;
    }
    (at <= received.len()).then_some((command, at))
}

fn encode(reply: &Reply, buffer: &mut Vec<u8>) {
    match reply {
        Reply::Nil => buffer.extend(b"$-1\r\n"),
        Reply::Integer(number) => buffer.extend(format!(":{number}\r\n").as_bytes()),
        Reply::Status(status) => buffer.extend(format!("+{status}\r\n").as_bytes()),
        Reply::Error(error) => buffer.extend(format!("-{error}\r\n").as_bytes()),
        Reply::Bulk(bytes) => {
            buffer.extend(format!("${}\r\n", bytes.len()).as_bytes());
            buffer.extend(bytes);
            buffer.extend(b"\r\n");
        }
        Reply::Array(items) => {
            buffer.extend(format!("*{}\r\n", items.len()).as_bytes());
            for item in items {
                encode(item, buffer);
            }
        }
    }
}
