//! The tables, and how they came to be. A released step is never changed; what changes is added.

use salver_store::database::Migration;

/// The history of the schema.
pub(crate) const HISTORY: &[Migration] = &[Migration {
    version: 1,
    description: "experiments, runs, registered models, artifacts, audit",
    sql: r"
CREATE TABLE counters (
    name {text} PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('experiment', 0), ('change', 0);

CREATE TABLE experiments (
    experiment_id BIGINT PRIMARY KEY,
    name {text} NOT NULL UNIQUE,
    artifact_location {text} NOT NULL,
    lifecycle_stage {text} NOT NULL,
    creation_time BIGINT NOT NULL,
    last_update_time BIGINT NOT NULL
);
CREATE TABLE experiment_tags (
    experiment_id BIGINT NOT NULL REFERENCES experiments ON DELETE CASCADE,
    key {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (experiment_id, key)
);

CREATE TABLE runs (
    run_id {text} PRIMARY KEY,
    experiment_id BIGINT NOT NULL REFERENCES experiments ON DELETE CASCADE,
    run_name {text} NOT NULL,
    user_id {text} NOT NULL,
    status {text} NOT NULL,
    start_time BIGINT,
    end_time BIGINT,
    artifact_uri {text} NOT NULL,
    lifecycle_stage {text} NOT NULL
);
CREATE INDEX runs_by_start ON runs (experiment_id, start_time, run_id);
CREATE TABLE run_tags (
    run_id {text} NOT NULL REFERENCES runs ON DELETE CASCADE,
    key {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (run_id, key)
);
CREATE TABLE params (
    run_id {text} NOT NULL REFERENCES runs ON DELETE CASCADE,
    key {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (run_id, key)
);
CREATE TABLE metrics (
    run_id {text} NOT NULL REFERENCES runs ON DELETE CASCADE,
    key {text} NOT NULL,
    timestamp BIGINT NOT NULL,
    step BIGINT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    is_nan BIGINT NOT NULL,
    PRIMARY KEY (run_id, key, timestamp, step, value, is_nan)
);
CREATE TABLE latest_metrics (
    run_id {text} NOT NULL REFERENCES runs ON DELETE CASCADE,
    key {text} NOT NULL,
    timestamp BIGINT NOT NULL,
    step BIGINT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    is_nan BIGINT NOT NULL,
    PRIMARY KEY (run_id, key)
);

CREATE TABLE datasets (
    experiment_id BIGINT NOT NULL REFERENCES experiments ON DELETE CASCADE,
    name {text} NOT NULL,
    digest {text} NOT NULL,
    source_type {text} NOT NULL,
    source {text} NOT NULL,
    schema {text},
    profile {text},
    PRIMARY KEY (experiment_id, name, digest)
);
CREATE TABLE dataset_inputs (
    run_id {text} NOT NULL REFERENCES runs ON DELETE CASCADE,
    experiment_id BIGINT NOT NULL,
    name {text} NOT NULL,
    digest {text} NOT NULL,
    PRIMARY KEY (run_id, name, digest)
);
CREATE TABLE dataset_input_tags (
    run_id {text} NOT NULL REFERENCES runs ON DELETE CASCADE,
    name {text} NOT NULL,
    digest {text} NOT NULL,
    key {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (run_id, name, digest, key)
);
CREATE TABLE run_models (
    run_id {text} NOT NULL REFERENCES runs ON DELETE CASCADE,
    model_id {text} NOT NULL,
    direction {text} NOT NULL,
    step BIGINT NOT NULL,
    PRIMARY KEY (run_id, direction, model_id, step)
);

CREATE TABLE logged_models (
    model_id {text} PRIMARY KEY,
    experiment_id BIGINT NOT NULL REFERENCES experiments ON DELETE CASCADE,
    name {text} NOT NULL,
    artifact_uri {text} NOT NULL,
    status {text} NOT NULL,
    model_type {text},
    source_run_id {text},
    creation_time BIGINT NOT NULL,
    last_update_time BIGINT NOT NULL,
    lifecycle_stage {text} NOT NULL
);
CREATE INDEX logged_models_by_time ON logged_models (experiment_id, creation_time);
CREATE TABLE logged_model_tags (
    model_id {text} NOT NULL REFERENCES logged_models ON DELETE CASCADE,
    key {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (model_id, key)
);
CREATE TABLE logged_model_params (
    model_id {text} NOT NULL REFERENCES logged_models ON DELETE CASCADE,
    key {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (model_id, key)
);
CREATE TABLE logged_model_metrics (
    model_id {text} NOT NULL REFERENCES logged_models ON DELETE CASCADE,
    key {text} NOT NULL,
    timestamp BIGINT NOT NULL,
    step BIGINT NOT NULL,
    run_id {text} NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    is_nan BIGINT NOT NULL,
    dataset_name {text},
    dataset_digest {text},
    PRIMARY KEY (model_id, key, timestamp, step, run_id)
);

CREATE TABLE registered_models (
    name {text} PRIMARY KEY,
    creation_time BIGINT NOT NULL,
    last_update_time BIGINT NOT NULL,
    description {text} NOT NULL,
    user_id {text} NOT NULL,
    newest_version BIGINT NOT NULL
);
CREATE TABLE registered_model_tags (
    name {text} NOT NULL REFERENCES registered_models ON UPDATE CASCADE ON DELETE CASCADE,
    key {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (name, key)
);
CREATE TABLE model_versions (
    name {text} NOT NULL REFERENCES registered_models ON UPDATE CASCADE ON DELETE CASCADE,
    version BIGINT NOT NULL,
    creation_time BIGINT NOT NULL,
    last_update_time BIGINT NOT NULL,
    description {text} NOT NULL,
    user_id {text} NOT NULL,
    stage {text} NOT NULL,
    source {text} NOT NULL,
    location {text} NOT NULL,
    run_id {text} NOT NULL,
    run_link {text} NOT NULL,
    model_id {text},
    -- Of all files together, and how many bytes they have; empty where they are kept elsewhere.
    digest {text},
    size BIGINT,
    -- What its files declare to take and give, as JSON; empty where they declare nothing.
    signature {text},
    PRIMARY KEY (name, version)
);
CREATE INDEX model_versions_by_location ON model_versions (location);
CREATE INDEX model_versions_by_stage ON model_versions (name, stage, version);
CREATE INDEX model_versions_by_time ON model_versions (last_update_time, name, version);
CREATE TABLE model_version_files (
    name {text} NOT NULL,
    version BIGINT NOT NULL,
    path {text} NOT NULL,
    digest {text} NOT NULL,
    size BIGINT NOT NULL,
    PRIMARY KEY (name, version, path),
    FOREIGN KEY (name, version) REFERENCES model_versions (name, version) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX model_version_files_by_digest ON model_version_files (digest);
CREATE TABLE model_version_tags (
    name {text} NOT NULL,
    version BIGINT NOT NULL,
    key {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (name, version, key),
    FOREIGN KEY (name, version) REFERENCES model_versions (name, version) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE model_aliases (
    name {text} NOT NULL,
    alias {text} NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (name, alias),
    FOREIGN KEY (name, version) REFERENCES model_versions (name, version) ON UPDATE CASCADE ON DELETE CASCADE
);
-- Who was in which stage when: `until` is empty while it lasts. Kept when a model is deleted.
CREATE TABLE stage_times (
    id {serial},
    name {text} NOT NULL,
    version BIGINT NOT NULL,
    stage {text} NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    who {text} NOT NULL
);
CREATE INDEX stage_times_by_name ON stage_times (name, stage, since);

CREATE TABLE artifacts (
    path {text} PRIMARY KEY,
    digest {text} NOT NULL,
    size BIGINT NOT NULL,
    written BIGINT NOT NULL
);
CREATE INDEX artifacts_by_digest ON artifacts (digest);

CREATE TABLE audit (
    id {serial},
    time BIGINT NOT NULL,
    who {text} NOT NULL,
    what {text} NOT NULL,
    subject {text} NOT NULL,
    before {text},
    after {text}
);
CREATE INDEX audit_by_subject ON audit (subject, id);
",
}];
