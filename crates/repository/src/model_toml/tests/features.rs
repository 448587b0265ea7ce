//! Tests of `[features]` and `[[feature]]`.

use salver_core::{Backing, Constant, DataType, FeatureRows, FeaturesSpec, KeyType, MissingRow};

use super::*;

fn spec(text: &str) -> FeaturesSpec {
    match parse(text).unwrap().backing {
        Some(Backing::Features(spec)) => (*spec).clone(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(features: &str, feature: &str, expected: &str) {
    let text = format!("engine = 'features'\n[features]\n{features}\n[[feature]]\n{feature}\n");
    let error = parse(&text).expect_err(&text);
    assert!(error.message().contains(expected), "{error} lacks {expected:?}");
}

const HASH: &str = "key = 'id'\nredis_key = 'user:{key}'";
const AGE: &str = "name = 'age'\ndtype = 'fp32'\ndefault = 30";

#[test]
fn every_key_of_features_is_read() {
    let spec = spec(
        r#"
        engine = "features"
        [features]
        store = "users"
        key = "user_id"
        key_type = "text"
        redis_key = "{user:{key}}:v1"
        missing = "skip"
        timeout_ms = 250
        max_in_flight = 7
        output = "x"
        [[feature]]
        name = "age"
        field = "age years"
        dtype = "fp32"
        default = 30
        [[feature]]
        name = "taste"
        dtype = "fp64"
        size = 3
        encoding = "packed"
        default = [0.5, 1, -2.0]
        [[feature]]
        name = "flags"
        dtype = "bool"
        size = 2
        default = true
        "#,
    );
    assert_eq!((&*spec.store, &*spec.key, spec.key_type), ("users", "user_id", KeyType::Text));
    assert_eq!(spec.rows, FeatureRows::Hash { before: "{user:".to_owned(), after: "}:v1".to_owned() });
    assert_eq!((spec.missing, spec.timeout.as_millis(), spec.max_in_flight), (MissingRow::Skip, 250, 7));
    assert_eq!(spec.joined.as_deref(), Some("x"));
    let [age, taste, flags] = spec.features.as_slice() else { panic!("{spec:?}") };
    assert_eq!(
        (&*age.name, age.field.as_str(), age.dtype, age.size, age.is_packed),
        ("age", "age years", DataType::Fp32, 1, false)
    );
    assert_eq!(age.default, Some(vec![Constant::Float(30.0)]));
    assert_eq!((taste.field.as_str(), taste.dtype, taste.size, taste.is_packed), ("taste", DataType::Fp64, 3, true));
    assert_eq!(taste.default, Some(vec![Constant::Float(0.5), Constant::Float(1.0), Constant::Float(-2.0)]));
    assert_eq!(flags.default, Some(vec![Constant::Bool(true); 2]));
}

#[test]
fn little_has_to_be_said() {
    let spec = spec(
        "[features]\nkey = 'user_id'\ntable = 'shop.users'\n[[feature]]\nname = 'age'\ndtype = 'int64'\ndefault = 0",
    );
    let rows = FeatureRows::Table {
        schema: Some("shop".to_owned()),
        table: "users".to_owned(),
        key_column: "user_id".to_owned(),
    };
    assert_eq!((&*spec.store, spec.rows, spec.key_type), ("default", rows, KeyType::Int64));
    assert_eq!((spec.missing, spec.timeout.as_millis(), spec.max_in_flight), (MissingRow::Default, 1000, 1024));
}

#[test]
fn names_that_could_be_sql_are_refused() {
    for table in ["users; DROP TABLE x", "a.b.c", "\"users\"", "1users", "", "a.", ".b", "ü", &"a".repeat(64)] {
        refused(&format!("key = 'id'\ntable = '{table}'"), AGE, "line 4: features.table must be TABLE or SCHEMA.TABLE");
    }
    refused(
        "key = 'id'\ntable = 'users'\nkey_column = 'a\"b'",
        AGE,
        "features.key_column must be a column of PostgreSQL",
    );
    refused("key = 'user id'\ntable = 'users'", AGE, "features.key must be a column of PostgreSQL: letters");
    refused(
        "key = 'id'\ntable = 'users'",
        "name = 'age (years)'\ndtype = 'fp32'\ndefault = 1",
        "name the column as field",
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    refused("key = 'id'", AGE, "line 3: features.key: needs redis_key");
    refused("key = 'id'\nredis_key = '{key}'\ntable = 't'", AGE, "stands beside redis_key");
    refused("key = 'id'\nredis_key = '{key}'\nkey_column = 'c'", AGE, "belongs to a table of PostgreSQL");
    refused("key = 'id'\nredis_key = 'user'", AGE, "hold {key} once, got 'user'");
    refused("key = 'id'\nredis_key = '{key}{key}'", AGE, "hold {key} once");
    refused("key = ''\nredis_key = '{key}'", AGE, "must be from 1 to 512 bytes");
    refused(HASH, "name = 'age'\ndtype = 'fp32'", "feature.name: needs default beside it");
    refused(HASH, "name = 'found'\ndtype = 'fp32'\ndefault = 1", "whether there is a row");
    refused(HASH, &format!("{AGE}\n[[feature]]\n{AGE}"), "must not be empty and not be given twice");
    refused(HASH, "name = 'a'\ndtype = 'int8'\ndefault = 1", "unknown variant `int8`");
    refused(HASH, "name = 'a'\ndtype = 'int32'\ndefault = 2147483648", "must be a whole number in the range");
    refused(HASH, "name = 'a'\ndtype = 'int32'\ndefault = 1.5", "must be a whole number in the range");
    refused(HASH, "name = 'a'\ndtype = 'fp32'\ndefault = 1e39", "must be a number in the range");
    refused(HASH, "name = 'a'\ndtype = 'bool'\ndefault = 1", "must be true or false");
    refused(HASH, "name = 'a'\ndtype = 'text'\ndefault = 1", "must be text");
    refused(HASH, "name = 'a'\ndtype = 'fp32'\nsize = 3\ndefault = [1, 2]", "as many values as size says, 3, got 2");
    refused(HASH, "name = 'a'\ndtype = 'fp32'\nsize = 0\ndefault = 1", "must be from 1 to 65536, got 0");
    refused(HASH, "name = 'a'\ndtype = 'text'\nencoding = 'packed'\ndefault = ''", "packed is for numbers");
    refused(
        "key = 'id'\ntable = 't'",
        "name = 'a'\ndtype = 'fp32'\nencoding = 'packed'\ndefault = 1",
        "fields of Redis",
    );
    refused(&format!("{HASH}\noutput = 'x'"), "name = 'a'\ndtype = 'text'\ndefault = ''", "cannot be joined");
    refused(&format!("{HASH}\noutput = 'found'"), AGE, "whether there is a row");
    refused(&format!("{HASH}\ntimeout_ms = 0"), AGE, "must be from 1 to 10000, got 0");
    refused(&format!("{HASH}\nmissing = 'none'"), AGE, "unknown variant `none`");
    refused(&format!("{HASH}\nurl = 'redis://host'"), AGE, "unknown field `url`");
    refused(&format!("{HASH}\n[[input]]\nname = 'id'"), AGE, "key in [features] names the only input");
    refused(&format!("{HASH}\n[instances]\ncount = 1"), AGE, "nothing computes here");
}

#[test]
fn tables_of_features_belong_to_the_engine() {
    let needs = "needs engine = \"features\" at the top of the file";
    check_error(
        "engine = 'onnx'\n[features]\nkey = 'a'",
        ErrorKind::InvalidInput,
        &format!("line 2: features: {needs}"),
    );
    check_error(
        "[[feature]]\nname = 'a'\ndtype = 'fp32'",
        ErrorKind::InvalidInput,
        &format!("line 1: feature: {needs}"),
    );
    check_error(
        "engine = 'features'",
        ErrorKind::InvalidInput,
        "line 1: engine: a model that looks features up needs [features]",
    );
    check_error(
        "engine = 'features'\n[features]\nkey = 'a'\nredis_key = '{key}'",
        ErrorKind::InvalidInput,
        "line 2: features: needs from 1 to 1024 [[feature]], got 0",
    );
}

#[test]
fn every_key_stands_in_the_documentation() {
    let page = include_str!("../../../../../docs/features.md");
    for table in ["[features]", "[[feature]]"] {
        let unknown = format!("engine = 'features'\n{table}\nno_such_key = 1");
        let error = parse(&unknown).expect_err(table);
        let known: Vec<&str> = error.message().split('`').skip(3).step_by(2).collect();
        assert!(known.len() >= 6, "{error}");
        let missing: Vec<_> = known.iter().filter(|key| !page.contains(&format!("`{key}`"))).collect();
        assert!(missing.is_empty(), "docs/features.md does not tell of {missing:?} in {table}");
    }
    let examples: Vec<&str> = page.split("```toml\n").skip(1).filter(|text| text.starts_with("engine")).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        spec(example.split("```").next().unwrap());
    }
}
