//! What the text format allows, and what its errors say.

use proptest::prelude::*;

use super::*;
use crate::schema::tfserving::ModelServerConfig;
use crate::schema::triton::ModelConfig;

#[track_caller]
fn read(text: &str) -> ModelConfig {
    parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}")).0
}

#[track_caller]
fn check_error(text: &str, expected: &str) {
    let error = parse::<ModelConfig>(text).expect_err(text);
    assert_eq!(error.message(), expected, "{text:?}");
}

#[test]
fn every_way_to_write_a_list_reads_the_same() {
    let expected = read(r#"input { name: "A" dims: 1 dims: 2 } input { name: "B" }"#);
    assert_eq!(expected.input.len(), 2);
    for text in [
        r#"input [ { name: "A" dims: [ 1, 2 ] }, { name: "B" } ]"#,
        r#"input: [ { name: "A", dims: [1], dims: 2 }, { name: "B"; } ]"#,
        "input: < name: 'A' dims: [0x1,02] >, input < name: 'B' dims: [] >;",
        "\u{feff}# first\ninput[{name:'A'dims:[1,2]}]input{name:'B'}# last",
    ] {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn strings_are_joined_and_escapes_resolved() {
    let config = read("name: \"a\\\"b\" 'c\\'d\"'\n # between\n \"\\x41\\102\\n\\t\\u00e4\\U0001F600\\?\"");
    assert_eq!(config.name, "a\"bc'd\"AB\n\tä😀?");
    assert_eq!(read("name: 'ä'").name, "ä");
}

#[test]
fn booleans_numbers_and_enums_have_several_spellings() {
    for yes in ["true", "True", "t", "1", "0x1"] {
        assert!(read(&format!("response_cache {{ enable: {yes} }}")).response_cache.unwrap().enable, "{yes}");
    }
    for no in ["false", "False", "f", "0"] {
        assert!(!read(&format!("response_cache {{ enable: {no} }}")).response_cache.unwrap().enable, "{no}");
    }
    assert_eq!(read("max_batch_size: - 0x10").max_batch_size, Some(-16));
    assert_eq!(read("input { dims: -9223372036854775808 }").input[0].dims, [i64::MIN]);
    assert_eq!(read("input { data_type: TYPE_FP32 }"), read("input { data_type: 11 }"));
    let sampling = |text: &str| {
        let text = format!("model_config_list {{ config {{ logging_config {{ sampling_config {{ {text} }} }} }} }}");
        parse::<ModelServerConfig>(&text).map(|(config, _)| format!("{config:?}"))
    };
    for number in ["1", "0.5", ".5e-3f", "2E+4", "-inf", "nan", "10f"] {
        let read = sampling(&format!("sampling_rate: {number}"));
        assert!(read.is_ok_and(|text| text.contains("sampling_rate")), "{number}");
    }
    assert!(sampling("sampling_rate: 1.2.3").is_err());
}

#[test]
fn a_map_takes_entries_in_either_form() {
    let expected = read(r#"parameters { key: "a" value { string_value: "1" } } parameters { key: "b" value { } }"#);
    assert_eq!(expected.parameters.len(), 2);
    let list = r#"parameters [ { key: "a" value: { string_value: "1" } }, { value: {} key: "b" } ]"#;
    assert_eq!(read(list), expected);
    let policy = "dynamic_batching { priority_queue_policy { key: 2 value { timeout_action: DELAY } } }";
    assert!(format!("{:?}", read(policy)).contains("{2:"));
}

#[test]
fn whether_a_batch_size_was_written_is_kept() {
    assert_eq!(read("").max_batch_size, None);
    assert_eq!(read("max_batch_size: 0").max_batch_size, Some(0));
}

#[test]
fn errors_name_the_line_and_what_was_expected() {
    check_error("name: 'x'\n\nmax_batch_sise: 4", "line 3: unknown field 'max_batch_sise' in ModelConfig");
    check_error("input [\n { nam: 'x' } ]", "line 2: unknown field 'nam' in ModelInput");
    check_error("input [ { name: ", "line 1: expected a string in quotes, found the end of the file");
    check_error("input {\nname: 'x'\n", "line 3: expected a field name or '}', found the end of the file");
    check_error("input { name: 'x' >", "line 1: expected a field name or '}', found '>'");
    check_error("name: 'x\ny'", "line 1: a string does not end on its line");
    check_error("name: \"x", "line 1: a string does not end on its line");
    check_error("name 'x'", "line 1: expected ':' after 'name', found \"x\"");
    check_error("name: '\\q'", "line 1: unknown escape '\\q' in a string");
    check_error("name: '\\xff'", "line 1: the string is not UTF-8");
    check_error("name: '\\u12'", "line 1: bad escape '\\u' in a string");
    check_error("name: '\\777'", "line 1: an octal escape goes up to \\377");
    check_error("max_batch_size: 3000000000", "line 1: expected a 32-bit integer, found 3000000000");
    check_error("max_batch_size: 1.5", "line 1: expected a 32-bit integer, found 1.5");
    check_error("max_batch_size: --1", "line 1: expected a 32-bit integer, found '-'");
    check_error("max_batch_size: 08", "line 1: expected a 32-bit integer, found 08");
    check_error("input { dims: [1 2] }", "line 1: expected ',' or ']', found '2'");
    check_error("input { dims: [1,] }", "line 1: expected a 64-bit integer, found ']'");
    check_error("name: ['a']", "line 1: expected a string in quotes, found '['");
    check_error("name: 'a' name: 'b'", "line 1: 'name' is given twice");
    check_error(
        "dynamic_batching {}\nsequence_batching {}",
        "line 2: 'dynamic_batching' and 'sequence_batching' exclude each other",
    );
    check_error("version_policy { all {} latest {} }", "line 1: 'all' and 'latest' exclude each other");
    check_error("response_cache { enable: 2 }", "line 1: expected true or false, found '2'");
    check_error("[x.y] { }", "line 1: expected a field name, found '['");
    check_error("}", "line 1: expected a field name, found '}'");
    check_error("name: 'a' ,, platform: 'b'", "line 1: expected a field name, found ','");
    check_error("näme: 1", "line 1: unexpected character 'ä'");
}

#[test]
fn an_unknown_enum_value_lists_the_known_ones() {
    let error = parse::<ModelConfig>("instance_group { kind: KIND_TPU }").expect_err("no such kind");
    assert_eq!(
        error.message(),
        "line 1: 'KIND_TPU' is not a Kind; known are KIND_AUTO, KIND_GPU, KIND_CPU, KIND_MODEL"
    );
}

#[test]
fn deep_nesting_ends_at_the_schema() {
    let error = parse::<ModelConfig>(&"input {".repeat(100_000)).expect_err("an input has no input");
    assert_eq!(error.message(), "line 1: unknown field 'input' in ModelInput");
    let error = parse::<ModelConfig>(&format!("input {}", "[".repeat(100_000))).expect_err("no list of lists");
    assert_eq!(error.message(), "line 1: expected '{', found '['");
}

proptest! {
    /// Any string survives being written with escapes and read back.
    #[test]
    fn strings_read_back_as_written(text in any::<String>()) {
        let escaped: String = text.bytes().map(|byte| format!("\\{byte:03o}")).collect();
        prop_assert_eq!(&read(&format!("name: '{escaped}'")).name, &text);
        let plain = text.replace(['\\', '\n', '"'], "");
        prop_assert_eq!(&read(&format!("name: \"{plain}\"")).name, &plain);
    }

    /// Any integers survive, in whatever base.
    #[test]
    fn integers_read_back_as_written(dims in prop::collection::vec(any::<i64>(), 0..8)) {
        let decimal: Vec<String> = dims.iter().map(i64::to_string).collect();
        let sign = |dim: i64| if dim < 0 { "-" } else { "" };
        let hex: Vec<String> = dims.iter().map(|&dim| format!("{}0x{:X}", sign(dim), dim.unsigned_abs())).collect();
        let octal: Vec<String> = dims.iter().map(|&dim| format!("{}0{:o}", sign(dim), dim.unsigned_abs())).collect();
        for texts in [decimal, hex, octal] {
            let config = read(&format!("input {{ dims: [ {} ] }}", texts.join(" , ")));
            prop_assert_eq!(&config.input[0].dims, &dims);
        }
    }
}
