//! Position tokens: opaque texts that tell the server what a response included.
//!
//! A client sends the token of an earlier response to demand data that is at least as recent, or to catch up from
//! there. Nobody without the secret can make or change a token, and a token must never be accepted from another user.
//!
//! A token is these bytes, one after the other, in base64url without padding. Numbers are LEB128.
//!
//! | Bytes | Content | Example |
//! |---|---|---|
//! | 1 | the version of the format: 1, or 2 for a token that has a walk; 3 and 4 are the same, with a number of repairs | `02` |
//! | 16 | the id of the topic | `00…07` |
//! | 8 | the first bytes of the SHA-256 of the user's id | `2bd806c97f0e00af` (`alice`) |
//! | 1 to 9 per partition | the offset of the partition's next event | `05 ac02 07` (5, 300 and 7) |
//! | only in versions 3 and 4: 1 to 9 | the number of the last repair that the response includes (see [`domain::repair`]); 0 in the others | `07` |
//! | only in versions 2 and 4 | the walk | see below |
//! | 16 | the first bytes of the HMAC-SHA256 of everything before | `aa034497…` |
//!
//! The token with these bytes includes every event below the offsets 5, 300 and 7. It was issued in the middle of a walk
//! (see [`domain::sync_cursor`]), by a sync whose changes didn't fit on one page:
//!
//! | Bytes | Content | Example |
//! |---|---|---|
//! | 1 to 9 per partition | what the walk includes once it has ended | `05 ac02 09` |
//! | 1 to 5 | the section: the partition of the small conversations, or the number of partitions for the large ones | `02` |
//! | 16 | the highest conversation id that is still to come | `00…0c` |
//! | 1 to 9 | the offset from which the page continues in this conversation | `08` |
//! | 1 | how many kinds of changes the client has of the event at that offset | `01` |
//!
//! This token is `AgAAAAAAAAAAAAAAAAAAAAcr2AbJfw4ArwWsAgcFrAIJAgAAAAAAAAAAAAAAAAAAAAwIAaoDRJcBpsoj-WbKMeImEuw`.
//!
//! Clients keep tokens. Earlier releases ended a page at an event, and added its partition and a number of kinds to
//! tokens of version 1. This release reads such a token and ignores the addition: the next page repeats a part of the
//! event.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::sync_cursor::{SyncCursor, SyncWalk, WalkPosition, WalkSection};
use domain::{Position, PositionVector, UserId};
use ring::digest::{self, SHA256};
use ring::hmac;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::problem::Problem;

/// The version of a token that has only offsets.
const OFFSETS: u8 = 1;
/// The version of a token that has a walk, too.
const WALK: u8 = 2;
/// The same with a number of repairs. Where there was none, tokens stay those that earlier releases read.
const REPAIRED_OFFSETS: u8 = 3;
const REPAIRED_WALK: u8 = 4;
const TOPIC_BYTES: usize = 16;
const USER_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + TOPIC_BYTES + USER_BYTES;
const MAC_BYTES: usize = 16;
/// More characters than any token has, even for a topic with thousands of partitions.
const MAX_CHARS: usize = 64 << 10;

domain::limit_rows! {
    Requests, "characters of a position token", Count MAX_CHARS, "400 `invalid_position`", "the time that it takes to read one";
}

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

    /// Makes a token for a user, for a response that includes every event below these offsets, and the repairs up to this
    /// number.
    pub fn issue(&self, user: &UserId, includes: &PositionVector, repairs: i64) -> String {
        self.write(user, includes, repairs, None)
    }

    /// Makes a token with which a user who catches up continues behind this page.
    pub fn issue_sync_cursor(&self, user: &UserId, cursor: &SyncCursor) -> String {
        self.write(user, &cursor.includes, cursor.repairs, cursor.walk.as_ref())
    }

    fn write(&self, user: &UserId, includes: &PositionVector, repairs: i64, walk: Option<&SyncWalk>) -> String {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.partitions * 4 + MAC_BYTES);
        bytes.push(match (walk.is_some(), repairs > 0) {
            (false, false) => OFFSETS,
            (true, false) => WALK,
            (false, true) => REPAIRED_OFFSETS,
            (true, true) => REPAIRED_WALK,
        });
        bytes.extend(self.topic.as_bytes());
        bytes.extend(user_hash(user));
        self.write_offsets(&mut bytes, includes);
        if repairs > 0 {
            write_varint(&mut bytes, u64::try_from(repairs).unwrap_or(0));
        }
        if let Some(walk) = walk {
            self.write_walk(&mut bytes, walk);
        }
        let mac = hmac::sign(&self.key, &bytes);
        bytes.extend(&mac.as_ref()[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn write_offsets(&self, bytes: &mut Vec<u8>, offsets: &PositionVector) {
        for partition in 0..self.partitions {
            let next = offsets.next(i32::try_from(partition).unwrap_or(i32::MAX));
            write_varint(bytes, u64::try_from(next).unwrap_or(0));
        }
    }

    fn write_walk(&self, bytes: &mut Vec<u8>, walk: &SyncWalk) {
        self.write_offsets(bytes, &walk.until);
        let WalkPosition { section, conversation, offset, kinds } = walk.next;
        let section = match section {
            WalkSection::Small(partition) => u64::try_from(partition).unwrap_or(0),
            WalkSection::Large => self.partitions as u64,
        };
        write_varint(bytes, section);
        bytes.extend(conversation.as_bytes());
        write_varint(bytes, u64::try_from(offset).unwrap_or(0));
        bytes.push(kinds);
    }

    /// Reads a token of this user.
    ///
    /// # Errors
    /// When the token is broken, or belongs to another user or topic.
    pub fn read(&self, token: &str, user: &UserId) -> Result<PositionVector, TokenError> {
        self.read_sync_cursor(token, user).map(|cursor| cursor.includes)
    }

    /// Reads a token of this user, including the walk.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_sync_cursor(&self, token: &str, user: &UserId) -> Result<SyncCursor, TokenError> {
        self.read_cursor(token, Some(user))
    }

    /// Reads a token, whoever it belongs to, for those who may see everything.
    ///
    /// # Errors
    /// When the token is broken, or belongs to another topic.
    pub fn read_of_anybody(&self, token: &str) -> Result<PositionVector, TokenError> {
        self.read_cursor(token, None).map(|cursor| cursor.includes)
    }

    fn read_cursor(&self, token: &str, user: Option<&UserId>) -> Result<SyncCursor, TokenError> {
        if token.len() > MAX_CHARS {
            return Err(TokenError::Broken);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Broken)?;
        let split = bytes.len().checked_sub(MAC_BYTES).filter(|split| *split >= HEAD_BYTES);
        let (signed, mac) = bytes.split_at(split.ok_or(TokenError::Broken)?);
        let expected = hmac::sign(&self.key, signed);
        // In constant time: otherwise the duration would reveal how many bytes are right.
        let is_ours = bool::from(expected.as_ref()[..MAC_BYTES].ct_eq(mac));
        if !is_ours || ![OFFSETS, WALK, REPAIRED_OFFSETS, REPAIRED_WALK].contains(&signed[0]) {
            return Err(TokenError::Broken);
        }
        let (head, mut rest) = signed.split_at(HEAD_BYTES);
        let (topic, user_part) = head[1..].split_at(TOPIC_BYTES);
        if user.is_some_and(|user| user_part != user_hash(user)) {
            return Err(TokenError::Foreign);
        }
        if topic != self.topic.as_bytes() {
            return Err(TokenError::OtherTopic);
        }
        let includes = self.read_offsets(&mut rest).ok_or(TokenError::Broken)?;
        let repairs = match signed[0] {
            REPAIRED_OFFSETS | REPAIRED_WALK => read_varint(&mut rest).and_then(|number| i64::try_from(number).ok()),
            _ => Some(0),
        };
        let repairs = repairs.ok_or(TokenError::Broken)?;
        let walk = match signed[0] {
            WALK | REPAIRED_WALK => Some(self.read_walk(&mut rest).ok_or(TokenError::Broken)?),
            _ if rest.is_empty() => None,
            _ => {
                read_partial_event(&mut rest).ok_or(TokenError::Broken)?;
                None
            }
        };
        if rest.is_empty() { Ok(SyncCursor { includes, repairs, walk }) } else { Err(TokenError::Broken) }
    }

    fn read_offsets(&self, bytes: &mut &[u8]) -> Option<PositionVector> {
        let mut offsets = PositionVector::zero(self.partitions);
        for next in &mut offsets.0 {
            *next = i64::try_from(read_varint(bytes)?).ok()?;
        }
        Some(offsets)
    }

    fn read_walk(&self, bytes: &mut &[u8]) -> Option<SyncWalk> {
        let until = self.read_offsets(bytes)?;
        let section = match usize::try_from(read_varint(bytes)?).ok()? {
            partition if partition < self.partitions => WalkSection::Small(i32::try_from(partition).ok()?),
            _ => WalkSection::Large,
        };
        let (conversation, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        let offset = i64::try_from(read_varint(bytes)?).ok()?;
        let (kinds, rest) = bytes.split_first()?;
        *bytes = rest;
        let next = WalkPosition { section, conversation: Uuid::from_bytes(*conversation), offset, kinds: *kinds };
        Some(SyncWalk { until, next })
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

/// Reads what earlier releases added to a token whose page ended within an event: the partition and a number of kinds.
fn read_partial_event(bytes: &mut &[u8]) -> Option<()> {
    read_varint(bytes)?;
    let (_, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(())
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
        let token = tokens().issue(&user("alice"), &includes, 0);
        assert_eq!(tokens().read(&token, &user("alice")), Ok(includes));
    }

    #[test]
    fn a_token_keeps_the_number_of_repairs() {
        let next = WalkPosition { section: WalkSection::Large, conversation: Uuid::from_u128(12), offset: 8, kinds: 1 };
        let walk = SyncWalk { until: PositionVector(vec![5, 300, 9]), next };
        for walk in [None, Some(walk)] {
            let cursor = SyncCursor { includes: PositionVector(vec![5, 300, 7]), repairs: 1_000, walk };
            let token = tokens().issue_sync_cursor(&user("alice"), &cursor);
            assert_eq!(tokens().read_sync_cursor(&token, &user("alice")), Ok(cursor));
        }
    }

    #[test]
    fn a_token_keeps_its_walk() {
        let next = |section| WalkPosition { section, conversation: Uuid::from_u128(12), offset: 8, kinds: 1 };
        for (section, example) in [
            // The example of the module's documentation. Clients keep tokens: a new version must still read it.
            (
                WalkSection::Small(2),
                "AgAAAAAAAAAAAAAAAAAAAAcr2AbJfw4ArwWsAgcFrAIJAgAAAAAAAAAAAAAAAAAAAAwIAaoDRJcBpsoj-WbKMeImEuw",
            ),
            (
                WalkSection::Large,
                "AgAAAAAAAAAAAAAAAAAAAAcr2AbJfw4ArwWsAgcFrAIJAwAAAAAAAAAAAAAAAAAAAAwIAcQeXezPojTks7Y024F0Gi0",
            ),
        ] {
            let walk = Some(SyncWalk { until: PositionVector(vec![5, 300, 9]), next: next(section) });
            let cursor = SyncCursor { includes: PositionVector(vec![5, 300, 7]), repairs: 0, walk };
            let token = tokens().issue_sync_cursor(&user("alice"), &cursor);
            assert_eq!(token, example);
            assert_eq!(tokens().read(&token, &user("alice")), Ok(cursor.includes.clone()));
            assert_eq!(tokens().read_sync_cursor(&token, &user("alice")), Ok(cursor));
        }
    }

    #[test]
    fn a_token_of_an_earlier_release_whose_page_ended_within_an_event_is_read() {
        let token = "AQAAAAAAAAAAAAAAAAAAAAcr2AbJfw4ArwWsAgcCAbKP5BwGFCsHbPlMdis_ec0";
        let expected = SyncCursor::new(PositionVector(vec![5, 300, 7]), 0);
        assert_eq!(tokens().read_sync_cursor(token, &user("alice")), Ok(expected));
    }

    #[test]
    fn a_token_is_valid_only_for_its_user_and_topic() {
        let token = tokens().issue(&user("alice"), &PositionVector::zero(3), 0);
        assert_eq!(tokens().read(&token, &user("bob")), Err(TokenError::Foreign));
        let other = PositionTokens::new("secret", Uuid::from_u128(8), 3);
        assert_eq!(other.read(&token, &user("alice")), Err(TokenError::OtherTopic));
    }

    #[test]
    fn a_token_with_a_changed_byte_is_refused() {
        let token = tokens().issue(&user("alice"), &PositionVector(vec![5, 6, 7]), 0);
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
