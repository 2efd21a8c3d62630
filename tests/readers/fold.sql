-- Folds an export with DuckDB, on the views of its views.sql: each user's read mark, and each message's reactions.

-- A conversation begins with its first creation that names somebody.
CREATE OR REPLACE TEMP VIEW participants AS
SELECT DISTINCT conversation_id, "offset" AS since, unnest(participant_ids) AS participant
FROM conversation_created
WHERE len(participant_ids) > 0
QUALIFY dense_rank() OVER (PARTITION BY conversation_id ORDER BY "offset") = 1;

-- What participants did.
CREATE OR REPLACE TEMP VIEW actions AS
SELECT events.*
FROM events
JOIN participants
  ON events.conversation_id = participants.conversation_id AND actor_id = participant AND "offset" > since;

CREATE OR REPLACE TEMP VIEW sends AS
SELECT *, row_number() OVER (PARTITION BY conversation_id ORDER BY "offset") AS seq
FROM (
    FROM actions WHERE type = 'MESSAGE_SENT'
    QUALIFY row_number() OVER (PARTITION BY conversation_id, message_id ORDER BY "offset") = 1
);

-- Every message that counts, and whether its author deleted it.
CREATE OR REPLACE TEMP VIEW messages AS
SELECT conversation_id, message_id, actor_id AS sender, seq, "offset", EXISTS (
    FROM actions
    WHERE type = 'MESSAGE_DELETED' AND actions."offset" > sends."offset" AND actions.actor_id = sends.actor_id
      AND actions.conversation_id = sends.conversation_id AND actions.message_id = sends.message_id
) AS is_deleted
FROM sends;

-- Read marks only move forward: the furthest is the mark. Without a message, it is the newest one before the event.
CREATE OR REPLACE TEMP VIEW marks AS
SELECT conversation_id, participant, coalesce(max(seq), 0) AS last_read_seq
FROM participants
LEFT JOIN (
    SELECT conversation_id, sender AS participant, seq FROM messages
    UNION ALL
    SELECT conversation_id, actions.actor_id, seq
    FROM actions JOIN messages USING (conversation_id)
    WHERE type = 'MESSAGES_READ' AND actions."offset" > messages."offset"
      AND (actions.message_id IS NULL OR actions.message_id = messages.message_id)
) USING (conversation_id, participant)
GROUP BY conversation_id, participant;

CREATE OR REPLACE TEMP VIEW read_marks AS
SELECT conversation_id AS conversation, participant AS "user", last_read_seq AS "lastReadSeq",
       count(*) FILTER (seq > last_read_seq AND sender <> participant AND NOT is_deleted) AS unread
FROM marks LEFT JOIN messages USING (conversation_id)
GROUP BY ALL;

-- What happened to the emoji of messages that are not deleted. `plain` is an emoji without variation selectors.
CREATE OR REPLACE TEMP VIEW reaction_changes AS
SELECT conversation_id, message_id, type, actor_id, emoji, actions."offset",
       translate(emoji, chr(65038) || chr(65039), '') AS plain
FROM actions JOIN messages USING (conversation_id, message_id)
WHERE type IN ('REACTION_ADDED', 'REACTION_REMOVED') AND actions."offset" > messages."offset" AND NOT is_deleted;

-- A user has an emoji since the first time that they gave it after they last took it back.
CREATE OR REPLACE TEMP VIEW reactions AS
WITH changes AS (
    SELECT *, max("offset") FILTER (type = 'REACTION_REMOVED') OVER same AS removed
    FROM reaction_changes
    WINDOW same AS (PARTITION BY conversation_id, message_id, plain, actor_id)
),
given AS (
    SELECT conversation_id, message_id, plain, actor_id, min("offset") AS since
    FROM changes
    WHERE type = 'REACTION_ADDED' AND "offset" > coalesce(removed, -1)
    GROUP BY ALL
),
spellings AS (
    SELECT conversation_id, message_id, plain, arg_min(emoji, "offset") AS emoji
    FROM reaction_changes
    WHERE type = 'REACTION_ADDED'
    GROUP BY ALL
)
SELECT conversation_id AS conversation, message_id AS message, emoji, list(actor_id ORDER BY since) AS users
FROM given JOIN spellings USING (conversation_id, message_id, plain)
GROUP BY ALL;
