use super::*;
use crate::search::Attribute;

#[track_caller]
fn check(subject: Subject, item: &str, field: Field, ascending: bool) {
    assert_eq!(parse_order(subject, item).unwrap(), Order { field, ascending }, "{item}");
}

#[track_caller]
fn refused(subject: Subject, item: &str, expected: &str) {
    let error = parse_order(subject, item).expect_err(item);
    assert!(error.message().contains(expected), "{item}: {error}");
}

#[test]
fn each_subject_is_sorted_by_its_own_keys() {
    use Attribute::{CreationTime, ExperimentId, LastUpdated, Name, StartTime, VersionNumber};
    check(Subject::Runs, "metrics.`a b`  DESC", Field::Metric("a b".into()), false);
    check(Subject::Runs, "params.a asc", Field::Param("a".into()), true);
    check(Subject::Runs, "tags.\"mlflow.x\"", Field::Tag("mlflow.x".into()), true);
    check(Subject::Runs, "attributes.start_time desc", Field::Attribute(StartTime), false);
    check(Subject::Runs, "Created", Field::Attribute(StartTime), true);
    check(Subject::Runs, "`run name`", Field::Attribute(Attribute::RunName), true);
    check(Subject::Experiments, "experiment_id DESC", Field::Attribute(ExperimentId), false);
    check(Subject::Experiments, "last_update_time", Field::Attribute(LastUpdated), true);
    check(Subject::RegisteredModels, "name ASC", Field::Attribute(Name), true);
    check(Subject::RegisteredModels, "timestamp DESC", Field::Attribute(LastUpdated), false);
    check(Subject::RegisteredModels, "last_updated_timestamp", Field::Attribute(LastUpdated), true);
    check(Subject::ModelVersions, "version_number DESC", Field::Attribute(VersionNumber), false);
    check(Subject::ModelVersions, "creation_timestamp", Field::Attribute(CreationTime), true);
}

#[test]
fn anything_else_is_refused() {
    for (subject, item, expected) in [
        (Subject::Runs, "", "found the end, expected a key"),
        (Subject::Runs, "DESC", "unknown attribute `DESC`"),
        (Subject::Runs, "metrics.a foo", "found `foo`, expected ASC, DESC or the end"),
        (Subject::Runs, "metrics.a DESC ASC", "found `ASC`"),
        (Subject::Runs, "metrics.a, metrics.b", "found `,`"),
        (Subject::Runs, "metrics.a DESC NULLS LAST", "found `NULLS`"),
        (Subject::Runs, "dataset.name", "`dataset` cannot be sorted by"),
        (Subject::Runs, "run name", "unknown attribute `run`"),
        (Subject::Experiments, "tags.a", "`tags` cannot be sorted by; sort by name, experiment_id"),
        (Subject::RegisteredModels, "creation_timestamp", "expected one of name, last_updated_timestamp"),
        (Subject::ModelVersions, "timestamp", "unknown attribute"),
        (Subject::LoggedModels, "metric.a", "unknown prefix"),
    ] {
        refused(subject, item, expected);
    }
    refused(Subject::Runs, &" ".repeat(MAX_TEXT_BYTES + 1), "too long");
}

#[test]
fn a_field_alone_needs_no_quotes() {
    for (name, expected) in [
        ("metrics.val-loss", Field::Metric("val-loss".into())),
        ("metrics.a b.c", Field::Metric("a b.c".into())),
        ("metrics.`a b`", Field::Metric("a b".into())),
        ("creation_time", Field::Attribute(Attribute::CreationTime)),
        ("last_updated_timestamp", Field::Attribute(Attribute::LastUpdated)),
        ("attributes.name", Field::Attribute(Attribute::Name)),
    ] {
        assert_eq!(order_field(Subject::LoggedModels, name).unwrap(), expected);
    }
    for name in ["", ".", "metrics.", "metrics.``", "params.a", "tags.a", "x", "name DESC", "metrics.a\0"] {
        assert!(order_field(Subject::LoggedModels, name).is_err(), "{name:?}");
    }
}
