-- When idempotency keys were last used without reserving them, by a process that couldn't reach Redis. For some time after
-- that, others can't tell from Redis whether a key is new.
CREATE TABLE unreserved (
    singleton       boolean     NOT NULL DEFAULT true,
    noted_at        timestamptz NOT NULL,
    CONSTRAINT unreserved_pkey PRIMARY KEY (singleton),
    CONSTRAINT unreserved_singleton CHECK (singleton)
);
