//! The reads of the modelled read model that answer queries and commands.

use domain::facts::MessageFacts;
use domain::view::{ConversationView, MessageView, ParticipantView, ReactionView};
use domain::{ConversationId, MessageId, Position, Timestamp, UserId, limits};
use read_model::{ConversationPage, Membership, Page, Snapshot};

use super::PostgresModel;
use super::tables::{MessageRow, ReactionRow};

impl PostgresModel {
    fn snapshot<T>(&self, value: T) -> Snapshot<T> {
        Snapshot { value, offsets: self.offsets() }
    }

    /// As `ReadModel::message`.
    pub(in crate::simulation) fn message(&self, id: MessageId) -> Snapshot<Option<MessageView>> {
        let found = self.tables.messages_with_id(id).next();
        self.snapshot(found.map(|(conversation, seq, row)| self.message_view(conversation, seq, row)))
    }

    /// As `ReadModel::messages`.
    pub(in crate::simulation) fn messages(
        &self,
        conversation: ConversationId,
        limit: usize,
        before: Option<i64>,
    ) -> Snapshot<Page<MessageView>> {
        let before = before.unwrap_or(i64::MAX);
        let rows = self.tables.messages.range((conversation, i64::MIN)..(conversation, before)).rev();
        let mut items: Vec<MessageView> =
            rows.take(limit + 1).map(|((_, seq), row)| self.message_view(conversation, *seq, row)).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        self.snapshot(Page { items, more })
    }

    /// As `ReadModel::conversation`.
    pub(in crate::simulation) fn conversation(
        &self,
        id: ConversationId,
        user: &UserId,
        limit: i32,
        from: i32,
    ) -> Snapshot<Option<ConversationPage>> {
        let page = self.conversation_view(id, user, from..from + limit).map(|view| {
            let next = (i64::from(from + limit) < view.participant_count).then_some(from + limit);
            ConversationPage { view, next }
        });
        self.snapshot(page)
    }

    /// As `ReadModel::conversations`.
    pub(in crate::simulation) fn conversations(
        &self,
        user: &UserId,
        limit: usize,
        after: Option<(Timestamp, ConversationId)>,
    ) -> Snapshot<Page<ConversationView>> {
        let mut places: Vec<(Timestamp, ConversationId)> = self
            .tables
            .members
            .keys()
            .filter(|(_, member)| member == user)
            .map(|(id, _)| (self.tables.conversations[id].updated_at, *id))
            .filter(|place| after.is_none_or(|after| *place < after))
            .collect();
        places.sort_unstable_by(|one, other| other.cmp(one));
        let more = places.len() > limit;
        places.truncate(limit);
        let participants = 0..i32::try_from(limits::PARTICIPANTS_IN_VIEW).unwrap();
        let view = |(_, id): &(Timestamp, ConversationId)| self.conversation_view(*id, user, participants.clone());
        self.snapshot(Page { items: places.iter().filter_map(view).collect(), more })
    }

    /// As `ReadModel::memberships`, in the order of their ids.
    pub(in crate::simulation) fn memberships(&self, user: &UserId) -> Snapshot<Vec<Membership>> {
        let mine = self.tables.members.keys().filter(|(_, member)| member == user);
        let membership = |id: &ConversationId| Membership {
            conversation_id: *id,
            participant_count: self.tables.conversations[id].participant_count,
        };
        self.snapshot(mine.map(|(id, _)| membership(id)).collect())
    }

    /// As `ReadModel::message_facts`.
    pub(in crate::simulation) fn message_facts(&self, id: MessageId) -> Snapshot<Option<MessageFacts>> {
        let found = self.tables.messages_with_id(id).next();
        self.snapshot(found.map(|(conversation_id, _, row)| MessageFacts {
            id,
            conversation_id,
            sender_id: row.sender_id.clone(),
            has_attachments: !row.attachments.is_empty(),
            deleted_at: row.deleted_at,
            emoji: self.tables.reactions_to(conversation_id, id).map(|reaction| reaction.emoji.clone()).collect(),
        }))
    }

    /// As `ReadModel::participants`.
    pub(in crate::simulation) fn participants(&self, id: ConversationId) -> Snapshot<Option<Vec<UserId>>> {
        let users: Vec<UserId> = self.tables.members_of(id).into_iter().map(|(user, _)| user.clone()).collect();
        self.snapshot((!users.is_empty()).then_some(users))
    }

    fn message_view(&self, conversation_id: ConversationId, seq: i64, row: &MessageRow) -> MessageView {
        let partition = self.tables.conversations[&conversation_id].partition;
        let reaction = |row: &ReactionRow| ReactionView {
            emoji: row.emoji.clone(),
            label: row.label.clone(),
            count: i64::try_from(row.user_ids.len()).unwrap(),
            user_ids: row.user_ids.iter().take(limits::REACTION_USERS_IN_VIEW).cloned().collect(),
        };
        let given = self.tables.reactions_to(conversation_id, row.id).filter(|reaction| !reaction.user_ids.is_empty());
        MessageView {
            id: row.id,
            conversation_id,
            seq: Some(seq),
            position: Some(Position { partition, offset: row.position }),
            sender_id: row.sender_id.clone(),
            content: row.content.clone(),
            message_type: row.message_type,
            attachments: row.attachments.clone(),
            mentions: row.mentions.clone(),
            reply_to_id: row.reply_to_id,
            reactions: given.map(reaction).collect(),
            created_at: row.created_at,
            edited_at: row.edited_at,
            deleted_at: row.deleted_at,
        }
    }

    fn conversation_view(
        &self,
        id: ConversationId,
        user: &UserId,
        ordinals: std::ops::Range<i32>,
    ) -> Option<ConversationView> {
        let row = self.tables.conversations.get(&id)?;
        let mine = self.tables.members.get(&(id, user.clone()))?;
        let messages = self.tables.messages.range((id, mine.last_read_seq + 1)..=(id, i64::MAX));
        let unread = messages.filter(|(_, message)| message.deleted_at.is_none()).count();
        let listed = self.tables.members_of(id).into_iter().filter(|(_, member)| ordinals.contains(&member.ordinal));
        let participant = |(user, row): (&UserId, &super::tables::MemberRow)| ParticipantView {
            user_id: user.clone(),
            last_read_seq: row.last_read_seq,
            last_read_at: row.last_read_at,
        };
        let last = self.tables.messages.get(&(id, row.last_seq));
        Some(ConversationView {
            id,
            kind: row.kind,
            title: row.title.clone(),
            participant_count: row.participant_count,
            participants: listed.map(participant).collect(),
            last_message: last.map(|message| self.message_view(id, row.last_seq, message)),
            unread_count: i64::try_from(unread).unwrap(),
            created_at: row.created_at,
            updated_at: row.updated_at,
            position: Position { partition: row.partition, offset: row.changed },
        })
    }
}
