//! The JSON files of an export, as far as they matter here. Keys that are not known are passed
//! over: every release of the library adds some.

use std::collections::BTreeMap;

use salver_core::{Error, Result};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// Everything that is read of a folder.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    pub(super) config: Config,
    /// The parts of a model of sentence-transformers.
    pub(super) modules: Option<Vec<Module>>,
    /// The configuration of its pooling.
    pub(super) pooling: Option<PoolingConfig>,
    pub(super) sentence: SentenceConfig,
    pub(super) prompts: Prompts,
    pub(super) tokenizer: TokenizerConfig,
    pub(super) preprocessor: Option<Preprocessor>,
}

impl Folder {
    /// Reads the files that are there; `read` returns the text of one.
    ///
    /// # Errors
    /// `InvalidInput` naming the file that cannot be read.
    pub(crate) fn read(mut read: impl FnMut(&str) -> Result<Option<String>>) -> Result<Self> {
        let config = parsed(&mut read, super::MANIFEST)?.unwrap_or_default();
        let modules: Option<Vec<Module>> = parsed(&mut read, "modules.json")?;
        let folder = modules.iter().flatten().find(|module| module.kind() == "Pooling").map(|module| &module.path);
        let pooling = match folder {
            Some(folder) => parsed(&mut read, &format!("{folder}/config.json"))?,
            None => None,
        };
        Ok(Self {
            config,
            modules,
            pooling,
            sentence: parsed(&mut read, "sentence_bert_config.json")?.unwrap_or_default(),
            prompts: parsed(&mut read, "config_sentence_transformers.json")?.unwrap_or_default(),
            tokenizer: parsed(&mut read, "tokenizer_config.json")?.unwrap_or_default(),
            preprocessor: parsed(&mut read, "preprocessor_config.json")?,
        })
    }

    /// Whether `config.json` is one of Hugging Face's: the name is a common one.
    pub(super) fn is_hugging_face(&self) -> bool {
        self.modules.is_some() || self.config.architectures.is_some() || self.config.model_type.is_some()
    }
}

fn parsed<T: DeserializeOwned>(read: &mut impl FnMut(&str) -> Result<Option<String>>, name: &str) -> Result<Option<T>> {
    let Some(text) = read(name)? else {
        return Ok(None);
    };
    let wrong = |error: serde_json::Error| Error::invalid_input(format!("{}: {error}", name.escape_debug()));
    serde_json::from_str(&text).map(Some).map_err(wrong)
}

/// A value of the expected type, or one of another that is passed over.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Loose<T> {
    Value(T),
    Other(IgnoredAny),
}

impl<T> Loose<T> {
    pub(super) fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Other(_) => None,
        }
    }
}

/// `config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) architectures: Option<Vec<String>>,
    pub(super) model_type: Option<String>,
    pub(super) id2label: Option<BTreeMap<String, String>>,
    pub(super) num_labels: Option<u64>,
    pub(super) problem_type: Option<String>,
    pub(super) max_position_embeddings: Option<Loose<f64>>,
    pub(super) pad_token_id: Option<Loose<f64>>,
}

/// One of `modules.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Module {
    /// Its folder; empty: the model's.
    #[serde(default)]
    pub(super) path: String,
    /// A class of Python's, with its module.
    #[serde(rename = "type")]
    class: String,
}

impl Module {
    pub(super) fn kind(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or_default()
    }
}

/// The `config.json` of a module `Pooling`: one of these is true, or newer ones name it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PoolingConfig {
    pub(super) pooling_mode: Option<Loose<String>>,
    pub(super) pooling_mode_cls_token: bool,
    pub(super) pooling_mode_mean_tokens: bool,
    pub(super) pooling_mode_max_tokens: bool,
    pub(super) pooling_mode_lasttoken: bool,
    pub(super) pooling_mode_mean_sqrt_len_tokens: bool,
    pub(super) pooling_mode_weightedmean_tokens: bool,
}

/// `sentence_bert_config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SentenceConfig {
    pub(super) max_seq_length: Option<f64>,
    pub(super) do_lower_case: Option<bool>,
}

/// `config_sentence_transformers.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Prompts {
    pub(super) default_prompt_name: Option<String>,
}

/// `tokenizer_config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenizerConfig {
    pub(super) model_max_length: Option<Loose<f64>>,
    pub(super) do_lower_case: Option<Loose<bool>>,
}

/// `preprocessor_config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Preprocessor {
    pub(super) image_processor_type: Option<String>,
    pub(super) feature_extractor_type: Option<String>,
    pub(super) do_resize: Option<bool>,
    pub(super) size: Option<Size>,
    pub(super) resample: Option<u32>,
    pub(super) crop_pct: Option<f64>,
    pub(super) do_center_crop: Option<bool>,
    pub(super) crop_size: Option<Size>,
    pub(super) do_rescale: Option<bool>,
    pub(super) rescale_factor: Option<f64>,
    pub(super) rescale_offset: Option<bool>,
    pub(super) do_normalize: Option<bool>,
    pub(super) image_mean: Option<Channels>,
    pub(super) image_std: Option<Channels>,
    pub(super) do_flip_channel_order: Option<bool>,
    pub(super) do_pad: Option<bool>,
}

/// A size: older files have a number, newer ones say which sides are meant.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected a number, or shortest_edge, or height and width")]
pub(super) enum Size {
    Number(u32),
    Sides {
        #[serde(default)]
        shortest_edge: Option<u32>,
        #[serde(default)]
        longest_edge: Option<u32>,
        #[serde(default)]
        height: Option<u32>,
        #[serde(default)]
        width: Option<u32>,
    },
}

/// Numbers for each channel, or one for all.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a number or a list of numbers")]
pub(super) enum Channels {
    One(f64),
    Each(Vec<f64>),
}
