-- Repairs: rows that were made anew, and are other ones than before although the log has nothing new. What clients know
-- of them is wrong, and no position says so. A client whose token is older than a repair that concerns it starts anew.
-- This table isn't derived from the log, and all generations share it.
CREATE TABLE repairs (
    -- Increases from 1 in the order of the commits.
    number          bigint  NOT NULL,
    -- The conversation whose rows were made anew; null for all conversations.
    conversation_id uuid,
    -- Null for everybody in the conversation; otherwise the user who is in it only before the repair, or only afterwards.
    user_id         text,
    -- Whether the caches know, so that no cached view is older than the repair.
    is_told         boolean NOT NULL,
    CONSTRAINT repairs_pkey PRIMARY KEY (number)
);

-- The highest number of a repair before another generation replaced this one. Who goes back to it undoes the later ones.
ALTER TABLE generations ADD COLUMN last_repair bigint;
