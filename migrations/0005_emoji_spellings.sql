-- Emoji that differ only in variation selectors (U+FE0E, U+FE0F) are the same. Earlier releases kept a row for each
-- spelling of an emoji. This merges them into one: it has the spelling and the place of the first, its users before the
-- others', and the latest label.

-- No projector may have a batch under way that has read the old rows. Queries go on.
LOCK TABLE partitions IN EXCLUSIVE MODE;

WITH spelled_twice AS (
    SELECT conversation_id, message_id FROM reactions
    GROUP BY conversation_id, message_id
    HAVING count(*) > count(DISTINCT translate(emoji, U&'\FE0E\FE0F', ''))
), spellings AS (
    DELETE FROM reactions USING spelled_twice
    WHERE reactions.conversation_id = spelled_twice.conversation_id AND reactions.message_id = spelled_twice.message_id
    RETURNING reactions.*, translate(emoji, U&'\FE0E\FE0F', '') AS plain
), givers AS (
    SELECT conversation_id, message_id, plain, user_id, min((ordinal::bigint << 32) + place) AS place
    FROM spellings, jsonb_array_elements_text(user_ids) WITH ORDINALITY AS giver (user_id, place)
    GROUP BY conversation_id, message_id, plain, user_id
), users AS (
    SELECT conversation_id, message_id, plain, jsonb_agg(user_id ORDER BY place) AS user_ids
    FROM givers GROUP BY conversation_id, message_id, plain
), merged AS (
    SELECT conversation_id, message_id, plain, min(ordinal) AS first_ordinal,
           (array_agg(emoji ORDER BY ordinal))[1] AS emoji,
           (array_agg(label ORDER BY ordinal DESC) FILTER (WHERE label IS NOT NULL))[1] AS label
    FROM spellings GROUP BY conversation_id, message_id, plain
)
INSERT INTO reactions (conversation_id, message_id, ordinal, emoji, label, user_ids)
SELECT conversation_id, message_id,
       row_number() OVER (PARTITION BY conversation_id, message_id ORDER BY first_ordinal) - 1,
       emoji, label, coalesce(user_ids, '[]')
FROM merged LEFT JOIN users USING (conversation_id, message_id, plain);
