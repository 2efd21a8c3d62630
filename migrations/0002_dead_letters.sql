-- Records of the topic that could not be folded. They stay on the topic; here stands which they are, and why.
CREATE TABLE dead_letters (
    topic_id        uuid        NOT NULL,
    partition       integer     NOT NULL,
    position        bigint      NOT NULL,
    -- What is wrong with it.
    reason          text        NOT NULL,
    parked_at       timestamptz NOT NULL DEFAULT now(),
    -- parked: nothing happens. wanted: a projector is to try it again. folded_untold: it was folded, and the caches
    -- have to be told. folded: done. discarded: somebody decided that nothing is to be done about it.
    status          text        NOT NULL DEFAULT 'parked',
    changed_at      timestamptz NOT NULL DEFAULT now(),
    -- Of which conversation it turned out to be, once it was folded.
    conversation_id uuid,
    -- Why it was discarded.
    note            text,
    CONSTRAINT dead_letters_pkey PRIMARY KEY (topic_id, partition, position),
    CONSTRAINT dead_letters_status
        CHECK (status IN ('parked', 'wanted', 'folded_untold', 'folded', 'discarded')),
    CONSTRAINT dead_letters_discarded_has_note CHECK ((status = 'discarded') = (note IS NOT NULL))
);
-- What projectors look for.
CREATE INDEX dead_letters_open ON dead_letters (topic_id, partition, status) WHERE status IN ('wanted', 'folded_untold');
