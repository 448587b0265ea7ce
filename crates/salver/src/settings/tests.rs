//! Tests of the settings: who wins, who is named as the source, what a bad file says.

use std::ffi::OsString;
use std::io::Write as _;

use clap::Parser as _;

use super::layers::{Merged, Setting, merge};
use crate::cli::{Cli, command};

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn merged(args: &[&str]) -> anyhow::Result<Merged> {
    let args: Vec<OsString> = std::iter::once("salver").chain(args.iter().copied()).map(OsString::from).collect();
    merge(command(), &args)
}

fn setting<'a>(merged: &'a Merged, name: &str) -> &'a Setting {
    merged.settings.iter().find(|setting| setting.name == name).unwrap()
}

#[track_caller]
fn check(merged: &Merged, name: &str, value: &str, source: &str) {
    let setting = setting(merged, name);
    assert_eq!((setting.values.join(" ").as_str(), setting.source.to_string().as_str()), (value, source), "{name}");
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let file = file(text);
    let path = file.path().to_str().unwrap();
    let Err(error) = merged(&["serve", "--config", path]) else { panic!("accepted {text:?}") };
    let error = format!("{error:#}");
    for part in expected.iter().chain([&path]) {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let file = file("http = \"127.0.0.1:9000\"\nslow_ms = 5\nbench = true\nload_model = [\"a\", \"b\"]\n");
    let path = file.path().to_str().unwrap();
    let merged = merged(&["config", "--config", path, "--slow-ms", "7"]).unwrap();
    let from_file = format!("file {path}");
    check(&merged, "http", "127.0.0.1:9000", &from_file);
    check(&merged, "bench", "true", &from_file);
    check(&merged, "load_model", "a b", &from_file);
    check(&merged, "slow_ms", "7", "flag");
    check(&merged, "grpc", "127.0.0.1:8081", "default");
    check(&merged, "threads", "", "default");
}

#[test]
fn a_switch_that_the_file_sets_can_be_taken_back() {
    let file = file("bench = true\n");
    let merged = merged(&["config", "--config", file.path().to_str().unwrap(), "--bench=false"]).unwrap();
    check(&merged, "bench", "false", "flag");
}

#[test]
fn of_a_flag_given_twice_the_last_one_counts_and_lists_grow() {
    let merged = merged(&[
        "config",
        "--slow-ms",
        "1",
        "--slow-ms",
        "2",
        "--load-model",
        "a",
        "--load-model",
        "b,c",
        "--bench",
        "--bench=false",
    ]);
    let merged = merged.unwrap();
    check(&merged, "slow_ms", "2", "flag");
    check(&merged, "load_model", "a b c", "flag");
    check(&merged, "bench", "false", "flag");
}

#[test]
fn a_bad_file_is_refused_with_its_line() {
    refused("http = \"127.0.0.1:1\"\nhtp = 1\n", &["line 2", "unknown key `htp`", "http"]);
    refused("\n\nhttp = \"nowhere\"\n", &["line 3", "`http`", "nowhere", "127.0.0.1:8080"]);
    refused("threads = 0\n", &["line 1", "`threads`"]);
    refused("threads = 1.5\n", &["line 1", "`threads`", "whole number"]);
    refused("model_control = \"often\"\n", &["line 1", "`model_control`", "often"]);
    refused("config = \"other.toml\"\n", &["line 1", "unknown key `config`"]);
    refused("[limits]\nbody_limit_bytes = 1\n", &["line 1", "unknown key `limits`"]);
    refused("http = \n", &["line 1"]);
    refused("[endpoints]\na = \"iris/1\"\nb = \"iris/prod\"\n", &["line 3", "`endpoints.b`", "models:/NAME/STAGE"]);
    refused("\n[endpoints]\na.b = \"iris/1\"\n", &["line 3", "`endpoints.a`", "expected a string"]);
    refused("endpoint = \"a=iris/1\"\n", &["line 1", "unknown key `endpoint`", "endpoints"]);
    refused("endpoints = \"iris/1\"\n", &["line 1", "`endpoints`", "NAME=MODEL"]);
    refused("[threads]\na = \"1\"\n", &["line 1", "`threads`", "got table"]);
}

#[test]
fn endpoints_are_a_table_of_the_file_and_repeat_on_the_command_line() {
    let file = file("[endpoints]\niris-next = \"models:/iris/Staging\"\n\"iris.old\" = \"iris/1\"\n");
    let path = file.path().to_str().unwrap();
    let from_file = format!("file {path}");
    let both = "iris-next=models:/iris/Staging iris.old=iris/1";
    let told = merged(&["config", "--config", path]).unwrap();
    let mut shown = setting(&told, "endpoint").values.clone();
    shown.sort();
    assert_eq!((shown.join(" ").as_str(), setting(&told, "endpoint").source.to_string()), (both, from_file));
    let told = merged(&["config", "--config", path, "--endpoint", "a=iris@b", "--endpoint", "c=iris/2"]).unwrap();
    check(&told, "endpoint", "a=iris@b c=iris/2", "flag");
    let Err(error) = merged(&["serve", "--endpoint", "a=iris/prod"]) else { panic!("accepted") };
    let error = error.to_string();
    assert!(error.contains("--endpoint") && error.contains("models:/NAME@ALIAS"), "{error}");
}

#[test]
fn a_password_is_not_shown() {
    let shown = |url: &str| setting(&merged(&["config", "--cache-redis", url]).unwrap(), "cache_redis").values.join("");
    assert_eq!(shown("redis://127.0.0.1:6379/1"), "redis://127.0.0.1:6379/1");
    assert_eq!(shown("redis://:secret@host"), "redis://:***@host");
    assert_eq!(shown("redis://user:sec:ret@x@host:1/2"), "redis://user:***@host:1/2");
    assert_eq!(shown("redis://secret@host"), "redis://***@host");
    assert_eq!(shown("postgres://u:secret@h/x?password=secret&a=b"), "postgres://u:***@h/x?password=***&a=b");
    let words = ["config", "--feature-store", "a=redis://:secret@h,postgres://h/x?password=secret"];
    check(&merged(&words).unwrap(), "feature_store", "a=redis://:***@h postgres://h/x?password=***", "flag");
    let cli = Cli::try_parse_from(["salver", "serve", "--cache-redis", "redis://:secret@host"]).unwrap();
    let crate::cli::Action::Serve(options) = cli.action else { panic!("not serve") };
    assert!(!format!("{options:?}").contains("secret@host"));
}

#[test]
fn a_secret_is_not_shown() {
    let words = ["config", "--callback-secret", "whsec_c2VjcmV0"];
    check(&merged(&words).unwrap(), "callback_secret", "***", "flag");
    let cli = Cli::try_parse_from(["salver", "serve", "--callback-secret", "whsec_c2VjcmV0"]).unwrap();
    let crate::cli::Action::Serve(options) = cli.action else { panic!("not serve") };
    assert!(!format!("{options:?}").contains("c2VjcmV0"));
}

#[test]
fn a_missing_file_is_named() {
    let Err(error) = merged(&["serve", "--config", "/nowhere/salver.toml"]) else { panic!("accepted") };
    assert!(format!("{error:#}").contains("/nowhere/salver.toml"), "{error:#}");
}

#[test]
fn every_setting_has_an_environment_variable_and_a_sentence() {
    let command = command();
    let serve = command.find_subcommand("serve").unwrap();
    for arg in serve.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| long != "help")) {
        let name = arg.get_id().as_str();
        assert_eq!(arg.get_env().unwrap().to_str().unwrap(), format!("SALVER_{}", name.to_uppercase()));
        assert!(arg.get_help().is_some_and(|help| help.to_string().len() > 10), "{name}");
    }
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn addresses_beyond_this_machine_are_recognised() {
    let exposed = |http: &str, grpc: &str| {
        let cli = Cli::try_parse_from(["salver", "serve", "--http", http, "--grpc", grpc]).unwrap();
        let crate::cli::Action::Serve(options) = cli.action else { panic!("not serve") };
        options.exposed().len()
    };
    assert_eq!(exposed("127.0.0.1:0", "off"), 0);
    assert_eq!(exposed("localhost:0", "[::1]:0"), 0);
    assert_eq!(exposed("0.0.0.0:0", "off"), 1);
    assert_eq!(exposed("[::]:0", "10.0.0.1:1"), 2);
}

#[test]
fn sizes_are_read_with_their_units() {
    let size = |text: &str| {
        let merged = merged(&["serve", "--memory-limit", text]).ok()?;
        let (_, serve) = merged.matches.subcommand()?;
        serve.get_one::<u64>("memory_limit").copied()
    };
    for (text, bytes) in
        [("0", 0), ("1073741824", 1 << 30), ("2GiB", 2 << 30), ("500MB", 500_000_000), ("3 MiB", 3 << 20)]
    {
        assert_eq!(size(text), Some(bytes), "{text}");
    }
    for text in ["", "GiB", "-1", "1.5GiB", "2G", "two", "99999999999GiB"] {
        assert_eq!(size(text), None, "{text}");
    }
}
