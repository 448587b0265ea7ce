//! `[remote]`: a model that another server answers for.

mod amount;
mod headers;

use std::collections::BTreeMap;
use std::time::Duration;

use salver_core::{Prices, RemoteApi, RemoteSpec, RemoteTensors, TensorSpec};
use serde::Deserialize;
use toml::Spanned;

use self::amount::Amount;
use super::fault::Fault;
use super::number::Whole;
use super::schema::{File, Input, Output};
use super::{HTTP, batching, check_choice, check_new, python};

/// How other servers are spoken to.
const APIS: [&str; 3] = [CHAT, EMBEDDINGS, OIP];
const CHAT: &str = "openai-chat";
const EMBEDDINGS: &str = "openai-embeddings";
const OIP: &str = "oip-v2";

/// The longest name of a model or version there.
const MAX_NAME_BYTES: usize = 512;
/// The longest that may be said before every conversation.
const MAX_SYSTEM_BYTES: usize = 1 << 20;
/// Variables with this beginning are the server's own, and some of them are secrets.
const OWN_PREFIX: &str = "SALVER_";

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_CONCURRENCY: usize = 64;
const DEFAULT_IN_FLIGHT: usize = 1024;
const DEFAULT_RETRIES: u32 = 2;
const DEFAULT_ANSWER_MB: u32 = 64;

/// `[remote]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remote {
    /// How the server is spoken to.
    api: Spanned<String>,
    /// The address that paths go on from.
    url: Spanned<String>,
    /// The model's name there; none: its name here.
    model: Option<Spanned<String>>,
    /// The version there; of `oip-v2` only.
    version: Option<Spanned<String>>,
    /// The environment variable with the key.
    key_env: Option<Spanned<String>>,
    /// The longest that one attempt may take.
    timeout_ms: Option<Whole<1, 3_600_000>>,
    /// Calls at a time.
    max_concurrency: Option<Whole<1, 65_536>>,
    /// Requests that may wait or run.
    max_in_flight: Option<Whole<1, 1_000_000>>,
    /// Attempts after the first.
    retries: Option<Whole<0, 10>>,
    /// The most megabytes (MiB) of an answer.
    max_answer_mb: Option<Whole<1, 2048>>,
    /// The price of 1,000 tokens of questions.
    price_per_1k_input_tokens: Option<Spanned<Amount>>,
    /// The price of 1,000 tokens of answers.
    price_per_1k_output_tokens: Option<Spanned<Amount>>,
    /// The price of an answered call.
    price_per_call: Option<Spanned<Amount>>,
    /// The numbers of a vector; of `openai-embeddings` only.
    dimensions: Option<Spanned<Whole<1, 1_048_576>>>,
    /// What is said before every conversation; of `openai-chat` only.
    system: Option<Spanned<String>>,
    /// Fixed headers of each call.
    #[serde(default)]
    headers: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// Puts `[remote]` and the declared tensors together; none: the model is computed here.
pub(super) fn spec(file: &File) -> Result<Option<RemoteSpec>, Fault> {
    if !is_remote(file) {
        return match &file.remote {
            Some(table) => Err(Fault::invalid(table, format_args!("needs engine = \"{HTTP}\" at the top of the file"))),
            None => Ok(None),
        };
    }
    let Some(table) = &file.remote else {
        // The engine is named, or this would be no remote model.
        let place = file.engine.clone().unwrap_or_else(|| Spanned::new(0..0, String::new()));
        return Err(Fault::invalid(&place, "a remote model needs a table [remote] with api and url"));
    };
    check_alone(file, table)?;
    settings(table.get_ref(), api(table.get_ref(), file)?).map(Some)
}

/// Whether another server answers for the model: the engine is named, or nothing else could be meant.
pub(super) fn is_remote(file: &File) -> bool {
    file.engine.as_ref().map_or(file.remote.is_some(), |engine| engine.get_ref() == HTTP)
}

/// What belongs to models that are computed here has no place.
fn check_alone(file: &File, table: &Spanned<Remote>) -> Result<(), Fault> {
    if let Some(task) = &file.task {
        return Err(Fault::invalid(task, "has no place in a remote model, which takes and gives tensors"));
    }
    if file.artifact.is_some() {
        return Err(Fault::invalid(table, "stands beside artifact; a remote model has no file here, leave it out"));
    }
    if file.instances.is_some() {
        let message = "stands beside [instances]; calls at a time are max_concurrency in [remote]";
        return Err(Fault::invalid(table, message));
    }
    batching::check_absent(
        file.batching.as_ref(),
        "each request is a call; calls at a time are max_concurrency in [remote]",
    )
}

fn settings(table: &Remote, api: RemoteApi) -> Result<RemoteSpec, Fault> {
    let price = |amount: &Option<Spanned<Amount>>| amount.as_ref().map_or(Ok(Default::default()), amount::read);
    let megabytes = table.max_answer_mb.map_or(DEFAULT_ANSWER_MB, Whole::get);
    Ok(RemoteSpec {
        api,
        url: url(&table.url)?,
        model: table.model.as_ref().map(|model| text(model, MAX_NAME_BYTES)).transpose()?,
        key_env: table.key_env.as_ref().map(key_env).transpose()?,
        headers: headers::read(&table.headers)?,
        timeout: table.timeout_ms.map_or(DEFAULT_TIMEOUT, Whole::milliseconds),
        max_concurrency: table.max_concurrency.map_or(DEFAULT_CONCURRENCY, Whole::count),
        max_in_flight: table.max_in_flight.map_or(DEFAULT_IN_FLIGHT, Whole::count),
        retries: table.retries.map_or(DEFAULT_RETRIES, Whole::get),
        max_answer_bytes: usize::try_from(u64::from(megabytes) << 20).unwrap_or(usize::MAX),
        prices: Prices {
            per_1k_input_tokens: price(&table.price_per_1k_input_tokens)?,
            per_1k_output_tokens: price(&table.price_per_1k_output_tokens)?,
            per_call: price(&table.price_per_call)?,
        },
    })
}

/// Reads what only one of the interfaces has.
fn api(table: &Remote, file: &File) -> Result<RemoteApi, Fault> {
    check_choice(Some(&table.api), &APIS)?;
    let api = table.api.get_ref().as_str();
    let only = |of: &str| format!("belongs to api = \"{of}\", not to \"{api}\"; leave it out");
    if let Some(version) = table.version.as_ref().filter(|_| api != OIP) {
        return Err(Fault::invalid(version, only(OIP)));
    }
    if let Some(dimensions) = table.dimensions.as_ref().filter(|_| api != EMBEDDINGS) {
        return Err(Fault::invalid(dimensions, only(EMBEDDINGS)));
    }
    if let Some(system) = table.system.as_ref().filter(|_| api != CHAT) {
        return Err(Fault::invalid(system, only(CHAT)));
    }
    let declared = file.input.first().map(|input| &input.name).or(file.output.first().map(|output| &output.name));
    if let Some(name) = declared.filter(|_| api != OIP) {
        return Err(Fault::invalid(name, only(OIP)));
    }
    Ok(match api {
        CHAT => RemoteApi::OpenAiChat { system: table.system.as_ref().map(system).transpose()? },
        EMBEDDINGS => RemoteApi::OpenAiEmbeddings {
            dimensions: table.dimensions.as_ref().map(|dimensions| dimensions.get_ref().count()),
        },
        _ => RemoteApi::OipV2 {
            version: table.version.as_ref().map(|version| text(version, MAX_NAME_BYTES)).transpose()?,
            tensors: tensors(file)?,
        },
    })
}

/// Reads declared tensors: of both sides, or of none.
fn tensors(file: &File) -> Result<Option<RemoteTensors>, Fault> {
    let (input, output) = (file.input.first(), file.output.first());
    match (input, output) {
        (None, None) => Ok(None),
        (Some(alone), None) => Err(Fault::invalid(&alone.name, "needs an [[output]] beside it; declare both, or none")),
        (None, Some(alone)) => Err(Fault::invalid(&alone.name, "needs an [[input]] beside it; declare both, or none")),
        (Some(_), Some(_)) => Ok(Some(RemoteTensors {
            inputs: file.input.iter().map(input_spec).collect::<Result<_, _>>()?,
            outputs: outputs(&file.output)?,
        })),
    }
}

fn input_spec(input: &Input) -> Result<TensorSpec, Fault> {
    let (Some(dtype), Some(shape)) = (&input.dtype, &input.shape) else {
        return Err(Fault::invalid(&input.name, "needs dtype and shape beside it"));
    };
    let spec = python::tensor(&input.name, dtype, shape)?.spec;
    Ok(TensorSpec { optional: input.optional.as_ref().is_some_and(|optional| *optional.get_ref()), ..spec })
}

fn outputs(outputs: &[Output]) -> Result<Vec<TensorSpec>, Fault> {
    let mut names = Default::default();
    let spec = |output: &Output| {
        check_new(&output.name, &mut names)?;
        match (&output.dtype, &output.shape) {
            (Some(dtype), Some(shape)) => python::tensor(&output.name, dtype, shape).map(|tensor| tensor.spec),
            _ => Err(Fault::invalid(&output.name, "needs dtype and shape beside it")),
        }
    };
    outputs.iter().map(spec).collect()
}

/// What may be reached is decided where the model is loaded.
fn url(place: &Spanned<String>) -> Result<String, Fault> {
    let url = place.get_ref();
    let has_scheme = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    if !has_scheme || url.len() > 2048 || url.contains(|char: char| char.is_control() || char.is_whitespace()) {
        let got = clip(url);
        let message = format_args!("must be an address such as https://api.example.com/v1, got '{got}'");
        return Err(Fault::invalid(place, message));
    }
    Ok(url.clone())
}

fn text(place: &Spanned<String>, most: usize) -> Result<String, Fault> {
    let text = place.get_ref();
    if text.is_empty() || text.len() > most || text.contains(char::is_control) {
        let got = clip(text);
        return Err(Fault::invalid(place, format_args!("must be a text of 1 to {most} bytes, got '{got}'")));
    }
    Ok(text.clone())
}

fn system(place: &Spanned<String>) -> Result<String, Fault> {
    if place.get_ref().len() > MAX_SYSTEM_BYTES {
        return Err(Fault::invalid(place, format_args!("must be at most {MAX_SYSTEM_BYTES} bytes")));
    }
    Ok(place.get_ref().clone())
}

/// The server's own variables are not for others.
fn key_env(place: &Spanned<String>) -> Result<String, Fault> {
    let name = place.get_ref();
    if !python::is_variable(name) || name.len() > MAX_NAME_BYTES {
        let message = "must be the name of an environment variable such as OPENAI_API_KEY: letters, digits and '_', no \
                       digit first. The key itself has no place in this file";
        return Err(Fault::invalid(place, message));
    }
    if name.starts_with(OWN_PREFIX) {
        return Err(Fault::invalid(place, format_args!("begins with {OWN_PREFIX}, as the server's own variables do")));
    }
    Ok(name.clone())
}

fn clip(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}
