//! The people of the community, by their user ids.

use domain::UserId;

/// People whose names work as user ids. The first two are those whom the development mode prints tokens for.
const NAMES: [&str; 48] = [
    "alice",
    "bob",
    "carol",
    "dave",
    "erin",
    "frank",
    "grace",
    "heidi",
    "ivan",
    "judy",
    "kenji",
    "laura",
    "mallory",
    "niaj",
    "olivia",
    "peggy",
    "quentin",
    "rupert",
    "sybil",
    "trent",
    "ursula",
    "victor",
    "wendy",
    "xavier",
    "yusuf",
    "zoë",
    "jürgen",
    "søren",
    "françois",
    "núria",
    "łukasz",
    "мария",
    "дмитрий",
    "ελένη",
    "νίκος",
    "美咲",
    "蓮",
    "小明",
    "丽华",
    "민준",
    "서연",
    "प्रिया",
    "فاطمة",
    "יעל",
    "amara",
    "kwame",
    "thảo",
    "anaïs",
];

/// The ids of so many people. Once the names are used up, they come again with a number.
pub(crate) fn people(count: usize) -> Vec<UserId> {
    let id = |index: usize| {
        let name = NAMES[index % NAMES.len()];
        let round = index / NAMES.len();
        let id = if round == 0 { name.to_owned() } else { format!("{name}{}", round + 1) };
        id.parse().ok()
    };
    (0..count).filter_map(id).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn everybody_has_an_id_of_their_own_that_begins_with_a_name() {
        let people = people(10_000);
        assert_eq!(people.iter().collect::<HashSet<_>>().len(), 10_000);
        assert_eq!((people[0].as_str(), people[47].as_str()), ("alice", "anaïs"));
        assert_eq!((people[48].as_str(), people[97].as_str()), ("alice2", "bob3"));
    }
}
