-- What admins did, and what came of it. A row is written before the action, and another one with the outcome after it. No
-- row is ever changed: an action without an outcome was under way when its process ended.
-- This table isn't derived from the log, and all generations share it.
CREATE TABLE audit (
    -- Increases with time.
    number     bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    at         timestamptz NOT NULL DEFAULT now(),
    -- The user whose token it was.
    actor      text        NOT NULL,
    -- What was done, such as discard-dead-letter, to what, and why if the actor said so.
    action     text        NOT NULL,
    target     text        NOT NULL,
    reason     text,
    request_id text        NOT NULL,
    -- The number of the row of the action, and what came of it. Null for the action itself.
    outcome_of bigint,
    outcome    text,
    CONSTRAINT audit_pkey PRIMARY KEY (number),
    CONSTRAINT audit_outcome_check CHECK ((outcome_of IS NULL) = (outcome IS NULL))
);

CREATE INDEX audit_outcome_of_idx ON audit (outcome_of) WHERE outcome_of IS NOT NULL;

-- Rights alone don't bind the owner of a table, or a superuser.
CREATE FUNCTION refuse_to_change_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is never changed' USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_audit();
