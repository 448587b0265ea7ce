//! The model and version that a path names.

use std::convert::Infallible;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use salver_core::{Error, ModelName, ModelRef, Result, Selector};

/// What a path says about the model, percent-decoded.
pub(crate) struct Target {
    model: Option<String>,
    version: Option<String>,
    is_utf8: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let params: Result<RawPathParams, RawPathParamsRejection> =
            RawPathParams::from_request_parts(parts, state).await;
        let mut target = Self { model: None, version: None, is_utf8: params.is_ok() };
        for (name, value) in params.iter().flatten() {
            match name {
                "model" => target.model = Some(value.to_owned()),
                "version" => target.version = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(target)
    }
}

/// The one thing that a path names, percent-decoded; where it is no UTF-8, a character that nothing is named by.
pub(crate) struct Named(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let params: Result<RawPathParams, RawPathParamsRejection> =
            RawPathParams::from_request_parts(parts, state).await;
        let Ok(params) = params else { return Ok(Self(char::REPLACEMENT_CHARACTER.to_string())) };
        let last = params.iter().last().map(|(_, value)| value.to_owned());
        Ok(Self(last.unwrap_or_default()))
    }
}

impl Target {
    /// Takes a name that needs no decoding and is all there is between two slashes.
    pub(crate) fn plain(model: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+');
        let fits = !model.is_empty() && model.bytes().all(is_plain);
        fits.then(|| Self { model: Some(model.to_owned()), version: None, is_utf8: true })
    }

    /// Returns the model's name.
    ///
    /// # Errors
    /// `InvalidInput` for a name that no model can have.
    pub(crate) fn name(&self) -> Result<ModelName> {
        if !self.is_utf8 {
            return Err(Error::invalid_input("the model name in the path is not UTF-8 once percent-decoded"));
        }
        ModelName::new(self.model.as_deref().unwrap_or_default())
    }

    /// Returns the model and version.
    ///
    /// # Errors
    /// `InvalidInput` for a name or version that none can have; `NotFound` for a version that is
    /// not written in digits, which is no route.
    pub(crate) fn model_ref(&self) -> Result<ModelRef> {
        let name = self.name()?;
        let Some(version) = &self.version else {
            return Ok(ModelRef::latest(name));
        };
        if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::not_found(format!("a version of model '{name}' is written in decimal digits only")));
        }
        match version.parse::<i64>() {
            Ok(number) => Ok(ModelRef::version(name, number.unsigned_abs())),
            Err(_) => Err(Error::invalid_input(format!("the version of model '{name}' does not fit 63 bits"))),
        }
    }

    /// Returns the model and version, where the name may be `NAME@ALIAS`.
    ///
    /// # Errors
    /// As [`Target::model_ref`].
    pub(crate) fn model_or_alias(&self) -> Result<ModelRef> {
        match self.model.as_deref().and_then(|model| model.split_once('@')) {
            Some((name, alias)) if self.version.is_none() => {
                let alias = ModelName::new(alias).map_err(|error| error.context("alias"))?;
                Ok(ModelRef { name: ModelName::new(name)?, selector: Selector::Label(alias.to_string()) })
            }
            _ => self.model_ref(),
        }
    }
}
