-- Views over the files of this export, for DuckDB. Begin in the export's folder:
--
--     duckdb -init views.sql
--
-- `records` has every record of the log. The other views have events only, and each event once.

CREATE OR REPLACE VIEW records AS
SELECT * FROM read_parquet('p*.parquet');

-- A producer that retries may append a copy: the first record with an event's id counts. So does the first event with
-- an idempotency key, within a conversation and an actor. Typing and notifications use up no key.
CREATE OR REPLACE VIEW events AS
SELECT * EXCLUDE (error, key, value)
FROM records
WHERE event_id IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY conversation_id, event_id ORDER BY "offset") = 1
    AND (idempotency_key IS NULL
         OR row_number() OVER (PARTITION BY conversation_id, actor_id, idempotency_key,
                                            type IN ('TYPING_START', 'TYPING_STOP', 'MENTION_NOTIFICATION')
                               ORDER BY "offset") = 1);

CREATE OR REPLACE VIEW conversation_created AS
SELECT partition, "offset", logged_at, occurred_at, event_id, conversation_id, actor_id, conversation_type, title,
       participant_ids, idempotency_key, request_hash
FROM events WHERE type = 'CONVERSATION_CREATED';

CREATE OR REPLACE VIEW message_sent AS
SELECT partition, "offset", logged_at, occurred_at, event_id, conversation_id, actor_id, message_id, content,
       message_type, attachments, mentions, reply_to_id, idempotency_key, request_hash
FROM events WHERE type = 'MESSAGE_SENT';

CREATE OR REPLACE VIEW message_edited AS
SELECT partition, "offset", logged_at, occurred_at, event_id, conversation_id, actor_id, message_id, content, mentions,
       idempotency_key, request_hash
FROM events WHERE type = 'MESSAGE_EDITED';

CREATE OR REPLACE VIEW message_deleted AS
SELECT partition, "offset", logged_at, occurred_at, event_id, conversation_id, actor_id, message_id, idempotency_key,
       request_hash
FROM events WHERE type = 'MESSAGE_DELETED';

CREATE OR REPLACE VIEW reaction_added AS
SELECT partition, "offset", logged_at, occurred_at, event_id, conversation_id, actor_id, message_id, emoji, label,
       idempotency_key, request_hash
FROM events WHERE type = 'REACTION_ADDED';

CREATE OR REPLACE VIEW reaction_removed AS
SELECT partition, "offset", logged_at, occurred_at, event_id, conversation_id, actor_id, message_id, emoji,
       idempotency_key, request_hash
FROM events WHERE type = 'REACTION_REMOVED';

CREATE OR REPLACE VIEW messages_read AS
SELECT partition, "offset", logged_at, occurred_at, event_id, conversation_id, actor_id, message_id, idempotency_key,
       request_hash
FROM events WHERE type = 'MESSAGES_READ';

CREATE OR REPLACE VIEW typing_start AS
SELECT partition, "offset", logged_at, occurred_at, event_id, conversation_id, actor_id
FROM events WHERE type = 'TYPING_START';

CREATE OR REPLACE VIEW typing_stop AS
SELECT partition, "offset", logged_at, occurred_at, event_id, conversation_id, actor_id
FROM events WHERE type = 'TYPING_STOP';

CREATE OR REPLACE VIEW mention_notification AS
SELECT partition, "offset", logged_at, occurred_at, event_id, conversation_id, actor_id, message_id, user_id
FROM events WHERE type = 'MENTION_NOTIFICATION';

-- The files, by their names: each has the offsets from `from_offset` to the one before `to_offset`.
CREATE OR REPLACE VIEW files AS
SELECT file, CAST(part.partition AS INTEGER) AS partition, CAST(part.from_offset AS BIGINT) AS from_offset,
       CAST(part.to_offset AS BIGINT) AS to_offset
FROM (SELECT file, regexp_extract(file, 'p(\d+)_(\d+)_(\d+)', ['partition', 'from_offset', 'to_offset']) AS part
      FROM glob('p*.parquet'));

-- Where offsets are in no file, or in two. Without a row, there is no such place.
CREATE OR REPLACE VIEW holes_and_repeats AS
SELECT partition, to_offset AS file_ends, next_begins
FROM (SELECT *, lead(from_offset) OVER (PARTITION BY partition ORDER BY from_offset, to_offset) AS next_begins FROM files)
WHERE next_begins <> to_offset;
