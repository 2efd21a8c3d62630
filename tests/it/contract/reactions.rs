//! Reactions: adding and removing them, their labels, and which emoji a message accepts.

use serde_json::{Value, json};

use crate::contract::scene::Scene;
use crate::harness::http::Response;

impl Scene {
    async fn react(&self, user: &str, emoji: &str) -> Response {
        self.system.react(user, &self.message, emoji).await
    }

    /// Reacts with a label, or with one of the words `add` and `remove`.
    async fn react_with_label(&self, user: &str, emoji: &str, label: &str) -> Response {
        let body = json!({"action": "reaction", "messageId": self.message, "emoji": emoji, "reaction": label});
        self.system.post(user, body).await
    }

    async fn remove_reaction(&self, user: &str, emoji: &str) -> Response {
        let body = json!({"action": "remove_reaction", "messageId": self.message, "emoji": emoji});
        self.system.post(user, body).await
    }

    /// Asserts the response of a command of bob's with 👍 and without a label, its event, and its rate limit.
    async fn assert_unlabelled_by_bob(&self, done: &Response, status: u16, event_type: &str, remaining: u32) {
        let data = json!({"messageId": self.message, "emoji": "👍", "label": null});
        let event_data = json!({"messageId": self.message, "emoji": "👍"});
        self.assert_done(done, status, data, json!({"type": event_type, "actorId": "bob", "data": event_data})).await;
        done.assert_rate_limit(100, remaining);
    }

    /// Asserts that bob's reaction is the message's only one and its last change.
    async fn assert_projected_addition(&self, done: &Response) {
        self.system.wait_until_projected(done).await;
        let rows = json!([{"emoji": "👍", "label": null, "user_ids": ["bob"]}]);
        assert_eq!(self.system.reaction_rows(&self.message).await, rows);
        let offset: i64 = done.position().split_once(':').unwrap().1.parse().unwrap();
        assert_eq!(self.system.message_row(&self.message).await["position"], offset);
    }

    async fn assert_projected_removal(&self, done: &Response) {
        self.system.wait_until_projected(done).await;
        assert_eq!(self.system.reaction_rows(&self.message).await[0]["user_ids"], json!([]));
    }

    /// Asserts a command's response and its event.
    async fn assert_done(&self, done: &Response, status: u16, data: Value, event: Value) {
        assert_eq!((done.status, &done.body), (status, &json!({"data": data})), "{done:?}");
        assert_eq!(done.header("location"), "");
        self.system.record_at(done).await.assert_event(&self.conversation, event);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reaction_is_returned_logged_and_projected_and_can_be_removed() {
    let scene = Scene::with(&["bob", "carol", "dan"]).await;

    let added = scene.react("bob", "👍").await;
    scene.assert_unlabelled_by_bob(&added, 201, "REACTION_ADDED", 99).await;
    scene.assert_projected_addition(&added).await;
    let removed = scene.react_with_label("bob", "👍", "remove").await;
    scene.assert_unlabelled_by_bob(&removed, 200, "REACTION_REMOVED", 98).await;
    scene.assert_projected_removal(&removed).await;

    // The API has a second way to add and to remove a reaction.
    let added = scene.react_with_label("bob", "👍", "add").await;
    scene.assert_unlabelled_by_bob(&added, 201, "REACTION_ADDED", 97).await;
    scene.assert_projected_addition(&added).await;
    let removed = scene.remove_reaction("bob", "👍").await;
    scene.assert_unlabelled_by_bob(&removed, 200, "REACTION_REMOVED", 96).await;
    scene.assert_projected_removal(&removed).await;

    let read = scene.system.get("bob", &format!("/api/messages/{}", scene.message)).await;
    assert_eq!(read.data()["reactions"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_stays_until_a_reaction_sets_another() {
    struct Reaction<'a> {
        user: &'a str,
        /// The field `reaction` of the command.
        reaction: Option<&'a str>,
        /// The label of the emoji after the command.
        label_after: &'a str,
    }
    let scene = Scene::with(&["bob", "carol", "dan"]).await;
    let id = &scene.message;
    let longest = "é".repeat(32);
    let mut last = None;
    for Reaction { user, reaction, label_after } in [
        Reaction { user: "bob", reaction: Some("agreed"), label_after: "agreed" },
        Reaction { user: "carol", reaction: None, label_after: "agreed" },
        Reaction { user: "dan", reaction: Some("add"), label_after: "agreed" },
        Reaction { user: "bob", reaction: Some(&longest), label_after: &longest },
        Reaction { user: "bob", reaction: Some(&longest), label_after: &longest },
    ] {
        let done = match reaction {
            Some(reaction) => scene.react_with_label(user, "👍", reaction).await,
            None => scene.react(user, "👍").await,
        };

        let label = reaction.filter(|reaction| *reaction != "add");
        let mut event_data = json!({"messageId": id, "emoji": "👍"});
        if let Some(label) = label {
            event_data["label"] = json!(label);
        }
        let event = json!({"type": "REACTION_ADDED", "actorId": user, "data": event_data});
        scene.assert_done(&done, 201, json!({"messageId": id, "emoji": "👍", "label": label}), event).await;
        scene.system.wait_until_projected(&done).await;
        assert_eq!(scene.system.reaction_rows(id).await[0]["label"], label_after);
        last = Some(done);
    }
    // A user counts once, however often they react with the same emoji.
    let read = scene.system.get_after(&last.unwrap(), "alice", &format!("/api/messages/{id}")).await;
    let reactions = json!([{"emoji": "👍", "label": longest, "count": 3, "userIds": ["bob", "carol", "dan"]}]);
    assert_eq!(read.data()["reactions"], reactions);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reaction_is_exactly_one_emoji_of_any_composition() {
    let scene = Scene::with(&["bob", "carol", "dan"]).await;
    let records_before = scene.system.records().await.len();
    let flag_of_england = "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}";
    let (toned_kiss, toned_family) = ("👩🏽‍❤️‍💋‍👨🏿", "👨🏿‍👩🏻‍👧🏽‍👦🏾");
    let accepted = ["👍", "👍🏽", "❤️", "🇩🇪", flag_of_england, "1️⃣", "👨‍👩‍👧‍👦", "🏳️‍🌈", toned_kiss, toned_family];
    for emoji in accepted {
        let done = scene.react("bob", emoji).await;
        assert_eq!((done.status, &done.data()["emoji"]), (201, &json!(emoji)), "{emoji} {done:?}");
    }
    assert_eq!(scene.system.records().await.len(), records_before + accepted.len());

    let too_long = &["👩🏽"; 7].join("\u{200d}");
    let joiner = "\u{200d}";
    let variation_selector = "\u{fe0f}";
    for text in ["", " ", "a", "1", "ok", "👍👍", "👍 ", joiner, "👍\u{200d}", variation_selector, "<b>", too_long]
    {
        let refused = scene.react("bob", text).await;
        assert_eq!(refused.field_errors(), [("emoji", "not_an_emoji")], "{text:?}");
    }
    assert_eq!(scene.system.records().await.len(), records_before + accepted.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn spellings_of_an_emoji_are_one_reaction_that_looks_as_first_given() {
    let scene = Scene::with(&["bob", "carol", "dan"]).await;
    for (first, other) in [
        ("❤", "❤\u{fe0f}"),
        ("☺\u{fe0f}", "☺"),
        ("🏳\u{200d}🌈", "🏳\u{fe0f}\u{200d}🌈"),
        ("1\u{fe0f}\u{20e3}", "1\u{20e3}"),
    ] {
        assert_eq!(scene.react("bob", first).await.status, 201);
        let again = scene.react("bob", other).await;
        assert_eq!((again.status, &again.data()["emoji"]), (201, &json!(other)), "the answer is to the command");
        let added = scene.react("carol", other).await;
        let path = format!("/api/messages/{}", scene.message);
        let shown = scene.system.get_after(&added, "dan", &path).await;
        let group = shown.data()["reactions"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(group, json!({"emoji": first, "label": null, "count": 2, "userIds": ["bob", "carol"]}));
        let removed = scene.remove_reaction("bob", other).await;
        assert_eq!(removed.status, 200);
        scene.remove_reaction("carol", first).await;
    }
    let kept = scene.react("dan", "❤\u{fe0e}").await;
    let shown = scene.system.get_after(&kept, "dan", &format!("/api/messages/{}", scene.message)).await;
    assert_eq!(shown.data()["reactions"], json!([{"emoji": "❤", "label": null, "count": 1, "userIds": ["dan"]}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_accepts_twenty_different_emoji_in_all_its_life() {
    let scene = Scene::with(&["bob", "carol", "dan"]).await;
    let emoji: Vec<String> = ('🐀'..).take(21).map(String::from).collect();
    let (accepted, one_too_many) = (&emoji[..20], &emoji[20]);
    scene.system.wait_until_caught_up().await;
    let pause = scene.system.pause_projection().await;

    for emoji in accepted {
        let done = scene.react("bob", emoji).await;
        assert_eq!(done.status, 201, "{done:?}");
    }
    scene.react("bob", one_too_many).await.assert_problem(422, "too_many");

    // The limit also holds when only the read model knows the emoji.
    pause.rollback().await.unwrap();
    scene.system.wait_until_caught_up().await;
    scene.system.clear_redis().await;
    let records_before = scene.system.records().await.len();
    scene.react("bob", one_too_many).await.assert_problem(422, "too_many");
    assert_eq!(scene.system.records().await.len(), records_before);

    // A removed emoji still counts, and every user may react with an emoji that the message has.
    let removed = scene.react_with_label("bob", &accepted[0], "remove").await;
    scene.system.wait_until_projected(&removed).await;
    assert_eq!(scene.react("carol", one_too_many).await.field_errors(), [("emoji", "too_many")]);
    assert_eq!(scene.react("carol", &accepted[0]).await.status, 201);
    assert_eq!(scene.react("dan", &accepted[19]).await.status, 201);
    let removed_without_addition = scene.react_with_label("dan", one_too_many, "remove").await;
    assert_eq!(removed_without_addition.status, 200);
}
