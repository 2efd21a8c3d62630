//! What an append came to. An append must never report an event as refused that may be on the log.

use domain::Position;

/// Why an append failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// None of the events is on the log, and none ever will be.
    #[error("refused: {0}")]
    Refused(String),
    /// Some or all of the events may be on the log: the producer sent them, and Kafka did not acknowledge all of them.
    #[error("unknown: {0}")]
    Unknown(String),
    /// None of the events is on the log, because one is larger than the topic takes.
    #[error("an event is larger than the topic takes")]
    TooLarge,
}

/// The position of one event, or why Kafka did not acknowledge it.
pub(crate) type Delivery = Result<Position, AppendError>;

/// The result of appending several events together: the position of the first, if Kafka acknowledged all. They count as
/// refused only if none of them can be on the log.
pub(crate) fn combine(deliveries: Vec<Delivery>) -> Delivery {
    let is_refused = |delivery: &Delivery| matches!(delivery, Err(AppendError::Refused(_) | AppendError::TooLarge));
    let all_refused = deliveries.iter().all(is_refused);
    if all_refused && deliveries.contains(&Err(AppendError::TooLarge)) {
        return Err(AppendError::TooLarge);
    }
    let mut first = None;
    for delivery in deliveries {
        match delivery {
            Ok(position) => first = first.or(Some(position)),
            Err(error) if all_refused => return Err(error),
            Err(AppendError::Refused(reason) | AppendError::Unknown(reason)) => {
                return Err(AppendError::Unknown(reason));
            }
            Err(error @ AppendError::TooLarge) => return Err(AppendError::Unknown(error.to_string())),
        }
    }
    first.ok_or_else(|| AppendError::Refused("there was no event to append".to_owned()))
}

pub(crate) fn count_failure(error: &AppendError) {
    let outcome = match error {
        AppendError::Refused(_) | AppendError::TooLarge => "refused",
        AppendError::Unknown(_) => "unknown",
    };
    metrics::counter!("append_failures_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use domain::Position;

    use super::{AppendError, Delivery, combine};

    fn acknowledged(offset: i64) -> Delivery {
        Ok(Position { partition: 1, offset })
    }

    fn refused() -> Delivery {
        Err(AppendError::Refused("not now".to_owned()))
    }

    fn unknown() -> Delivery {
        Err(AppendError::Unknown("timed out".to_owned()))
    }

    #[test]
    fn acknowledged_events_have_the_position_of_the_first() {
        assert_eq!(combine(vec![acknowledged(7), acknowledged(8)]), acknowledged(7));
    }

    #[test]
    fn events_are_refused_if_each_is_refused() {
        assert_eq!(combine(vec![refused(), refused()]), refused());
    }

    #[test]
    fn events_are_too_large_if_one_is_and_none_is_on_the_log() {
        assert_eq!(combine(vec![Err(AppendError::TooLarge), refused()]), Err(AppendError::TooLarge));
        let partly = combine(vec![Err(AppendError::TooLarge), acknowledged(7)]);
        assert!(matches!(partly, Err(AppendError::Unknown(_))), "{partly:?}");
    }

    #[test]
    fn events_are_unknown_if_some_can_be_on_the_log() {
        for deliveries in
            [vec![acknowledged(7), refused()], vec![refused(), acknowledged(7)], vec![refused(), unknown()]]
        {
            let combined = combine(deliveries);
            assert!(matches!(combined, Err(AppendError::Unknown(_))), "{combined:?}");
        }
    }
}
