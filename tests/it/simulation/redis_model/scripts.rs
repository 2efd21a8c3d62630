//! The production Lua scripts, run by a real Lua 5.1, as in Redis: `redis.call` goes to the modelled keys.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use mlua::{Function, Lua, Table, Value};

use super::keyspace::{Keyspace, Reply};

/// Runs scripts on a keyspace. Compiles each script once.
pub(super) struct Scripts {
    lua: Lua,
    /// By SHA-1 in hex, as are the loaded ones.
    compiled: HashMap<String, Function>,
    /// The scripts that clients can call.
    loaded: HashSet<String>,
}

impl Scripts {
    /// A Lua whose `redis.call` executes commands on this keyspace.
    pub(super) fn new(keyspace: Arc<Mutex<Keyspace>>) -> Self {
        let lua = Lua::new();
        let call = move |lua: &Lua, arguments: mlua::Variadic<Value>| {
            let command = arguments.iter().map(argument).collect::<mlua::Result<Vec<_>>>()?;
            match keyspace.lock().unwrap().execute(&command) {
                Reply::Error(error) => Err(mlua::Error::runtime(error)),
                reply => to_lua(lua, &reply),
            }
        };
        let redis = lua.create_table().unwrap();
        redis.set("call", lua.create_function(call).unwrap()).unwrap();
        lua.globals().set("redis", redis).unwrap();
        let cjson = lua.create_table().unwrap();
        cjson.set("decode", lua.create_function(decode_json).unwrap()).unwrap();
        lua.globals().set("cjson", cjson).unwrap();
        Self { lua, compiled: HashMap::new(), loaded: HashSet::new() }
    }

    pub(super) fn is_loaded(&self, sha1: &str) -> bool {
        self.loaded.contains(sha1)
    }

    /// Makes clients load each script again. It stays compiled.
    pub(super) fn unload(&mut self) {
        self.loaded.clear();
    }

    /// Loads a script. Returns its SHA-1 in hex, by which clients call it.
    pub(super) fn load(&mut self, source: &[u8]) -> Result<String, String> {
        let sha1 = sha1_smol::Sha1::from(source).digest().to_string();
        if !self.compiled.contains_key(&sha1) {
            let function = self.lua.load(source).into_function().map_err(|error| format!("ERR {error}"))?;
            self.compiled.insert(sha1.clone(), function);
        }
        self.loaded.insert(sha1.clone());
        Ok(sha1)
    }

    /// Runs a loaded script. `arguments` begins with the number of keys, as in `EVALSHA`.
    pub(super) fn run(&self, sha1: &str, arguments: &[Vec<u8>]) -> Reply {
        self.try_run(sha1, arguments)
            .unwrap_or_else(|error| Reply::Error(format!("ERR {error}").replace(['\r', '\n'], " ")))
    }

    fn try_run(&self, sha1: &str, arguments: &[Vec<u8>]) -> mlua::Result<Reply> {
        let key_count: usize = String::from_utf8_lossy(&arguments[0]).parse().map_err(mlua::Error::external)?;
        let (keys, arguments) = arguments[1..].split_at(key_count);
        self.lua.globals().set("KEYS", self.strings(keys)?)?;
        self.lua.globals().set("ARGV", self.strings(arguments)?)?;
        to_reply(&self.compiled[sha1].call::<Value>(())?)
    }

    fn strings(&self, items: &[Vec<u8>]) -> mlua::Result<Table> {
        let table = self.lua.create_table()?;
        for item in items {
            table.push(self.lua.create_string(item)?)?;
        }
        Ok(table)
    }
}

/// An argument of `redis.call`: a string or a number.
fn argument(value: &Value) -> mlua::Result<Vec<u8>> {
    match value {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        Value::Integer(number) => Ok(number.to_string().into_bytes()),
        Value::Number(number) => Ok(number.to_string().into_bytes()),
        other => Err(mlua::Error::runtime(format!("redis.call takes strings and numbers, not {other:?}"))),
    }
}

/// A reply as a script sees it.
fn to_lua(lua: &Lua, reply: &Reply) -> mlua::Result<Value> {
    Ok(match reply {
        Reply::Nil => Value::Boolean(false),
        Reply::Integer(number) => Value::Number(*number as f64),
        Reply::Bulk(bytes) => Value::String(lua.create_string(bytes)?),
        Reply::Status(status) => {
            let table = lua.create_table()?;
            table.set("ok", *status)?;
            Value::Table(table)
        }
        Reply::Error(error) => return Err(mlua::Error::runtime(error)),
        Reply::Array(items) => {
            let table = lua.create_table()?;
            for (index, item) in items.iter().enumerate() {
                table.set(index + 1, to_lua(lua, item)?)?;
            }
            Value::Table(table)
        }
    })
}

/// What a script returns, as the client sees it.
fn to_reply(value: &Value) -> mlua::Result<Reply> {
    Ok(match value {
        Value::Nil | Value::Boolean(false) => Reply::Nil,
        Value::Boolean(true) => Reply::Integer(1),
        Value::Integer(number) => Reply::Integer(*number),
        // Redis cuts the fraction off.
        Value::Number(number) => Reply::Integer(*number as i64),
        Value::String(text) => Reply::Bulk(text.as_bytes().to_vec()),
        Value::Table(table) => {
            if let Some(error) = table.get::<Option<String>>("err")? {
                return Ok(Reply::Error(error));
            }
            // Redis ends an array at the first nil.
            let mut items = Vec::new();
            for index in 1.. {
                match table.get::<Value>(index)? {
                    Value::Nil => break,
                    item => items.push(to_reply(&item)?),
                }
            }
            Reply::Array(items)
        }
        other => return Err(mlua::Error::runtime(format!("a script returned {other:?}"))),
    })
}

fn decode_json(lua: &Lua, json: mlua::LuaString) -> mlua::Result<Value> {
    let json: serde_json::Value = serde_json::from_slice(&json.as_bytes()).map_err(mlua::Error::external)?;
    json_to_lua(lua, &json)
}

fn json_to_lua(lua: &Lua, json: &serde_json::Value) -> mlua::Result<Value> {
    Ok(match json {
        serde_json::Value::String(text) => Value::String(lua.create_string(text)?),
        serde_json::Value::Array(items) => {
            let table = lua.create_table()?;
            for item in items {
                table.push(json_to_lua(lua, item)?)?;
            }
            Value::Table(table)
        }
        other => return Err(mlua::Error::runtime(format!("the model's cjson doesn't decode {other}"))),
    })
}
