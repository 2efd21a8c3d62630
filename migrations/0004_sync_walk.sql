-- The read marks of a conversation that have moved since an offset. An index of all members would make every new
-- conversation dearer, and most members never read.
CREATE INDEX members_marked ON members (conversation_id, position) WHERE last_read_seq > 0;
