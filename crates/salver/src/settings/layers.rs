//! Lays flags over environment over file over defaults, and tells where each value came from.
//!
//! The file's values become the defaults of the very arguments that they are named after, so
//! clap alone decides who wins and one parser reads every layer. A file is checked on its own
//! first: an unknown key or a value that does not parse is reported with its line. An option whose
//! values are `NAME=…` may be a table there, under its name in the plural.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use serde::Serialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// The subcommands that take the server's settings.
const COMMANDS: [&str; 3] = ["serve", "worker", "config"];

/// Settings that are nothing but a secret; of others, the passwords in URLs are.
const SECRET: [&str; 1] = ["callback_secret"];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// The command line.
    Flag,
    /// This environment variable.
    Env(String),
    /// This file.
    File(PathBuf),
    /// Nobody set it.
    Default,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One setting with its merged value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    /// The name as in the configuration file.
    pub name: String,
    /// The values; several for a repeatable option, none where nothing is set.
    pub values: Vec<String>,
    /// Where they came from.
    pub source: Source,
}

/// The command line merged with the other layers.
pub(crate) struct Merged {
    /// What clap understood.
    pub matches: ArgMatches,
    /// The server's settings, if the command takes them.
    pub settings: Vec<Setting>,
}

/// Gives every long option of the server's settings its environment variable.
pub(crate) fn with_env_names(command: Command) -> Command {
    COMMANDS.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |sub| {
            sub.mut_args(|arg| match arg.get_long() {
                Some("help" | "json") | None => arg,
                Some(long) => {
                    let name = format!("SALVER_{}", long.replace('-', "_").to_uppercase());
                    arg.env(name).hide_env(true)
                }
            })
        })
    })
}

/// Parses `args` by `command`, with the values of the configuration file below them.
///
/// # Errors
/// A [`clap::Error`] for the command line (help and version included), else what is wrong with
/// the file and in which line.
pub(crate) fn merge(command: Command, args: &[OsString]) -> Result<Merged> {
    let first = command.clone().try_get_matches_from(args)?;
    let Some((name, sub)) = first.subcommand().filter(|(name, _)| COMMANDS.contains(name)) else {
        return Ok(Merged { matches: first, settings: Vec::new() });
    };
    let name = name.to_owned();
    let Some(path) = sub.get_one::<PathBuf>("config").cloned() else {
        let settings = explain(&command, &name, sub, None);
        return Ok(Merged { matches: first, settings });
    };
    let file = FileLayer::read(&path, &option_args(&command, &name))?;
    let matches = file.apply(command.clone(), &name).try_get_matches_from(args)?;
    let settings = match matches.subcommand() {
        Some((_, sub)) => explain(&command, &name, sub, Some(&file)),
        None => Vec::new(),
    };
    Ok(Merged { matches, settings })
}

/// The arguments of `salver NAME` that are settings.
fn option_args(command: &Command, name: &str) -> Vec<Arg> {
    let Some(sub) = command.find_subcommand(name) else {
        return Vec::new();
    };
    let is_setting = |arg: &&Arg| !matches!(arg.get_id().as_str(), "help" | "json");
    sub.get_arguments().filter(is_setting).cloned().collect()
}

fn explain(command: &Command, name: &str, matches: &ArgMatches, file: Option<&FileLayer>) -> Vec<Setting> {
    let describe = |arg: &Arg| {
        let id = arg.get_id().as_str();
        let raw = matches.get_raw(id).into_iter().flatten();
        let shown = |value: &OsStr| match SECRET.contains(&id) {
            true => "***".to_owned(),
            false => without_password(&value.to_string_lossy()),
        };
        let values = raw.map(shown).collect();
        let source = match (matches.value_source(id), file) {
            (Some(ValueSource::CommandLine), _) => Source::Flag,
            (Some(ValueSource::EnvVariable), _) => {
                Source::Env(arg.get_env().map(|env| env.to_string_lossy().into_owned()).unwrap_or_default())
            }
            (_, Some(file)) if file.values.contains_key(id) => Source::File(file.path.clone()),
            _ => Source::Default,
        };
        Setting { name: id.to_owned(), values, source }
    };
    option_args(command, name).iter().map(describe).collect()
}

/// Puts stars in the place of a URL's password; other text stays as it is.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    // PostgreSQL takes it among the parameters, too.
    if let Some((before, after)) = rest.split_once("password=").filter(|(before, _)| before.contains('?')) {
        let more = after.split_once('&').map(|(_, more)| format!("&{more}")).unwrap_or_default();
        return without_password(&format!("{scheme}://{before}")) + "password=***" + &more;
    }
    // The last `@`, since a password may hold one that is not escaped.
    match rest.rsplit_once('@') {
        Some((user, place)) => match user.split_once(':') {
            Some((name, _)) => format!("{scheme}://{name}:***@{place}"),
            None => format!("{scheme}://***@{place}"),
        },
        None => text.to_owned(),
    }
}

/// The values of a configuration file, as text, by option.
struct FileLayer {
    path: PathBuf,
    values: BTreeMap<String, Vec<String>>,
}

impl FileLayer {
    fn read(path: &Path, known: &[Arg]) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read the configuration file {} (--config)", path.display()))?;
        let values = parse(&text, known).with_context(|| format!("configuration file {}", path.display()))?;
        Ok(Self { path: path.to_owned(), values })
    }

    fn apply(&self, command: Command, name: &str) -> Command {
        command.mut_subcommand(name, |sub| {
            self.values.iter().fold(sub, |sub, (id, values)| sub.mut_arg(id, |arg| arg.default_values(values.clone())))
        })
    }
}

/// Reads and checks a file's text.
fn parse(text: &str, known: &[Arg]) -> Result<BTreeMap<String, Vec<String>>> {
    let table = DeTable::parse(text)?;
    let mut values = BTreeMap::new();
    for (key, value) in table.get_ref() {
        let line = line_of(text, key.span().start);
        let name: &str = key.get_ref();
        let Some(arg) = known.iter().find(|arg| key_of(arg) == name && name != "config") else {
            bail!("line {line}: unknown key `{name}`; the keys are {}", key_list(known));
        };
        let read = match value.get_ref() {
            DeValue::Table(pairs) if is_named(arg) => parse_pairs(text, name, pairs, arg)?,
            value => checked(arg, value).with_context(|| format!("line {line}: `{name}`"))?,
        };
        values.insert(arg.get_id().to_string(), read);
    }
    Ok(values)
}

/// Reads a table of names and values.
fn parse_pairs(text: &str, table: &str, pairs: &DeTable<'_>, arg: &Arg) -> Result<Vec<String>> {
    let pair = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
        let (line, name) = (line_of(text, name.span().start), name.get_ref());
        let DeValue::String(value) = value.get_ref() else {
            bail!("line {line}: `{table}.{name}`: expected a string, got {}", value.get_ref().type_str());
        };
        let pair = vec![format!("{name}={value}")];
        check(arg, &pair).with_context(|| format!("line {line}: `{table}.{name}`"))?;
        Ok(pair)
    };
    pairs.iter().map(pair).collect::<Result<Vec<_>>>().map(|pairs| pairs.concat())
}

fn checked(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<String>> {
    let read = texts(value)?;
    check(arg, &read)?;
    Ok(read)
}

/// Whether each value of an option has a name, as in `--endpoint NAME=MODEL`.
fn is_named(arg: &Arg) -> bool {
    arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.contains('=')))
}

/// Returns the key of an option in a file.
fn key_of(arg: &Arg) -> String {
    let id = arg.get_id().as_str();
    if is_named(arg) { format!("{id}s") } else { id.to_owned() }
}

fn key_list(known: &[Arg]) -> String {
    let names: Vec<String> = known.iter().map(key_of).filter(|name| name != "config").collect();
    names.join(", ")
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

/// The words that stand for a value on a command line.
fn texts(value: &DeValue<'_>) -> Result<Vec<String>> {
    let one = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Ok(number.to_string()),
            Err(_) => bail!("the number {} is too large", number.as_str()),
        },
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            bail!("expected a string, a whole number, a boolean or a list of strings, got {}", value.type_str())
        }
    };
    match value {
        DeValue::Array(items) => items.iter().map(|item| one(item.get_ref())).collect(),
        single => Ok(vec![one(single)?]),
    }
}

/// Lets the argument's own parser read the values.
fn check(arg: &Arg, values: &[String]) -> Result<()> {
    let alone = arg.clone().env(clap::builder::Resettable::Reset).default_values(Vec::<String>::new()).required(false);
    let words: Vec<String> = match arg.get_long() {
        Some(long) => values.iter().map(|value| format!("--{long}={value}")).collect(),
        None => std::iter::once("--".to_owned()).chain(values.iter().cloned()).collect(),
    };
    let parser = Command::new("file").no_binary_name(true).disable_help_flag(true).arg(alone);
    let Err(error) = parser.try_get_matches_from(words) else {
        return Ok(());
    };
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    bail!("{}", first.strip_prefix("error: ").unwrap_or(first))
}
