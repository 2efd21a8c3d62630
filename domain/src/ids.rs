//! Identifiers, and their derivation from idempotency keys. The derivations must never change: a retry, however late,
//! has to arrive at the ids of the first attempt.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::limits;
use crate::text::is_format_character;

/// The namespace of every derived id (UUID version 5). It is published, so analysts can derive the ids too.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x8f1d_6c5e_3b0a_4e5c_9d27_5a4c_7e21_b6f0);

/// Why a text is not a valid id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is not a UUID in its hyphenated form of 36 characters.
    #[error("must be a UUID such as 0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47")]
    NotAUuid,
    /// The text doesn't have 1 to 128 characters, or one of them is a space or invisible.
    #[error("must be 1 to 128 visible characters without spaces")]
    NotAUserId,
    /// The text doesn't have 1 to 128 characters, or one of them is not a visible ASCII character.
    #[error("must be 1 to 128 visible ASCII characters without spaces")]
    NotAnIdempotencyKey,
}

fn parse_uuid(text: &str) -> Result<Uuid, IdError> {
    // The uuid crate also accepts braces, URNs and bare hex. One id would then have several spellings.
    if text.len() != 36 {
        return Err(IdError::NotAUuid);
    }
    Uuid::try_parse(text).map_err(|_| IdError::NotAUuid)
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = Uuid, example = "0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47")]
        pub struct $name(pub Uuid);

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_uuid(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

uuid_id!(
    /// The id of a conversation. It is also the key of the conversation's records, which keeps its events in order.
    ConversationId
);
uuid_id!(
    /// The id of a message. It identifies the message within its conversation.
    MessageId
);
uuid_id!(
    /// The id of an event. A record that repeats an id is a duplicate; the first record counts.
    EventId
);

macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident, $error:expr, $valid:expr) => {
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema, ToSchema)]
        $(#[$meta])*
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err($error) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// The id of a user, which is the `sub` of their token: 1 to 128 visible characters without spaces.
    #[schemars(extend("minLength" = 1, "maxLength" = limits::MAX_USER_ID_CHARS, "pattern" = r"^\S+$"))]
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = r"^\S+$", example = "alice")]
    UserId,
    IdError::NotAUserId,
    |text| (1..=limits::MAX_USER_ID_CHARS).contains(&text.chars().count()) && text.chars().all(is_visible)
);
text_id!(
    /// A key that a client sends with a command to retry it safely: 1 to 128 visible ASCII characters.
    #[schemars(extend("minLength" = 1, "maxLength" = limits::MAX_IDEMPOTENCY_KEY_BYTES, "pattern" = "^[!-~]+$"))]
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    IdempotencyKey,
    IdError::NotAnIdempotencyKey,
    |text| (1..=limits::MAX_IDEMPOTENCY_KEY_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
);

/// Whether a character is visible: no control character, no white space, and no format character.
fn is_visible(character: char) -> bool {
    !character.is_control() && !character.is_whitespace() && !is_format_character(character)
}

fn derive_uuid(parts: &[&str]) -> Uuid {
    // A JSON array keeps the parts apart, whatever characters they contain.
    Uuid::new_v5(&NAMESPACE, serde_json::json!(parts).to_string().as_bytes())
}

impl ConversationId {
    /// The direct conversation of two users, the same whichever of them creates it: v5 of the JSON array of their ids
    /// in byte order.
    pub fn direct(one: &UserId, other: &UserId) -> Self {
        let (first, second) = if one.as_str() <= other.as_str() { (one, other) } else { (other, one) };
        Self(derive_uuid(&[first.as_str(), second.as_str()]))
    }

    /// The id of a group whose creation has an idempotency key: v5 of `["", actor, key, "conversation"]`.
    pub fn for_key(actor: &UserId, key: &IdempotencyKey) -> Self {
        Self(derive_uuid(&["", actor.as_str(), key.as_str(), "conversation"]))
    }
}

impl MessageId {
    /// The id of a message whose sending has an idempotency key: v5 of `[conversation, actor, key, "message"]`.
    pub fn for_key(conversation: ConversationId, actor: &UserId, key: &IdempotencyKey) -> Self {
        Self(derive_uuid(&[&conversation.to_string(), actor.as_str(), key.as_str(), "message"]))
    }
}

impl EventId {
    /// The id of an event whose command has an idempotency key: v5 of `[conversation, actor, key, type]`.
    pub fn for_key(conversation: ConversationId, actor: &UserId, key: &IdempotencyKey, event_type: &str) -> Self {
        Self(derive_uuid(&[&conversation.to_string(), actor.as_str(), key.as_str(), event_type]))
    }

    /// The id of a mention notification: v5 of `[eventId of the message, userId]`.
    pub fn for_mention(sent: EventId, mentioned: &UserId) -> Self {
        Self(derive_uuid(&[&sent.to_string(), mentioned.as_str()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_has_1_to_128_visible_characters() {
        for valid in ["a", "alice", "a.b@c", "auth0|5f7c", "zoë", "用户", "🎉", &"ü".repeat(128)] {
            assert_eq!(valid.parse::<UserId>().map(|user| user.to_string()), Ok(valid.to_owned()));
        }
        for invalid in ["", " ", "a b", "a\n", "\0", "a\u{a0}b", "a\u{3000}", "\u{7f}", "\u{85}", &"ü".repeat(129)] {
            assert_eq!(invalid.parse::<UserId>(), Err(IdError::NotAUserId), "{invalid:?}");
        }
        let invisible = ["\u{ad}", "\u{61c}", "\u{200b}", "\u{200d}", "\u{202e}", "\u{2066}", "\u{feff}", "\u{e0041}"];
        for character in invisible {
            assert_eq!(format!("a{character}b").parse::<UserId>(), Err(IdError::NotAUserId), "{character:?}");
        }
    }

    #[test]
    fn an_idempotency_key_has_1_to_128_visible_ascii_characters() {
        for valid in ["k", "!~", "0193a5c0-7d2e", &"k".repeat(128)] {
            assert!(valid.parse::<IdempotencyKey>().is_ok(), "{valid:?}");
        }
        for invalid in ["", " ", "a b", "ü", "\t", "\u{7f}", &"k".repeat(129)] {
            assert_eq!(invalid.parse::<IdempotencyKey>(), Err(IdError::NotAnIdempotencyKey), "{invalid:?}");
        }
    }

    #[test]
    fn a_uuid_is_read_in_any_case_and_written_in_lower_case() {
        let text = "0193A5C0-7D2E-7C3A-9B1F-2F6D1C0E8A47";
        assert_eq!(text.parse::<MessageId>().map(|id| id.to_string()), Ok(text.to_lowercase()));
    }

    #[test]
    fn other_spellings_of_a_uuid_are_refused() {
        let without_hyphens = "0193a5c07d2e7c3a9b1f2f6d1c0e8a47";
        let not_hexadecimal = "0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a4g";
        for text in ["", without_hyphens, not_hexadecimal] {
            assert_eq!(text.parse::<MessageId>(), Err(IdError::NotAUuid), "{text:?}");
        }
    }
}
