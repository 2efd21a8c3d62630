-- The read model: everything here is folded from the topic and can be thrown away and made again.
-- Times are whole milliseconds. Offsets are those of the conversation's partition.

-- Which projection this is. One row.
CREATE TABLE projection (
    singleton  boolean NOT NULL DEFAULT true,
    -- Goes up when the projection is made anew: cache keys carry it, and a projector of an older one is fenced off.
    generation bigint  NOT NULL,
    -- Kafka's id of the topic that it is folded from: another topic of the same name is another log.
    topic_id   uuid    NOT NULL,
    partitions integer NOT NULL,
    CONSTRAINT projection_pkey PRIMARY KEY (singleton),
    CONSTRAINT projection_is_one CHECK (singleton)
);

-- How far each partition is folded. Moves in the transaction that writes the rows, and only from the value that
-- the projector expects: that is what keeps two from writing the same.
CREATE TABLE partitions (
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL,
    topic_id    uuid    NOT NULL,
    generation  bigint  NOT NULL,
    CONSTRAINT partitions_pkey PRIMARY KEY (partition)
);

-- Who should work on which partition. Only to share the work out: safety is in `partitions`.
CREATE TABLE leases (
    partition   integer     NOT NULL,
    owner       text,
    lease_until timestamptz,
    CONSTRAINT leases_pkey PRIMARY KEY (partition)
);

-- The projectors that live: a fair share is the partitions divided by these.
CREATE TABLE projectors (
    owner       text        NOT NULL,
    alive_until timestamptz NOT NULL,
    CONSTRAINT projectors_pkey PRIMARY KEY (owner)
);

CREATE TABLE conversations (
    id                uuid        NOT NULL,
    -- Which partition its events are on: the key decides, so it never changes.
    partition         integer     NOT NULL,
    kind              text        NOT NULL,
    title             text,
    participant_count bigint      NOT NULL,
    created_at        timestamptz NOT NULL,
    -- The latest time of its creation and messages so far.
    updated_at        timestamptz NOT NULL,
    -- The seq of the newest message; 0 for none.
    last_seq          bigint      NOT NULL,
    last_message_id   uuid,
    -- The offset of the last change to anything in it: what caches and sync go by.
    changed           bigint      NOT NULL,
    CONSTRAINT conversations_pkey PRIMARY KEY (id),
    CONSTRAINT conversations_kind CHECK (kind IN ('DIRECT', 'GROUP'))
);
-- What changed on a partition since an offset.
CREATE INDEX conversations_changed ON conversations (partition, changed);

CREATE TABLE members (
    conversation_id uuid    NOT NULL,
    user_id         text    NOT NULL COLLATE "C",
    -- Place in the list of participants, from 0.
    ordinal         integer NOT NULL,
    -- Read up to this seq; 0 for nothing. Never moves back.
    last_read_seq   bigint  NOT NULL,
    last_read_at    timestamptz,
    -- The offset of the read mark's last change.
    position        bigint  NOT NULL,
    -- The conversation's updated_at again, so that a user's list is one range of an index. Null in large
    -- conversations, where keeping it would make every message write a row for each participant.
    recent_at       timestamptz,
    -- The conversation's partition and offset of its last change again, so that what changed for a user since a
    -- token is one range of an index a partition. The offset is null in large conversations, for the same reason.
    partition       integer NOT NULL,
    changed         bigint,
    CONSTRAINT members_pkey PRIMARY KEY (conversation_id, user_id)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX members_in_order ON members (conversation_id, ordinal);
CREATE INDEX members_recent ON members (user_id, recent_at DESC, conversation_id DESC);
CREATE INDEX members_changed ON members (user_id, partition, changed);

CREATE TABLE messages (
    conversation_id uuid        NOT NULL,
    -- 1..n without holes; the fold assigns it.
    seq             bigint      NOT NULL,
    id              uuid        NOT NULL,
    sender_id       text        NOT NULL,
    -- Null once deleted.
    content         text,
    message_type    text        NOT NULL,
    attachments     jsonb       NOT NULL,
    mentions        jsonb       NOT NULL,
    reply_to_id     uuid,
    created_at      timestamptz NOT NULL,
    edited_at       timestamptz,
    deleted_at      timestamptz,
    -- The offset of the message's last change.
    position        bigint      NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (conversation_id, seq)
) WITH (fillfactor = 90);
-- Not unique: an id is unique in its conversation by the fold, and nobody but the log's writers chooses it.
CREATE INDEX messages_by_id ON messages (id);
-- What changed in a conversation since an offset.
CREATE INDEX messages_changed ON messages (conversation_id, position);
-- Unread counts take the deleted ones off.
CREATE INDEX messages_deleted ON messages (conversation_id, seq) WHERE deleted_at IS NOT NULL;

CREATE TABLE reactions (
    conversation_id uuid    NOT NULL,
    message_id      uuid    NOT NULL,
    -- The order in which the emoji first came.
    ordinal         integer NOT NULL,
    emoji           text    NOT NULL,
    label           text,
    -- Who gives it, by when they did. Empty when nobody does any more: the emoji still counts as ever added.
    user_ids        jsonb   NOT NULL,
    CONSTRAINT reactions_pkey PRIMARY KEY (conversation_id, message_id, ordinal)
);

-- The fold's memory: the events that were folded, so that a copy has no effect, and the keys that were used, so
-- that a retry has none, for ever.
CREATE TABLE applied_events (
    conversation_id uuid    NOT NULL,
    event_id        uuid    NOT NULL,
    -- Both only with a key.
    actor_id        text COLLATE "C",
    idempotency_key text COLLATE "C",
    partition       integer NOT NULL,
    position        bigint  NOT NULL,
    CONSTRAINT applied_events_pkey PRIMARY KEY (conversation_id, event_id),
    CONSTRAINT applied_events_key_has_actor CHECK ((actor_id IS NULL) = (idempotency_key IS NULL))
);
CREATE UNIQUE INDEX applied_events_keys ON applied_events (conversation_id, actor_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
