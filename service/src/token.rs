//! Position tokens: what an answer includes, as an opaque text that can't be forged.
//!
//! A token is base64url of: a version byte, the topic's id, eight bytes of the user's hash, the next offset of
//! every partition as LEB128, where a page ended within an event the partition and a byte, and sixteen bytes of HMAC-SHA256 over all of it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::sync_cursor::{PartialEvent, SyncCursor};
use domain::{Position, PositionVector, UserId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::auth::{equal, keyed_hash};
use crate::problem::Problem;

const VERSION: u8 = 1;
const USER_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + 16 + USER_BYTES;
const MAC_BYTES: usize = 16;
/// Longer than any token of a topic with thousands of partitions.
const MAX_CHARS: usize = 64 << 10;

/// Why a token or position is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Neither a position nor a token of ours.
    #[error("must be a position such as 3:42, or a token as an earlier answer gave it")]
    Broken,
    /// It was given to somebody else.
    #[error("the token was given to another user")]
    Foreign,
    /// It is of a topic that is no more; start anew without it.
    #[error("the token is of another topic; start anew without it")]
    OtherTopic,
}

impl TokenError {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Broken => "invalid_position",
            Self::Foreign => "foreign_token",
            Self::OtherTopic => "other_topic",
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        Self::invalid_header("Messages-Position", error.code(), error.to_string())
    }
}

/// Issues and reads the tokens of one topic. Clones share the key.
#[derive(Clone)]
pub struct PositionTokens {
    key: Arc<[u8]>,
    topic: Uuid,
    partitions: usize,
}

impl PositionTokens {
    /// For a topic, under the processes' common secret.
    pub fn new(secret: &str, topic: Uuid, partitions: usize) -> Self {
        let key = keyed_hash(secret.as_bytes(), &[b"messages/position-token/v1"]);
        Self { key: Arc::from(key.as_slice()), topic, partitions }
    }

    /// A token for a user that includes everything below these offsets.
    pub fn issue(&self, user: &UserId, includes: &PositionVector) -> String {
        self.write(user, includes, None)
    }

    /// A token for a user who catches up, with which they go on where they are.
    pub fn issue_sync_cursor(&self, user: &UserId, reached: &SyncCursor) -> String {
        self.write(user, &reached.includes, reached.partial)
    }

    fn write(&self, user: &UserId, includes: &PositionVector, partial: Option<PartialEvent>) -> String {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.partitions * 4 + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend(self.topic.as_bytes());
        bytes.extend(user_hash(user));
        for partition in 0..self.partitions {
            let next = includes.next(i32::try_from(partition).unwrap_or(i32::MAX));
            write_varint(&mut bytes, u64::try_from(next).unwrap_or(0));
        }
        if let Some(PartialEvent { partition, kinds }) = partial {
            write_varint(&mut bytes, u64::try_from(partition).unwrap_or(0));
            bytes.push(kinds);
        }
        let mac = keyed_hash(&self.key, &[&bytes]);
        bytes.extend(&mac[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token that was issued to this user.
    ///
    /// # Errors
    /// When it is broken, another user's, or another topic's.
    pub fn read(&self, token: &str, user: &UserId) -> Result<PositionVector, TokenError> {
        self.read_sync_cursor(token, user).map(|reached| reached.includes)
    }

    /// Reads a token that was issued to this user, with where within an event they are.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_sync_cursor(&self, token: &str, user: &UserId) -> Result<SyncCursor, TokenError> {
        if token.len() > MAX_CHARS {
            return Err(TokenError::Broken);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Broken)?;
        let split = bytes.len().checked_sub(MAC_BYTES).filter(|split| *split >= HEAD_BYTES);
        let (signed, mac) = bytes.split_at(split.ok_or(TokenError::Broken)?);
        if !equal(&keyed_hash(&self.key, &[signed])[..MAC_BYTES], mac) || signed[0] != VERSION {
            return Err(TokenError::Broken);
        }
        let (head, mut offsets) = signed.split_at(HEAD_BYTES);
        if head[17..] != user_hash(user) {
            return Err(TokenError::Foreign);
        }
        if head[1..17] != *self.topic.as_bytes() {
            return Err(TokenError::OtherTopic);
        }
        let mut includes = PositionVector::zero(self.partitions);
        for next in &mut includes.0 {
            let read = read_varint(&mut offsets).and_then(|value| i64::try_from(value).ok());
            *next = read.ok_or(TokenError::Broken)?;
        }
        let partial =
            if offsets.is_empty() { None } else { Some(read_partial(&mut offsets).ok_or(TokenError::Broken)?) };
        if offsets.is_empty() { Ok(SyncCursor { includes, partial }) } else { Err(TokenError::Broken) }
    }

    /// Reads what a request demands at least: a position `P:O`, which has to be included, or a token.
    ///
    /// # Errors
    /// When it is neither, or a partition that the topic doesn't have.
    pub fn parse_at_least(&self, text: &str, user: &UserId) -> Result<PositionVector, TokenError> {
        let Ok(position) = text.parse::<Position>() else { return self.read(text, user) };
        let known = usize::try_from(position.partition).is_ok_and(|partition| partition < self.partitions);
        // No record has the last offset that there could be: nothing comes after it.
        if known && position.offset < i64::MAX { Ok(PositionVector::up_to(position)) } else { Err(TokenError::Broken) }
    }
}

fn read_partial(bytes: &mut &[u8]) -> Option<PartialEvent> {
    let partition = i32::try_from(read_varint(bytes)?).ok()?;
    let (kinds, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(PartialEvent { partition, kinds: *kinds })
}

fn user_hash(user: &UserId) -> [u8; USER_BYTES] {
    let hash = Sha256::digest(user.as_str().as_bytes());
    std::array::from_fn(|index| hash[index])
}

fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> PositionTokens {
        PositionTokens::new("secret", Uuid::from_u128(7), 3)
    }

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    #[test]
    fn a_token_comes_back_as_it_was_given() {
        let includes = PositionVector(vec![0, 1 << 40, 127]);
        let token = tokens().issue(&user("alice"), &includes);
        assert_eq!(tokens().read(&token, &user("alice")), Ok(includes));
    }

    #[test]
    fn who_catches_up_goes_on_within_an_event() {
        let partial = Some(PartialEvent { partition: 2, kinds: 1 });
        let reached = SyncCursor { includes: PositionVector(vec![5, 6, 7]), partial };
        let token = tokens().issue_sync_cursor(&user("alice"), &reached);
        assert_eq!(tokens().read(&token, &user("alice")), Ok(reached.includes.clone()));
        assert_eq!(tokens().read_sync_cursor(&token, &user("alice")), Ok(reached));
    }

    #[test]
    fn a_token_is_good_for_its_user_and_topic_only() {
        let token = tokens().issue(&user("alice"), &PositionVector::zero(3));
        assert_eq!(tokens().read(&token, &user("bob")), Err(TokenError::Foreign));
        let other = PositionTokens::new("secret", Uuid::from_u128(8), 3);
        assert_eq!(other.read(&token, &user("alice")), Err(TokenError::OtherTopic));
    }

    #[test]
    fn no_byte_of_a_token_can_be_changed() {
        let token = tokens().issue(&user("alice"), &PositionVector(vec![5, 6, 7]));
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for index in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[index] ^= 1;
            let forged = URL_SAFE_NO_PAD.encode(forged);
            assert_eq!(tokens().read(&forged, &user("alice")), Err(TokenError::Broken), "byte {index}");
        }
    }

    #[test]
    fn a_position_demands_that_it_is_included() {
        let at_least = tokens().parse_at_least("2:41", &user("alice")).unwrap();
        assert_eq!(at_least, PositionVector(vec![0, 0, 42]));
        for wrong in ["3:1", "1:-1", "1:+1", "1:9223372036854775807", "x", "", ":", "1:"] {
            assert_eq!(tokens().parse_at_least(wrong, &user("alice")), Err(TokenError::Broken), "{wrong}");
        }
    }
}
