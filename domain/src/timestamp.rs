//! Times: moments in UTC, in whole milliseconds. Nothing here may read a clock.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};
use utoipa::ToSchema;

/// A moment in UTC, exact to the millisecond. Written as RFC 3339 with three decimals and `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema, ToSchema)]
#[schemars(extend("format" = "date-time"))]
#[schema(value_type = String, format = DateTime, example = "2026-11-23T09:00:00.123Z")]
pub struct Timestamp(#[schemars(with = "String")] i64);

/// The text or number is not a moment in the years 0 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time such as 2026-11-23T09:00:00.123Z")]
pub struct NotATimestamp;

impl Timestamp {
    /// The moment this many milliseconds after the start of 1970.
    ///
    /// # Errors
    /// When the year is not between 0 and 9999.
    pub fn from_millis(millis: i64) -> Result<Self, NotATimestamp> {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000);
        match moment {
            Ok(moment) if (0..=9999).contains(&moment.year()) => Ok(Self(millis)),
            _ => Err(NotATimestamp),
        }
    }

    /// Milliseconds since the start of 1970.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// Converts from a date and time. Cuts off fractions of a millisecond.
    ///
    /// # Errors
    /// When the year is not between 0 and 9999.
    pub fn from_date_time(moment: OffsetDateTime) -> Result<Self, NotATimestamp> {
        let millis = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        Self::from_millis(i64::try_from(millis).map_err(|_| NotATimestamp)?)
    }

    /// Converts to a date and time in UTC.
    pub fn to_date_time(self) -> OffsetDateTime {
        // Every moment that `from_millis` accepts can be represented, so the default is never used.
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
        f.write_str(&self.to_date_time().format(format).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = NotATimestamp;
    fn from_str(text: &str) -> Result<Self, NotATimestamp> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| NotATimestamp)?;
        Self::from_date_time(moment.checked_to_offset(UtcOffset::UTC).ok_or(NotATimestamp)?)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_utc_with_three_decimals() {
        for (read, written) in [
            ("2026-11-23T09:00:00Z", "2026-11-23T09:00:00.000Z"),
            ("2026-11-23T09:00:00.1Z", "2026-11-23T09:00:00.100Z"),
            ("2026-11-23T09:00:00.123999999Z", "2026-11-23T09:00:00.123Z"),
            ("2026-11-23T10:30:00.123+01:30", "2026-11-23T09:00:00.123Z"),
            ("2025-12-31T23:00:00-05:00", "2026-01-01T04:00:00.000Z"),
            ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ] {
            let time: Timestamp = read.parse().unwrap();
            assert_eq!(time.to_string(), written);
            assert_eq!(written.parse(), Ok(time));
            assert_eq!(Timestamp::from_millis(time.as_millis()), Ok(time));
            assert_eq!(Timestamp::from_date_time(time.to_date_time()), Ok(time));
        }
    }

    #[test]
    fn other_texts_and_years_are_refused() {
        for text in [
            "",
            "yesterday",
            "2026-11-23",
            "2026-11-23T09:00:00",
            "2026-02-30T09:00:00Z",
            "2026-11-23T24:00:00Z",
            "9999-12-31T23:59:59-01:00",
            "0000-01-01T00:00:00+01:00",
            "10000-01-01T00:00:00Z",
            " 2026-11-23T09:00:00Z",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(NotATimestamp), "{text}");
        }
        for millis in [i64::MIN, -62_167_219_200_001, 253_402_300_800_000, i64::MAX] {
            assert_eq!(Timestamp::from_millis(millis), Err(NotATimestamp));
        }
    }

    #[test]
    fn earlier_times_compare_as_less() {
        let millis = |millis| Timestamp::from_millis(millis).unwrap();
        assert!(millis(-1) < millis(0) && millis(0) < millis(1));
        assert_eq!(millis(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }
}
