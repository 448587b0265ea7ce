//! The tables, and how they came to be. A released step is never changed; what changes is added.
//!
//! The rows of `jobs` are small; what may be long lies beside them, by the job's number. There is one
//! index for each question that is asked often, so that a question costs what its answer is long,
//! however many other jobs there are. Each begins with the state, even where it holds only jobs in
//! that one: else SQLite takes `jobs_by_state` and sorts what it finds.

use salver_store::database::Migration;

/// The table that notes which steps were taken: the registry may live in the same database.
pub(super) const TABLE: &str = "_job_migrations";

/// The history of the schema. `rows::code` says which number means which state.
pub(super) const HISTORY: &[Migration] = &[
    Migration {
        version: 1,
        description: "jobs, their bodies, answers, events and callbacks",
        sql: r"
CREATE TABLE jobs (
    seq {serial},
    id {text} NOT NULL UNIQUE,
    model {text} NOT NULL,
    form {text} NOT NULL,
    state SMALLINT NOT NULL,
    priority SMALLINT NOT NULL,
    total BIGINT NOT NULL,
    done BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    troubles BIGINT NOT NULL DEFAULT 0,
    losses BIGINT NOT NULL DEFAULT 0,
    lost_alone BIGINT NOT NULL DEFAULT 0,
    alone SMALLINT NOT NULL DEFAULT 0,
    token BIGINT NOT NULL DEFAULT 0,
    beats BIGINT NOT NULL DEFAULT 0,
    untold SMALLINT NOT NULL DEFAULT 0,
    owner {text} NOT NULL,
    idempotency_key {text},
    digest {text},
    time_limit BIGINT NOT NULL,
    ttl BIGINT NOT NULL,
    retries BIGINT NOT NULL,
    size BIGINT NOT NULL,
    has_callback SMALLINT NOT NULL,
    created BIGINT NOT NULL,
    not_before BIGINT,
    started BIGINT,
    ended BIGINT,
    expires BIGINT,
    reason {text},
    replay_of {text}
);
CREATE UNIQUE INDEX jobs_by_key ON jobs (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_by_state ON jobs (state, seq);
CREATE INDEX jobs_by_model ON jobs (model, seq);
CREATE INDEX jobs_to_claim ON jobs (state, priority, seq) WHERE state = 1;
CREATE INDEX jobs_to_begin ON jobs (state, not_before) WHERE state = 0;
CREATE INDEX jobs_to_expire ON jobs (state, expires) WHERE expires IS NOT NULL;
CREATE INDEX jobs_to_forget ON jobs (state, ended) WHERE state = 7;

CREATE TABLE job_bodies (
    job {key},
    content_type {text},
    header_len BIGINT,
    bytes {bytes} NOT NULL
);
CREATE TABLE job_answers (
    job {key},
    content_type {text} NOT NULL,
    header_len BIGINT,
    bytes {bytes} NOT NULL
);
CREATE TABLE job_events (
    seq {serial},
    job BIGINT NOT NULL,
    at BIGINT NOT NULL,
    text {text} NOT NULL
);
CREATE INDEX job_events_by_job ON job_events (job, seq);
CREATE TABLE job_callbacks (
    job {key},
    url {text} NOT NULL,
    attempts BIGINT NOT NULL,
    next BIGINT
);
CREATE INDEX job_callbacks_by_time ON job_callbacks (next) WHERE next IS NOT NULL;
CREATE TABLE job_gate (
    id {key},
    gate {text} NOT NULL
);
INSERT INTO job_gate (id, gate) VALUES (1, 'open');
",
    },
    Migration {
        version: 2,
        description: "an index of the jobs of an owner that have not ended",
        sql: "CREATE INDEX jobs_by_owner ON jobs (owner) WHERE state < 3",
    },
    Migration {
        version: 3,
        description: "who submitted a job, apart from whose key it has",
        sql: r"
ALTER TABLE jobs ADD COLUMN caller {text} NOT NULL DEFAULT '';
DROP INDEX jobs_by_owner;
CREATE INDEX jobs_by_caller ON jobs (caller) WHERE state < 3;
",
    },
    Migration {
        version: 4,
        description: "how long whoever holds a job may give no sign of life",
        sql: "ALTER TABLE jobs ADD COLUMN lease BIGINT NOT NULL DEFAULT 15000",
    },
];
