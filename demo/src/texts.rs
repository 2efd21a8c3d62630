//! What people write: messages, titles, attachments and reactions, in several scripts.

use domain::UserId;
use domain::event::{Attachment, MessageType};
use domain::seeded_rng::Rng;

/// A phrase is short enough that the longest message stays far below what a command may send.
const PHRASES: [&str; 64] = [
    "Good morning!",
    "Sounds good to me.",
    "Can somebody have a look at this?",
    "I'll be ten minutes late, sorry.",
    "Has anyone seen my umbrella?",
    "See you at six.",
    "The train is delayed again.",
    "That was fun, thanks everybody!",
    "Shall we move it to Thursday?",
    "I don't think that's a good idea.",
    "Fixed, please try again.",
    "Who brings the cake?",
    "Let me check and get back to you.",
    "Happy birthday!",
    "lol",
    "ok",
    "No problem.",
    "It works on my machine…",
    "Where do we meet?",
    "I'm on my way.",
    "Thanks for the photos!",
    "Call me when you can.",
    "Could you send me the address?",
    "The door code is on the fridge.",
    "I read it twice and still don't get it.",
    "Let's go with the second option.",
    "+1",
    "Dinner on Friday?",
    "It's raining cats and dogs here.",
    "Got it.",
    "Guten Morgen zusammen!",
    "Das schaffe ich heute nicht mehr.",
    "Klingt gut, bis später.",
    "Wer hätte das gedacht?",
    "¿Quedamos a las ocho?",
    "¡Qué bien, me alegro mucho!",
    "No te preocupes, ya está hecho.",
    "On se retrouve où ?",
    "C'est noté, merci.",
    "Ça marche pour moi, à bientôt.",
    "Va bene, ci vediamo domani.",
    "Até amanhã, pessoal!",
    "Dzięki, już lecę.",
    "Tack så mycket!",
    "Доброе утро!",
    "Кто сегодня дежурит?",
    "Спасибо, всё получилось.",
    "Καλημέρα σε όλους!",
    "Τα λέμε αύριο.",
    "今日は何を食べますか。",
    "了解です、ありがとう。",
    "電車が遅れています。",
    "明天见！",
    "我看一下再回复你。",
    "太好了，恭喜恭喜！",
    "점심 먹었어요?",
    "네, 알겠습니다.",
    "सुप्रभात, सब कैसे हैं?",
    "ठीक है, कल मिलते हैं।",
    "صباح الخير جميعا",
    "شكرا جزيلا",
    "בוקר טוב לכולם",
    "Hẹn gặp lại!",
    "Günaydın, kolay gelsin.",
];

const EMOJI: [&str; 12] = ["👍", "❤️", "😂", "🎉", "🙏", "👀", "🔥", "💯", "👍🏽", "🇨🇭", "👩‍💻", "😅"];

const LABELS: [&str; 4] = ["agreed", "done", "同意", "danke"];

const TITLES: [&str; 20] = [
    "Lunch",
    "Climbing",
    "Book club",
    "Family",
    "Release 2.0",
    "Flat 3b",
    "Support",
    "Choir",
    "On call",
    "Board games",
    "Umzug am Samstag",
    "Fútbol",
    "Vacances d'été 🏖️",
    "Родители 4б",
    "読書会",
    "周末爬山",
    "동아리",
    "परिवार",
    "العائلة",
    "🎉 Party",
];

/// A file's name, media type, and the type of a message that consists of such a file.
const FILES: [(&str, &str, MessageType); 6] = [
    ("holiday.jpg", "image/jpeg", MessageType::Image),
    ("スクリーンショット.png", "image/png", MessageType::Image),
    ("geburtstag.mp4", "video/mp4", MessageType::Video),
    ("voice-note.ogg", "audio/ogg", MessageType::Audio),
    ("Protokoll März.pdf", "application/pdf", MessageType::File),
    ("отчёт.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", MessageType::File),
];

/// The text of a message that names these people: mostly a phrase or two, seldom a long one of several lines.
pub(crate) fn content(rng: &mut Rng, named: &[UserId]) -> String {
    let mut text = String::new();
    for user in named {
        text.push('@');
        text.push_str(user.as_str());
        text.push(' ');
    }
    let is_long = rng.below(100) == 0;
    let phrases = if is_long { 10 + rng.below(30) } else { 1 + rng.below(4).min(rng.below(4)) };
    for index in 0..phrases {
        if index > 0 {
            text.push(if is_long && index % 5 == 0 { '\n' } else { ' ' });
        }
        text.push_str(PHRASES[rng.below(PHRASES.len())]);
    }
    if rng.percent(20) {
        text.push(' ');
        text.push_str(emoji(rng));
    }
    text
}

/// The title of a group. Some groups have none.
pub(crate) fn title(rng: &mut Rng) -> Option<String> {
    let title = TITLES[rng.below(TITLES.len())];
    match rng.below(10) {
        0..2 => None,
        2..5 => Some(title.to_owned()),
        _ => Some(format!("{title} {}", 1 + rng.below(99))),
    }
}

pub(crate) fn emoji(rng: &mut Rng) -> &'static str {
    EMOJI[rng.below(EMOJI.len())]
}

/// The label of a reaction. Most have none.
pub(crate) fn label(rng: &mut Rng) -> Option<String> {
    rng.percent(10).then(|| LABELS[rng.below(LABELS.len())].to_owned())
}

/// Up to three files of the same sort, and the type of their message.
pub(crate) fn attachments(rng: &mut Rng) -> (Vec<Attachment>, MessageType) {
    let (name, mime_type, message_type) = FILES[rng.below(FILES.len())];
    let count = 1 + rng.below(3).min(rng.below(3));
    let attachment = |_| Attachment {
        url: format!("https://files.example/{}", rng.uuid()),
        name: name.to_owned(),
        mime_type: mime_type.to_owned(),
        size: 1_000 + rng.bits() % 10_000_000,
    };
    ((0..count).map(attachment).collect(), message_type)
}

#[cfg(test)]
mod tests {
    use domain::emoji::is_emoji;
    use domain::limits;

    use super::*;

    #[test]
    fn every_text_is_one_that_a_command_may_send() {
        let mut rng = Rng::new(1);
        for _ in 0..10_000 {
            let content = content(&mut rng, &[]);
            assert!(!content.trim().is_empty() && content.chars().count() <= limits::MAX_CONTENT_CHARS, "{content}");
            assert!(!content.contains('@'), "{content} may mention somebody");
        }
        assert!(EMOJI.iter().all(|emoji| is_emoji(emoji)));
        assert!(LABELS.iter().all(|label| label.chars().count() <= limits::MAX_LABEL_CHARS));
        assert!(TITLES.iter().all(|title| title.chars().count() + 3 <= limits::MAX_TITLE_CHARS));
    }
}
