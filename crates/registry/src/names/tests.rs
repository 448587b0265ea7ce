use super::*;

#[track_caller]
fn check(rule: fn(&str) -> Result<()>, accepted: &[&str], refused: &[&str]) {
    for text in accepted {
        assert!(rule(text).is_ok(), "{text:?}: {:?}", rule(text));
    }
    for text in refused {
        let error = rule(text).expect_err(text);
        assert_eq!(error.kind(), salver_core::ErrorKind::InvalidInput);
        assert!(!error.message().contains(char::is_control), "{error}");
    }
}

#[track_caller]
fn check_bound(rule: fn(&str) -> Result<()>, most: usize) {
    for letter in ["a", "ß", "語"] {
        assert!(rule(&letter.repeat(most)).is_ok(), "{letter} {most}");
        let error = rule(&letter.repeat(most + 1)).expect_err("one too many");
        assert!(error.message().contains(&format!("exceeds the maximum length of {most}")), "{error}");
        assert!(error.message().len() < 400, "{error}");
    }
}

#[test]
fn experiments_may_be_called_nearly_anything() {
    check(
        experiment_name,
        &["Default", "/Users/me/a b", "größe", "a:b", "..", "0"],
        &["", " ", "a\0b", "a\nb", "\u{85}x"],
    );
    check_bound(experiment_name, MAX_EXPERIMENT_NAME);
}

#[test]
fn models_have_no_separators_in_their_names() {
    check(
        model_name,
        &["iris", "my model", "größe", "a.b", "a..b", "v1", "m-1", "100%"],
        &["", "  ", "a/b", "a:b", ".", "..", "../x", "..x", "a\0", "a\tb", "/", ":"],
    );
    check_bound(model_name, MAX_MODEL_NAME);
}

#[test]
fn aliases_cannot_be_taken_for_versions() {
    check(
        alias,
        &["champion", "prod-1", "_", "-", "größe", "v", "v1a", "1", "version1", "late", "latest_"],
        &["", "latest", "LATEST", "Latest", "v1", "V12", "v٣", "a b", "a.b", "a/b", "a@b", "a\n", "ok\n"],
    );
    check_bound(alias, MAX_ALIAS);
}

#[test]
fn keys_stay_themselves_as_paths() {
    for rule in [metric_key, param_key, tag_key] {
        check(
            rule,
            &["loss", "val/loss", "a b", "a.b-c_d:e", "größe", "損失", "a/..b", ".a"],
            &[
                "", ".", "..", "a//b", "../b", "/a", "//a", "a/", "a/.", "./a", "a/./b", "a/../b", "..a", "a/..",
                "a%b", "a\\b", "a,b", "a\0", "a\nb", "a'b", "a\"b", "a`b", "a#", "a@b",
            ],
        );
        check_bound(rule, MAX_KEY);
    }
}

#[test]
fn values_are_bounded_and_otherwise_free() {
    for (rule, most) in [
        (param_value as fn(&str) -> Result<()>, MAX_PARAM_VALUE),
        (run_tag_value, MAX_RUN_TAG_VALUE),
        (experiment_tag_value, MAX_EXPERIMENT_TAG_VALUE),
        (model_tag_value, MAX_MODEL_TAG_VALUE),
    ] {
        check(rule, &["", "a\nb\t", "{\"a\": 1}", "/../"], &["\0", "a\0b"]);
        check_bound(rule, most);
    }
}

#[test]
fn values_are_cut_between_characters() {
    assert_eq!(cut("größe", 3), "grö");
    assert_eq!(cut("größe", 5), "größe");
    assert_eq!(cut("größe", 9), "größe");
    assert_eq!(cut("größe", 0), "");
}

#[test]
fn stages_are_read_in_any_case_and_written_in_one() {
    for (text, expected) in
        [("none", "None"), ("STAGING", "Staging"), ("production", "Production"), ("aRCHIVED", "Archived")]
    {
        assert_eq!(text.parse::<Stage>().unwrap().to_string(), expected);
    }
    for stage in Stage::ALL {
        assert_eq!(stage.as_str().parse::<Stage>().unwrap(), stage);
    }
    for text in ["", "prod", " Staging", "Deleted_Internal", "stagıng"] {
        assert!(text.parse::<Stage>().is_err(), "{text:?}");
    }
    assert_eq!(Stage::default(), Stage::None);
}

#[test]
fn versions_are_named_as_mlflow_names_them_and_shorter() {
    for (text, expected) in [
        ("models:/iris/12", "models:/iris/12"),
        ("iris/012", "models:/iris/12"),
        ("iris/sTaging", "models:/iris/Staging"),
        ("models:/iris/None", "models:/iris/None"),
        ("iris@champion", "models:/iris@champion"),
        ("a@b@c", "models:/a@b@c"),
        ("a@b/1", "models:/a@b/1"),
        ("models:/my model/1", "models:/my model/1"),
    ] {
        let read: VersionRef = text.parse().unwrap();
        assert_eq!(read.to_string(), expected);
        assert_eq!(read.to_string().parse::<VersionRef>().unwrap(), read);
    }
    for text in [
        "",
        "models:/",
        "iris",
        "models:/iris",
        "/1",
        "@a",
        "iris/",
        "iris@",
        "iris/0",
        "iris/-1",
        "iris/+1",
        "iris/1.0",
        "iris/99999999999999999999",
        "iris/latest",
        "iris@latest",
        "iris@v2",
        "iris/prod",
        "a/b/1",
        "models://iris/1",
        "runs:/iris/1",
        "iris/1\n",
        "iris/٣",
    ] {
        let error = text.parse::<VersionRef>().expect_err(text);
        assert!(error.message().contains("models:/NAME/STAGE") && !error.message().contains('\n'), "{text:?}: {error}");
    }
    assert_eq!(VersionRef::split("models:/my model").unwrap(), ("my model".to_owned(), None));
}
