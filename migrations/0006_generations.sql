-- Each generation of the projection has its rows in a schema of its own: the next one is made while another is in use.
-- The rows of the first one are in this schema. What all generations share stays here.

-- The schema of the rows of the live generation; null for this schema.
ALTER TABLE projection ADD COLUMN rows_schema text;

-- The generations besides the live one.
CREATE TABLE generations (
    generation  bigint      NOT NULL,
    rows_schema text        NOT NULL,
    -- building: a rebuild makes it. retired: another one has replaced it.
    status      text        NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT generations_pkey PRIMARY KEY (generation),
    CONSTRAINT generations_status CHECK (status IN ('building', 'retired'))
);

-- Conversations whose rows an operator wants to be made anew from the topic. The projector of the partition does it.
CREATE TABLE conversation_rebuilds (
    conversation_id uuid        NOT NULL,
    partition       integer     NOT NULL,
    requested_at    timestamptz NOT NULL DEFAULT now(),
    -- requested: a projector is to do it. replaced: the rows are new, and the caches have to be told. Then the row is
    -- deleted. failed: it could not be done.
    status          text        NOT NULL DEFAULT 'requested',
    -- Why it failed.
    reason          text,
    CONSTRAINT conversation_rebuilds_pkey PRIMARY KEY (conversation_id),
    CONSTRAINT conversation_rebuilds_status CHECK (status IN ('requested', 'replaced', 'failed'))
);
