-- Rebuilds and verifications that admins start from the admin API. Whichever projector is free works on a job, so it
-- outlives each of them. This table isn't derived from the log, and all generations share it.
CREATE TABLE jobs (
    -- Increases with time.
    number              bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    -- rebuild, dryRun, goBack or verify.
    kind                text        NOT NULL,
    -- Whether a rebuild may replace rows by other ones.
    accept_differences  boolean     NOT NULL,
    -- waiting: a projector is to begin it. running: one works on it. Then it has ended: done, failed or cancelled.
    status              text        NOT NULL DEFAULT 'waiting',
    requested_by        text        NOT NULL,
    requested_at        timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,
    ended_at            timestamptz,
    is_cancel_requested boolean     NOT NULL DEFAULT false,
    -- The projector that works on it, or did last, how many have begun it, and when it last said that it still does.
    runner              text,
    attempts            integer     NOT NULL DEFAULT 0,
    beat_at             timestamptz,
    -- What is being done, and how much of it is.
    step                jsonb,
    -- The generation that the job has made the live one, written in the same transaction.
    generation          bigint,
    -- What came of it, or why it failed.
    outcome             jsonb,
    error               text,
    CONSTRAINT jobs_pkey PRIMARY KEY (number),
    CONSTRAINT jobs_status_check CHECK (status IN ('waiting', 'running', 'done', 'failed', 'cancelled'))
);

-- One at a time.
CREATE UNIQUE INDEX jobs_at_work_idx ON jobs ((true)) WHERE status IN ('waiting', 'running');

-- The job that builds a generation; null for the command line.
ALTER TABLE generations ADD COLUMN job bigint;

-- How many actions of an admin have just begun.
CREATE INDEX audit_actor_idx ON audit (actor, at) WHERE outcome_of IS NULL;
