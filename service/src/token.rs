//! Position tokens: opaque texts that tell the server what a response included.
//!
//! A client sends the token of an earlier response to demand data that is at least as recent, or to catch up from
//! there. Nobody without the secret can make or change a token, and a token must never be accepted from another user.
//!
//! A token is these bytes, one after the other, in base64url without padding:
//!
//! | Bytes | Content | Example |
//! |---|---|---|
//! | 1 | the version of the format | `01` |
//! | 16 | the id of the topic | `00…07` |
//! | 8 | the first bytes of the SHA-256 of the user's id | `2bd806c97f0e00af` (`alice`) |
//! | 1 to 9 per partition | the offset of the partition's next event, as LEB128 | `05 ac02 07` (5, 300 and 7) |
//! | none, or at least 2 | a partition as LEB128, and a number of kinds | `02 01` |
//! | 16 | the first bytes of the HMAC-SHA256 of everything before | `b28fe41c…` |
//!
//! The token with these bytes is `AQAAAAAAAAAAAAAAAAAAAAcr2AbJfw4ArwWsAgcCAbKP5BwGFCsHbPlMdis_ec0`. It includes every
//! event below the offsets 5, 300 and 7.
//!
//! The optional part exists only in tokens of a client that catches up, and only if its page ended within an event. One
//! event can change things of several kinds: a conversation, a message and a read mark. In the example, the page ended
//! after the first kind (`01`) of the next event of partition 2, whose offset is 7. The next page continues with the
//! second kind.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::sync_cursor::{PartialEvent, SyncCursor};
use domain::{Position, PositionVector, UserId};
use ring::digest::{self, SHA256};
use ring::hmac;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::problem::Problem;

const VERSION: u8 = 1;
const TOPIC_BYTES: usize = 16;
const USER_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + TOPIC_BYTES + USER_BYTES;
const MAC_BYTES: usize = 16;
/// More characters than any token has, even for a topic with thousands of partitions.
const MAX_CHARS: usize = 64 << 10;

/// Why the server refuses a token or a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The text is neither a position nor a token that we made.
    #[error("must be a position such as 3:42, or a token from an earlier response")]
    Broken,
    /// The token belongs to another user.
    #[error("the token belongs to another user")]
    Foreign,
    /// The token belongs to an earlier topic, which somebody has replaced.
    #[error("the token belongs to an earlier topic; start again without it")]
    OtherTopic,
}

impl TokenError {
    /// The stable code, for programs.
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
    key: Arc<hmac::Key>,
    topic: Uuid,
    partitions: usize,
}

impl PositionTokens {
    /// Tokens for a topic. All processes have the same secret, and so read each other's tokens.
    pub fn new(secret: &str, topic: Uuid, partitions: usize) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let key = hmac::sign(&secret, b"messages/position-token/v1");
        Self { key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())), topic, partitions }
    }

    /// Makes a token for a user, for a response that includes every event below these offsets.
    pub fn issue(&self, user: &UserId, includes: &PositionVector) -> String {
        self.write(user, includes, None)
    }

    /// Makes a token with which a user who catches up continues behind this page.
    pub fn issue_sync_cursor(&self, user: &UserId, cursor: &SyncCursor) -> String {
        self.write(user, &cursor.includes, cursor.partial)
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
        let mac = hmac::sign(&self.key, &bytes);
        bytes.extend(&mac.as_ref()[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token of this user.
    ///
    /// # Errors
    /// When the token is broken, or belongs to another user or topic.
    pub fn read(&self, token: &str, user: &UserId) -> Result<PositionVector, TokenError> {
        self.read_sync_cursor(token, user).map(|cursor| cursor.includes)
    }

    /// Reads a token of this user, including the position within an event.
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
        let expected = hmac::sign(&self.key, signed);
        // In constant time: otherwise the duration would reveal how many bytes are right.
        let is_ours = bool::from(expected.as_ref()[..MAC_BYTES].ct_eq(mac));
        if !is_ours || signed[0] != VERSION {
            return Err(TokenError::Broken);
        }
        let (head, mut rest) = signed.split_at(HEAD_BYTES);
        let (topic, user_part) = head[1..].split_at(TOPIC_BYTES);
        if user_part != user_hash(user) {
            return Err(TokenError::Foreign);
        }
        if topic != self.topic.as_bytes() {
            return Err(TokenError::OtherTopic);
        }
        let mut includes = PositionVector::zero(self.partitions);
        for next in &mut includes.0 {
            let offset = read_varint(&mut rest).and_then(|value| i64::try_from(value).ok());
            *next = offset.ok_or(TokenError::Broken)?;
        }
        let partial = if rest.is_empty() { None } else { Some(read_partial(&mut rest).ok_or(TokenError::Broken)?) };
        if rest.is_empty() { Ok(SyncCursor { includes, partial }) } else { Err(TokenError::Broken) }
    }

    /// Reads what a response must include at least: the event at a position `P:O`, or everything that a token includes.
    ///
    /// # Errors
    /// When the text is neither, or the topic doesn't have the partition.
    pub fn parse_at_least(&self, text: &str, user: &UserId) -> Result<PositionVector, TokenError> {
        let Ok(position) = text.parse::<Position>() else { return self.read(text, user) };
        let is_known = usize::try_from(position.partition).is_ok_and(|partition| partition < self.partitions);
        // No record can have the last possible offset, and adding one to it would overflow.
        if is_known && position.offset < i64::MAX {
            Ok(PositionVector::up_to(position))
        } else {
            Err(TokenError::Broken)
        }
    }
}

fn read_partial(bytes: &mut &[u8]) -> Option<PartialEvent> {
    let partition = i32::try_from(read_varint(bytes)?).ok()?;
    let (kinds, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(PartialEvent { partition, kinds: *kinds })
}

fn user_hash(user: &UserId) -> [u8; USER_BYTES] {
    let hash = digest::digest(&SHA256, user.as_str().as_bytes());
    std::array::from_fn(|index| hash.as_ref()[index])
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
    fn a_token_keeps_its_offsets() {
        let includes = PositionVector(vec![0, 1 << 40, 127]);
        let token = tokens().issue(&user("alice"), &includes);
        assert_eq!(tokens().read(&token, &user("alice")), Ok(includes));
    }

    #[test]
    fn a_token_keeps_the_position_within_an_event() {
        let partial = Some(PartialEvent { partition: 2, kinds: 1 });
        let cursor = SyncCursor { includes: PositionVector(vec![5, 300, 7]), partial };
        let token = tokens().issue_sync_cursor(&user("alice"), &cursor);
        // The example of the module's documentation. Clients keep tokens: a new version must still read it.
        assert_eq!(token, "AQAAAAAAAAAAAAAAAAAAAAcr2AbJfw4ArwWsAgcCAbKP5BwGFCsHbPlMdis_ec0");
        assert_eq!(tokens().read(&token, &user("alice")), Ok(cursor.includes.clone()));
        assert_eq!(tokens().read_sync_cursor(&token, &user("alice")), Ok(cursor));
    }

    #[test]
    fn a_token_is_valid_only_for_its_user_and_topic() {
        let token = tokens().issue(&user("alice"), &PositionVector::zero(3));
        assert_eq!(tokens().read(&token, &user("bob")), Err(TokenError::Foreign));
        let other = PositionTokens::new("secret", Uuid::from_u128(8), 3);
        assert_eq!(other.read(&token, &user("alice")), Err(TokenError::OtherTopic));
    }

    #[test]
    fn a_token_with_a_changed_byte_is_refused() {
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
    fn a_position_demands_the_event_at_it() {
        let at_least = tokens().parse_at_least("2:41", &user("alice")).unwrap();
        assert_eq!(at_least, PositionVector(vec![0, 0, 42]));
        for invalid in ["3:1", "1:-1", "1:+1", "1:9223372036854775807", "x", "", ":", "1:"] {
            assert_eq!(tokens().parse_at_least(invalid, &user("alice")), Err(TokenError::Broken), "{invalid}");
        }
    }
}
