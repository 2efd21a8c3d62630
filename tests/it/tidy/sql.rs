//! The rules for migrations.

use crate::harness::repository::{files, text};

#[test]
fn every_constraint_and_index_has_a_name() {
    for file in files().iter().filter(|file| file.starts_with("migrations/") && file.ends_with(".sql")) {
        assert_eq!(nameless(&text(file)), Vec::<String>::new(), "{file}: write CONSTRAINT name before each of these");
    }
}

/// The constraints and indexes of a script that have no name of their own.
fn nameless(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let code = code.join(" ").replace('(', " ( ").replace(')', " ) ").replace(',', " , ").to_uppercase();
    let words: Vec<&str> = code.split_whitespace().collect();
    let word = |index: usize, back: usize| index.checked_sub(back).map_or("", |index| words[index]);
    let mut nameless = Vec::new();
    for index in 0..words.len() {
        let named = match words[index] {
            "PRIMARY" | "FOREIGN" | "CHECK" | "EXCLUDE" => word(index, 2) == "CONSTRAINT",
            "UNIQUE" => word(index, 2) == "CONSTRAINT" || word(index, 1) == "CREATE",
            // In a column; after FOREIGN KEY (…) it belongs to that.
            "REFERENCES" => word(index, 2) == "CONSTRAINT" || word(index, 1) == ")",
            "INDEX" => words.get(index + 1) != Some(&"ON"),
            _ => true,
        };
        if !named {
            nameless.push(words[index.saturating_sub(3)..words.len().min(index + 4)].join(" "));
        }
    }
    nameless
}

#[test]
fn a_constraint_without_a_name_is_found() {
    let good = "CREATE TABLE a (id uuid NOT NULL, b int, -- PRIMARY KEY\n CONSTRAINT a_pkey PRIMARY KEY (id),
        CONSTRAINT a_b FOREIGN KEY (b) REFERENCES c (d)); CREATE UNIQUE INDEX a_b ON a (b);";
    assert_eq!(nameless(good), Vec::<String>::new());
    for bad in [
        "CREATE TABLE a (id uuid PRIMARY KEY);",
        "CREATE TABLE a (id uuid, UNIQUE (id));",
        "CREATE TABLE a (id int CHECK (id > 0));",
        "CREATE TABLE a (id int REFERENCES b (c));",
        "CREATE INDEX ON a (id);",
    ] {
        assert_eq!(nameless(bad).len(), 1, "{bad}");
    }
}
