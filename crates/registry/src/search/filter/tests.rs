use super::*;
use crate::search::{Attribute, DatasetField, Field, MAX_TEXT_BYTES};

/// Compares the clauses with their short form, joined by semicolons.
#[track_caller]
fn check(subject: Subject, text: &str, expected: &str) {
    let clauses = parse_filter(subject, text).unwrap();
    let shown: Vec<String> = clauses.iter().map(show).collect();
    assert_eq!(shown.join("; "), expected, "{text}");
}

fn show(clause: &Clause) -> String {
    let field = match &clause.field {
        Field::Attribute(attribute) => format!("{attribute:?}"),
        Field::Metric(key) => format!("metric[{key}]"),
        Field::Param(key) => format!("param[{key}]"),
        Field::Tag(key) => format!("tag[{key}]"),
        Field::Dataset(field) => format!("dataset {field:?}"),
    };
    let test = match &clause.test {
        Test::Text { op, value } => format!("{op:?} [{value}]"),
        Test::Number { op, value } => format!("{op:?} {value}"),
        Test::In { values, negated } => format!("{} {values:?}", if *negated { "not in" } else { "in" }),
        Test::Null { negated } => if *negated { "there" } else { "absent" }.to_owned(),
    };
    format!("{field} {test}")
}

#[track_caller]
fn refused(subject: Subject, text: &str, expected: &str) {
    let error = parse_filter(subject, text).expect_err(text);
    assert_eq!(error.kind(), salver_core::ErrorKind::InvalidInput);
    assert!(error.message().contains(expected), "{text}: {error}");
}

#[test]
fn a_blank_filter_has_no_clauses() {
    check(Subject::Runs, "", "");
    check(Subject::Runs, " \n\t", "");
}

#[test]
fn runs_are_filtered_by_metrics_params_tags_attributes_and_data_sets() {
    for (text, expected) in [
        ("metrics.loss < 0.5 and params.lr = '0.1'", "metric[loss] Less 0.5; param[lr] Equal [0.1]"),
        ("metric.`val loss` >= -1e-3", "metric[val loss] GreaterOrEqual -0.001"),
        ("metrics.\"a.b\"=.5 AND metrics.a!=5.", "metric[a.b] Equal 0.5; metric[a] NotEqual 5"),
        ("parameter.a != 'x' AND parameters.b LIKE 'x%'", "param[a] NotEqual [x]; param[b] Like [x%]"),
        ("tags.mlflow.source.name = \"x\"", "tag[mlflow.source.name] Equal [x]"),
        ("tags.`mlflow.parentRunId` iLike '_'", "tag[mlflow.parentRunId] ILike [_]"),
        ("tag.'a' = 'x'AND tag.b='y'", "tag[a] Equal [x]; tag[b] Equal [y]"),
        ("params.a is null and tags.b Is  Not NULL", "param[a] absent; tag[b] there"),
        ("params.1a = 'x' AND params.and = 'AND'", "param[1a] Equal [x]; param[and] Equal [AND]"),
        ("status = 'RUNNING' and attr.user_id != 'me'", "Status Equal [RUNNING]; UserId NotEqual [me]"),
        ("attributes.run_name = 'a' and run.`run name` = 'b'", "RunName Equal [a]; RunName Equal [b]"),
        ("`Run name` like '%' AND \"Run Name\" = ''", "RunName Like [%]; RunName Equal []"),
        ("attribute.created > 5 AND Created<=6", "StartTime Greater 5; StartTime LessOrEqual 6"),
        ("start_time > 1664067852747 and end_time<9", "StartTime Greater 1664067852747; EndTime Less 9"),
        ("run_id IN ('a',\"b\") and run_id not in ('c',)", "RunId in [\"a\", \"b\"]; RunId not in [\"c\"]"),
        ("artifact_uri = 's3://b/c'", "ArtifactUri Equal [s3://b/c]"),
        (
            "dataset.name = 'x' and datasets.context in ('train')",
            "dataset Name Equal [x]; dataset Context in [\"train\"]",
        ),
    ] {
        check(Subject::Runs, text, expected);
    }
}

#[test]
fn the_other_subjects_have_their_own_attributes() {
    use Subject::{Experiments, LoggedModels, ModelVersions, RegisteredModels};
    for (subject, text, expected) in [
        (Experiments, "attribute.name ILIKE 'a%' AND tag.x IS NULL", "Name ILike [a%]; tag[x] absent"),
        (Experiments, "creation_time > 1 and last_update_time < 2", "CreationTime Greater 1; LastUpdated Less 2"),
        (Experiments, "experiment_id IN ('1', '2')", "ExperimentId in [\"1\", \"2\"]"),
        (RegisteredModels, "name in ('a') and tags.k != 'v'", "Name in [\"a\"]; tag[k] NotEqual [v]"),
        (
            RegisteredModels,
            "name LIKE '%' AND tag.`mlflow.prompt.is_prompt` != 'true'",
            "Name Like [%]; tag[mlflow.prompt.is_prompt] NotEqual [true]",
        ),
        (
            ModelVersions,
            "run_id='r' and name='a' and version_number >= 2",
            "RunId Equal [r]; Name Equal [a]; VersionNumber GreaterOrEqual 2",
        ),
        (ModelVersions, "source_path LIKE 's3:%'", "SourcePath Like [s3:%]"),
        (LoggedModels, "name = 'model' AND metrics.`a b` > 1", "Name Equal [model]; metric[a b] Greater 1"),
        (
            LoggedModels,
            "attributes.status IN ('READY') and model_type='x'",
            "Status in [\"READY\"]; ModelType Equal [x]",
        ),
        (LoggedModels, "creation_time > 1 and creation_timestamp < 5", "CreationTime Greater 1; CreationTime Less 5"),
        (LoggedModels, "source_run_id != 'r' and params.a LIKE 'x'", "SourceRunId NotEqual [r]; param[a] Like [x]"),
    ] {
        check(subject, text, expected);
    }
}

#[test]
fn text_in_quotes_is_taken_as_it_stands() {
    for (text, expected) in [
        ("tags.a = \"it's\"", "tag[a] Equal [it's]"),
        ("tags.a = 'it''s'", "tag[a] Equal [it''s]"),
        ("tags.a = 'say \"a\"' AND tags.\"x`y\" = ''", "tag[a] Equal [say \"a\"]; tag[x`y] Equal []"),
        (r"tags.a = 'C:\' AND tags.b = '\n'", r"tag[a] Equal [C:\]; tag[b] Equal [\n]"),
        ("tags.a = ' AND ' and tags.b = ' (x, y) '", "tag[a] Equal [ AND ]; tag[b] Equal [ (x, y) ]"),
    ] {
        check(Subject::Runs, text, expected);
    }
}

#[test]
fn what_the_language_has_not_is_refused() {
    for (text, expected) in [
        ("params.a='x' OR params.b='y'", "before clause 2: found `OR`, expected AND"),
        ("params.a='x' params.b='y'", "before clause 2"),
        ("params.a='x' AND", "clause 2"),
        ("AND params.a='x'", "unknown attribute `AND`"),
        ("(params.a='x')", "expected a key"),
        ("NOT params.a = 'x'", "unknown attribute `NOT`"),
        ("params.a NOT LIKE 'x'", "found `NOT`, expected an operator"),
        ("params.a <> 'x'", "found `<>`, expected an operator"),
        ("params.a == 'x'", "found `==`"),
        ("params.a = 'x';", "';' has no meaning"),
        ("params.a = 'x' -- c", "'-' has no meaning"),
        ("metrics.a BETWEEN 1 AND 2", "found `BETWEEN`"),
        ("'x' = params.a", "expected a key"),
        ("1 = 1", "expected a key"),
        ("params.a", "found the end, expected an operator"),
        ("params.a =", "found the end, expected a text"),
        ("params.a IS 'x'", "expected an operator"),
    ] {
        refused(Subject::Runs, text, expected);
    }
}

#[test]
fn keys_and_prefixes_must_be_known_and_quoted_where_unusual() {
    for (text, expected) in [
        ("metrics.val-loss > 1", "'-' has no meaning here; put a key that holds it in backticks"),
        ("metrics.a/b > 1", "'/' has no meaning"),
        ("metrics. a > 1", "no key follows the dot"),
        ("metrics . a > 1", "'.' has no meaning"),
        ("metrics. `a` > 1", "no key follows the dot"),
        ("metrics.`` > 1", "no key follows `metrics.`"),
        ("metrics.a.`b` > 1", "only a part of the key"),
        ("metrics.`a`.b > 1", "character 12"),
        ("Metrics.a > 1", "unknown prefix `Metrics`, expected one of metrics"),
        ("`metrics.a` > 1", "unknown attribute `metrics.a`"),
        ("STATUS = 'x'", "unknown attribute `STATUS`, expected one of run_id, run_name"),
        ("lifecycle_stage = 'x'", "unknown attribute"),
        ("dataset.source = 'x'", "unknown data set key `source`, expected name, digest or context"),
    ] {
        refused(Subject::Runs, text, expected);
    }
    refused(Subject::Experiments, "params.a = 'x'", "unknown prefix `params`, expected one of tags, tag, attribute");
    refused(Subject::RegisteredModels, "last_updated_timestamp > 4", "unknown attribute");
    refused(Subject::ModelVersions, "creation_timestamp > 1", "unknown attribute");
    refused(Subject::LoggedModels, "metric.a > 1", "unknown prefix `metric`");
}

#[test]
fn operators_must_fit_their_keys() {
    use Subject::{Experiments, LoggedModels, ModelVersions, RegisteredModels, Runs};
    for (subject, text) in [
        (Runs, "params.a > 'x'"),
        (Runs, "params.a IN ('x')"),
        (Runs, "metrics.a IS NULL"),
        (Runs, "metrics.a LIKE 1"),
        (Runs, "status IS NOT NULL"),
        (Runs, "status IN ('x')"),
        (Runs, "start_time IN ('1')"),
        (Runs, "dataset.name IS NULL"),
        (Experiments, "name IN ('a')"),
        (Experiments, "experiment_id LIKE '1'"),
        (RegisteredModels, "tags.a IS NULL"),
        (RegisteredModels, "tags.a IN ('x')"),
        (ModelVersions, "source_path IN ('x')"),
        (ModelVersions, "tags.a IS NOT NULL"),
        (LoggedModels, "tags.a IS NULL"),
        (LoggedModels, "params.a IN ('x')"),
    ] {
        refused(subject, text, "does not apply to this key, expected =, !=");
    }
}

#[test]
fn values_must_fit_their_operators() {
    for (text, expected) in [
        ("params.a = b", "found `b`, expected a text in single quotes"),
        ("params.a = `b`", "found ``b``, expected a text"),
        ("params.a = 1", "found `1`, expected a text"),
        ("params.a = ('x')", "found `(`"),
        ("params.a = 'x", "a quote without its end"),
        ("params.a = 'x''", "a quote without its end"),
        ("params.a = 'x\0'", "a NUL"),
        ("metrics.a = '1'", "found `'1'`, expected a number"),
        ("metrics.a = inf", "found `inf`"),
        ("metrics.a = 1e999", "found `1e999`"),
        ("metrics.a = 0x10", "not a number"),
        ("metrics.a = 1_000", "not a number"),
        ("metrics.a = 1.2.3", "not a number"),
        ("metrics.a = 1e", "not a number"),
        ("metrics.a = - 1", "'-' has no meaning"),
        ("metrics.a = +1", "'+' has no meaning"),
        ("run_id IN ()", "expected a text"),
        ("run_id IN (,)", "expected a text"),
        ("run_id IN ('a',,)", "expected a text"),
        ("run_id IN (1)", "expected a text"),
        ("run_id IN ('a' 'b')", "expected a comma"),
        ("run_id IN (('a'))", "expected a text"),
        ("run_id IN ('a'", "found the end"),
        ("run_id IN 'a'", "expected a list"),
    ] {
        refused(Subject::Runs, text, expected);
    }
}

#[test]
fn messages_name_the_clause() {
    refused(
        Subject::Runs,
        "status = 'x' AND metrics.a > '1' AND params.b = 'y'",
        "filter clause 2 `metrics.a > '1'`: found `'1'`, expected a number",
    );
}

#[test]
fn length_clauses_and_lists_are_bounded() {
    let clauses = |n: usize| vec!["tags.a = ''"; n].join(" AND ");
    assert_eq!(parse_filter(Subject::Runs, &clauses(MAX_CLAUSES)).unwrap().len(), MAX_CLAUSES);
    refused(Subject::Runs, &clauses(MAX_CLAUSES + 1), "more than 100 clauses");

    let list = |n: usize| format!("run_id IN ({})", vec!["''"; n].join(","));
    assert!(parse_filter(Subject::Runs, &list(MAX_LIST_VALUES)).is_ok());
    refused(Subject::Runs, &list(MAX_LIST_VALUES + 1), "more than 10000 values");

    let filler = " ".repeat(MAX_TEXT_BYTES);
    assert!(parse_filter(Subject::Runs, &filler).is_ok());
    refused(Subject::Runs, &(filler + " "), "too long");
}

#[test]
fn fields_keep_their_types() {
    let clauses = parse_filter(Subject::Runs, "dataset.digest = 'x' AND run_id = 'y'").unwrap();
    assert_eq!(clauses[0].field, Field::Dataset(DatasetField::Digest));
    assert_eq!(clauses[1].field, Field::Attribute(Attribute::RunId));
}
