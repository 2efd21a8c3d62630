//! The same calls on the modelled Redis and on a real one have the same replies.

use cache::CommandExecutor;
use domain::testing::Rng;
use redis::Value;
use redis::aio::MultiplexedConnection;
use uuid::Uuid;

use super::RedisModel;
use crate::harness::eventually;
use crate::harness::system::defaults;

const ADMIT: &str = concat!(
    include_str!("../../../../cache/src/scripts/although_full.lua"),
    include_str!("../../../../cache/src/scripts/epoch.lua"),
    include_str!("../../../../cache/src/scripts/admit.lua")
);
const EPOCH: &str = concat!(
    include_str!("../../../../cache/src/scripts/epoch.lua"),
    "local epoch, age = epoch_of(KEYS[1], ARGV[1]) return {epoch, age}"
);
const EXPIRE: &str = include_str!("../../../../cache/src/scripts/expire.lua");
const HEARTBEAT: &str = include_str!("../../../../cache/src/scripts/heartbeat.lua");
const FORGET_VERSIONS: &str = include_str!("../../../../cache/src/scripts/forget_versions.lua");
const MARK_OFFLINE: &str = include_str!("../../../../cache/src/scripts/mark_offline.lua");
const MARK_ONLINE: &str = include_str!("../../../../cache/src/scripts/mark_online.lua");
const PUBLISH_PROGRESS: &str = include_str!("../../../../cache/src/scripts/publish_progress.lua");
const PUT_VIEW: &str = include_str!("../../../../cache/src/scripts/put_view.lua");
const ROLL_BACK: &str = concat!(
    include_str!("../../../../cache/src/scripts/although_full.lua"),
    include_str!("../../../../cache/src/scripts/roll_back.lua")
);
const SHARE_RESERVATION: &str = include_str!("../../../../cache/src/scripts/share_reservation.lua");
const TYPING: &str = concat!(
    include_str!("../../../../cache/src/scripts/although_full.lua"),
    include_str!("../../../../cache/src/scripts/typing.lua")
);
const VERSIONS: &str = include_str!("../../../../cache/src/scripts/versions.lua");
const VIEW: &str = concat!(
    include_str!("../../../../cache/src/scripts/although_full.lua"),
    include_str!("../../../../cache/src/scripts/count.lua"),
    include_str!("../../../../cache/src/scripts/view.lua")
);

/// One Redis of each kind, and a prefix of its own for the keys.
struct Pair {
    model: RedisModel,
    real: MultiplexedConnection,
    prefix: String,
}

impl Pair {
    async fn connect() -> Self {
        let real = redis::Client::open(defaults().redis_url).unwrap();
        let real = real.get_multiplexed_async_connection().await.unwrap();
        Self { model: RedisModel::new(), real, prefix: format!("t{}", Uuid::now_v7().simple()) }
    }

    /// The name of a key under the prefix.
    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    /// Runs a command on both. Returns the reply of the model.
    async fn run(&mut self, command: &redis::Cmd) -> Value {
        let modelled = self.model.execute(&[command]).map(|replies| replies[0].clone());
        let real = command.query_async::<Value>(&mut self.real).await;
        let words: Vec<String> = command.args_iter().map(|it| readable(&it)).collect();
        match (modelled, real) {
            (Ok(modelled), Ok(mut real)) => {
                if let ("SMEMBERS", Value::Array(members)) = (words[0].as_str(), &mut real) {
                    // Redis promises no order. The model has the members in theirs.
                    members.sort_by_key(|member| format!("{member:?}"));
                }
                assert_eq!(comparable(&modelled), comparable(&real), "{words:?}");
                modelled
            }
            (Err(_), Err(_)) => Value::Nil,
            (modelled, real) => panic!("the model: {modelled:?}; Redis: {real:?}; {words:?}"),
        }
    }

    /// Runs a command; the words that begin with a colon are keys.
    async fn command(&mut self, words: &str) -> Value {
        let mut command = redis::Cmd::new();
        for word in words.split(' ') {
            match word.strip_prefix(':') {
                Some(name) => command.arg(self.key(name)),
                None => command.arg(word),
            };
        }
        self.run(&command).await
    }

    async fn script(&mut self, source: &str, keys: &[&str], arguments: &[&str]) -> Value {
        let mut command = redis::cmd("EVAL");
        command.arg(source).arg(keys.len());
        for key in keys {
            command.arg(self.key(key));
        }
        for argument in arguments {
            command.arg(*argument);
        }
        self.run(&command).await
    }

    /// Waits until a key has expired in Redis, and lets as much time pass in the model.
    async fn expire(&mut self, name: &str) {
        let key = self.key(name);
        let real = self.real.clone();
        eventually("the key expires", async || {
            let exists: bool = redis::cmd("EXISTS").arg(&key).query_async(&mut real.clone()).await.unwrap();
            (!exists).then_some(())
        })
        .await;
        self.model.pass_time(1_000);
    }
}

fn readable(argument: &redis::Arg<&[u8]>) -> String {
    match argument {
        redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

/// A reply without what depends on the clock: long times count as equal, and so do epochs that began a moment ago.
fn comparable(reply: &Value) -> Value {
    match reply {
        Value::Int(millis @ 1_000..) => Value::Int((millis + 99_999) / 100_000 * 100_000),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(comparable).collect();
            let is_epoch = |item: &Value| matches!(item, Value::BulkString(text) if text.ends_with(b" an-epoch"));
            if let Some(index) = items.iter().position(is_epoch) {
                items[index] = Value::SimpleString("an epoch".to_owned());
                items[index + 1] = Value::SimpleString("a short age".to_owned());
            }
            Value::Array(items)
        }
        other => other.clone(),
    }
}

#[tokio::test]
async fn the_model_admits_commands_and_takes_them_back_as_redis_does() {
    let mut pair = Pair::connect().await;
    // Admission: counted, over the limit, reserved, known as reserved, with and without a pending entity.
    let without_key = ["1", "2", "60000", "1", "{}", "60", "1"];
    let with_key = ["1", "2", "60000", "1", "", "60", "0", "0", "60000", "120000", "the event", "86400", "an-epoch"];
    for _ in 0..3 {
        pair.script(ADMIT, &["limit", "pending", "typing"], &without_key).await;
    }
    pair.script(ADMIT, &["limit", "reservation", "epoch", "ahead"], &with_key).await;
    pair.script(ADMIT, &["other-limit", "reservation", "epoch", "ahead"], &with_key).await;
    pair.script(ADMIT, &["other-limit", "reservation", "epoch", "ahead"], &with_key).await;
    pair.command("SET :reservation a-hash:3:42 XX KEEPTTL").await;
    pair.command("SET :nothing a-hash:3:42 XX KEEPTTL").await;
    pair.script(ADMIT, &["other-limit", "reservation", "epoch", "ahead"], &with_key).await;
    // Two limits: the second refuses, and neither counts.
    let invites = ["2", "2", "60000", "1", "5", "60000", "4", "", "60", "0"];
    for _ in 0..2 {
        pair.script(ADMIT, &["kind", "people"], &invites).await;
    }
    pair.command("GET :kind").await;
    pair.script(ROLL_BACK, &["kind", "people"], &["2", "1", "4", "0"]).await;
    pair.command("GET :people").await;
    pair.script(EPOCH, &["epoch"], &["another"]).await;
    for name in ["limit", "other-limit", "pending", "reservation", "epoch", "nothing"] {
        pair.command(&format!("PTTL :{name}")).await;
    }
    // A key whose time is far ahead leaves a mark; an earlier one leaves that as it is.
    for (key, time) in [("late", "4000000000000"), ("later", "3900000000000")] {
        let ahead = ["1", "9", "60000", "1", "", "60", "0", time, "60000", "120000", "the event", "86400", "an-epoch"];
        pair.script(ADMIT, &["more", key, "epoch", "ahead"], &ahead).await;
        pair.command("GET :ahead").await;
    }
    pair.script(EXPIRE, &["late", "nothing"], &["240000", "240000"]).await;
    for name in ["late", "later"] {
        pair.command(&format!("PTTL :{name}")).await;
    }
    // Rolling back: an event that is not the reserved one, a reservation with a position, and one without.
    pair.script(ROLL_BACK, &["limit", "pending"], &["1", "1", "1"]).await;
    pair.script(ROLL_BACK, &["other-limit", "reservation"], &["1", "1", "0", "the event"]).await;
    pair.script(ADMIT, &["other-limit", "second", "epoch", "ahead"], &with_key).await;
    pair.script(ROLL_BACK, &["other-limit", "second"], &["1", "1", "0", "another event"]).await;
    pair.command("GET :second").await;
    pair.script(ROLL_BACK, &["other-limit", "second"], &["1", "1", "0", "the event"]).await;
    // Of an event that two attempts append, neither frees the key.
    pair.script(SHARE_RESERVATION, &["second"], &["the event"]).await;
    pair.script(ADMIT, &["other-limit", "second", "epoch", "ahead"], &with_key).await;
    for reserved in ["another event", "the event", "the event", "the event "] {
        pair.script(SHARE_RESERVATION, &["second"], &[reserved]).await;
    }
    pair.script(ROLL_BACK, &["other-limit", "second"], &["1", "1", "0", "the event"]).await;
    pair.command("GET :second").await;
    pair.command("EXISTS :second :reservation :pending :limit").await;
}

#[tokio::test]
async fn the_model_keeps_views_and_progress_as_redis_does() {
    let mut pair = Pair::connect().await;
    pair.script(EPOCH, &["epoch"], &["an-epoch"]).await;
    pair.script(VIEW, &["progress", "as-of", "view"], &["", "2000"]).await;
    pair.script(VERSIONS, &["progress", "a", "b"], &["7200", "a1", "b1"]).await;
    pair.script(VERSIONS, &["progress", "c", "d"], &["30", "c1", "d1"]).await;
    pair.script(FORGET_VERSIONS, &["c", "d", "e"], &["c1", "d0", "e1"]).await;
    pair.command("EXISTS :c :d :e").await;
    let depends = format!("[[\"{}\",\"a1\"],[\"{}\",\"b1\"]]\n\"tag\"\n{{}}", pair.key("a"), pair.key("b"));
    let put = |size| [depends.as_str(), "1800", "7200", size, "2", "1000", "a1", "b1"];
    for (key, size) in [("view", ""), ("list", "20"), ("list", "5"), ("list", "20"), ("list", "7")] {
        pair.script(PUT_VIEW, &[key, "a", "b"], &put(size)).await;
        pair.script(VIEW, &["progress", "as-of", key], &[size, "2000"]).await;
    }
    pair.command("HMGET :list sizes 5").await;
    // Only the view itself fits its bytes.
    pair.script(PUT_VIEW, &["list", "a", "b"], &[&depends, "1800", "7200", "9", "2", "150", "a1", "b1"]).await;
    pair.command("HMGET :list sizes 20 7").await;
    for _ in 0..3 {
        pair.script(VIEW, &["progress", "as-of", "view", "counter"], &["", "2000", "2", "60000"]).await;
    }
    let outdated = pair.script(PUT_VIEW, &["view", "a"], &["", "1800", "7200", "", "2", "1000", "a0"]).await;
    assert_eq!(outdated, Value::Int(0));
    pair.script(
        PUBLISH_PROGRESS,
        &["progress", "all", "epoch"],
        &["v2", "channel", "1", "2", "0", "0", "5", "1", "7", "9"],
    )
    .await;
    let hit = pair.script(VIEW, &["progress", "as-of", "view"], &["", "2000"]).await;
    assert!(matches!(&hit, Value::Array(items) if items[1] != Value::Nil), "{hit:?}");
    pair.script(PUBLISH_PROGRESS, &["progress", "all", "epoch", "b", "c"], &["v3", "channel", "1", "0"]).await;
    let missed = pair.script(VIEW, &["progress", "as-of", "view"], &["", "2000"]).await;
    assert!(matches!(&missed, Value::Array(items) if items[1] == Value::Nil), "{missed:?}");
    pair.script(VERSIONS, &["progress", "a", "b", "c"], &["7200", "a4", "b4", "c4"]).await;
    pair.command("PTTL :b").await;
    // Redis is behind on partition 0 and ahead on partition 1: the epoch of reservations ends.
    pair.script(
        PUBLISH_PROGRESS,
        &["progress", "all", "epoch"],
        &["v5", "channel", "1", "2", "0", "6", "8", "1", "7", "8"],
    )
    .await;
    pair.command("EXISTS :epoch").await;
    pair.command("HGETALL :progress").await;
}

#[tokio::test]
async fn the_model_expires_keys_as_redis_does() {
    let mut pair = Pair::connect().await;
    let (start, stop) = (["3", "60000", "100000", "60000"], ["3", "60000"]);
    pair.script(TYPING, &["typing", "typing-limit"], &stop).await;
    pair.script(TYPING, &["typing", "typing-limit"], &start).await;
    pair.script(TYPING, &["typing", "typing-limit"], &start).await;
    pair.command("SET :typing 1 PX 1").await;
    pair.expire("typing").await;
    pair.script(TYPING, &["typing", "typing-limit"], &start).await;
    pair.script(TYPING, &["typing", "typing-limit"], &stop).await;
    pair.script(TYPING, &["typing", "typing-limit"], &start).await;
    pair.command("SET :text 1 PX 1").await;
    pair.expire("text").await;
    for command in ["GET :text", "EXISTS :text", "INCR :text", "PTTL :text", "DEL :text"] {
        pair.command(command).await;
    }
    for online in ["node-1", "node-2"] {
        pair.script(HEARTBEAT, &["nodes"], &[online, "60000"]).await;
        pair.script(MARK_ONLINE, &["nodes-of", "seen", "nodes", "users-of"], &[online, "60", "u"]).await;
    }
    // The clocks of the two differ, and so would the time when they last saw the user.
    pair.command("SET :seen 9000000000000").await;
    pair.script(MARK_OFFLINE, &["nodes-of", "seen", "nodes", "users-of"], &["node-1", "3000", "60", "u"]).await;
    pair.command("ZADD :nodes 1 node-2").await;
    pair.script(MARK_ONLINE, &["nodes-of", "seen", "nodes", "users-of"], &["node-3", "60", "u"]).await;
    pair.command("SET :seen 9000000000000").await;
    pair.script(MARK_OFFLINE, &["nodes-of", "seen", "nodes", "users-of"], &["node-2", "0", "60", "u"]).await;
    pair.command("EXISTS :nodes-of :users-of :nodes :seen").await;
}

/// Random calls on a few keys, so that they concern each other, and some find a key of another type.
#[tokio::test]
async fn the_model_answers_random_calls_as_redis_does() {
    let commands = [
        "GET :K",
        "SET :K X",
        "SET :K 7 EX 900",
        "SET :K X KEEPTTL",
        "SET :K X XX KEEPTTL",
        "DEL :K :L",
        "EXISTS :K :L",
        "INCR :K",
        "INCRBY :K 3",
        "DECRBY :K 2",
        "EXPIRE :K 900",
        "PEXPIRE :K 900000",
        "PTTL :K",
        "HSET :K X 1 Y 2",
        "HSETNX :K X 3",
        "HGET :K X",
        "HMGET :K X Z",
        "HGETALL :K",
        "HSTRLEN :K X",
        "HDEL :K X",
        "HDEL :K X Y",
        "HEXISTS :K Y",
        "SADD :K X Y",
        "SREM :K X",
        "SMEMBERS :K",
        "ZADD :K 3 X",
        "ZREM :K X",
        "ZSCORE :K X",
        "PUBLISH channel X",
    ];
    let mut pair = Pair::connect().await;
    let mut rng = Rng::new(16);
    let names = ["k1", "k2", "k3", "k4"];
    for _ in 0..3_000 {
        let (k, l) = (rng.pick(&names).unwrap(), rng.pick(&names).unwrap());
        if rng.percent(80) {
            let command = rng.pick(&commands).unwrap();
            let command = command.replace(":K", &format!(":{k}")).replace(":L", &format!(":{l}"));
            pair.command(&command).await;
            continue;
        }
        let (from, to) = (rng.below(4).to_string(), rng.below(8).to_string());
        match rng.below(3) {
            0 => pair.script(VERSIONS, &["progress", k, l], &["7200", &from, &to]).await,
            1 => pair.script(ROLL_BACK, &[k, l], &["1", "1", "0", "X"]).await,
            _ => {
                let arguments = ["v", "channel", "1", "1", "3", &from, &to];
                pair.script(PUBLISH_PROGRESS, &["progress", "all", "epoch", k, l], &arguments).await
            }
        };
    }
}
