//! TF Serving and KServe v1 under `/v1`, whose paths hold verbs (`NAME:predict`) and match in any
//! case, so that they are taken apart here instead of by the router.
//!
//! OpenAI's clients ask for models under the same two paths. The answers are the union of what both
//! look at: no key means two things.

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::{Method, Request, Response};
use percent_encoding::percent_decode_str;
use salver_core::{
    Error, ErrorKind, InferRequest, InferResponse, ModelName, ModelRef, ModelState, ModelStatus, Result, Selector,
    Tensor,
};
use salver_protocol::tfserving::{self, Form};
use salver_protocol::{Reply, openai};

use super::AppState;
use super::exchange::{self, plain_response, reply_or};
use crate::answer::{Protocol, text_work};
use crate::app::App;

/// A path under `/v1`, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Route<'a> {
    /// Still percent-encoded.
    name: &'a str,
    version: Option<Version<'a>>,
    action: Action,
}

#[derive(Debug, PartialEq, Eq)]
enum Version<'a> {
    Number(&'a str),
    Label(&'a str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Status,
    Metadata,
    Predict,
    Classify,
    Regress,
    Explain,
}

/// Whether `/v1/models…` is meant, in any case.
pub(super) fn is_path(path: &str) -> bool {
    let mut segments = path.split('/').skip(1);
    segments.next().is_some_and(|first| first.eq_ignore_ascii_case("v1"))
}

/// Answers whatever comes under `/v1`.
pub(super) async fn dispatch(State(app): AppState, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let (method, reads) = (request.method().clone(), matches!(*request.method(), Method::GET | Method::HEAD));
    if reads && is_model_list(&path) {
        return plain_response(openai::model_list(&app.model_names(), app.started));
    }
    let Some(route) = Route::parse(&path) else {
        return malformed(&method, &path);
    };
    match route.action {
        Action::Status if reads => reply_or(status(&app, &route), tfserving::encode_error),
        Action::Metadata if reads => reply_or(metadata(&app, &route).await, tfserving::encode_error),
        Action::Predict if method == Method::POST => {
            let target = route.model_ref();
            exchange::infer(&app, request, |_| Ok(Predict { target: target?, form: Form::Row })).await
        }
        Action::Classify | Action::Regress if method == Method::POST => {
            let (target, method) = (route.model_ref(), route.action.method());
            exchange::infer(&app, request, |_| Ok(OfExamples { target: target?, method, n_examples: 0 })).await
        }
        Action::Explain if method == Method::POST => {
            let error = Error::unsupported("':explain' is not offered; ':predict', ':classify' and ':regress' are");
            plain_response(tfserving::encode_error(&error))
        }
        _ => malformed(&method, &path),
    }
}

fn malformed(method: &Method, path: &str) -> Response<Body> {
    let shown: String = path.chars().take(200).collect();
    plain_response(tfserving::malformed(method.as_str(), &shown))
}

fn is_model_list(path: &str) -> bool {
    path.trim_end_matches('/').eq_ignore_ascii_case("/v1/models")
}

impl<'a> Route<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        let (path, verb) = match path.rsplit_once(':') {
            Some((path, verb)) => (path, Some(verb)),
            None => (path, None),
        };
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let (name, rest) = match segments.as_slice() {
            [v1, models, name, rest @ ..] if is(v1, "v1") && is(models, "models") && !name.is_empty() => (*name, rest),
            _ => return None,
        };
        let (version, rest) = match rest {
            [kind, number, rest @ ..] if is(kind, "versions") && is_number(number) => {
                (Some(Version::Number(number)), rest)
            }
            [kind, label, rest @ ..] if is(kind, "labels") && !label.is_empty() => (Some(Version::Label(label)), rest),
            rest => (None, rest),
        };
        let action = match (rest, verb) {
            ([], None) => Action::Status,
            ([last], None) if is(last, "metadata") => Action::Metadata,
            ([], Some(verb)) => Action::of_verb(verb)?,
            _ => return None,
        };
        (!name.contains(':')).then_some(Self { name, version, action })
    }

    fn name(&self) -> Result<ModelName> {
        ModelName::new(&decoded(self.name)?)
    }

    fn model_ref(&self) -> Result<ModelRef> {
        let name = self.name()?;
        let selector = match self.version {
            None => Selector::Latest,
            Some(Version::Number(digits)) => Selector::Version(digits.parse::<i64>().map_or_else(
                |_| Err(Error::invalid_input(format!("the version of model '{name}' does not fit 63 bits"))),
                |number| Ok(number.unsigned_abs()),
            )?),
            Some(Version::Label(label)) => Selector::Label(decoded(label)?),
        };
        Ok(ModelRef { name, selector })
    }
}

impl Action {
    fn method(self) -> tfserving::Method {
        if self == Self::Classify { tfserving::Method::Classify } else { tfserving::Method::Regress }
    }

    fn of_verb(verb: &str) -> Option<Self> {
        [
            ("predict", Self::Predict),
            ("classify", Self::Classify),
            ("regress", Self::Regress),
            ("explain", Self::Explain),
        ]
        .into_iter()
        .find_map(|(known, action)| is(verb, known).then_some(action))
    }
}

fn is(segment: &str, word: &str) -> bool {
    segment.eq_ignore_ascii_case(word)
}

fn is_number(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
}

fn decoded(segment: &str) -> Result<String> {
    percent_decode_str(segment)
        .decode_utf8()
        .map(String::from)
        .map_err(|_| Error::invalid_input("the path is not UTF-8 once percent-decoded"))
}

/// Says it in TF Serving's words, which its clients know.
pub(crate) fn not_found(model: &ModelRef, error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound { tfserving::servable_not_found(model) } else { error }
}

struct Predict {
    target: ModelRef,
    form: Form,
}

impl Protocol for Predict {
    type Raw = Bytes;
    type Reply = Reply;
    type Refusal = Reply;

    fn decode_work(&self, raw: &Bytes) -> usize {
        text_work(raw.len())
    }

    fn described(&self) -> Option<&ModelRef> {
        Some(&self.target)
    }

    fn decode(&mut self, raw: Bytes, app: &App) -> Result<InferRequest> {
        let info = app.services.infer.describe(&self.target).map_err(|error| not_found(&self.target, error))?;
        let (request, form) = tfserving::decode_predict(&raw, self.target.clone(), &info, app.protocol_limits())?;
        self.form = form;
        Ok(request)
    }

    fn encode(&self, response: &InferResponse) -> Result<Reply> {
        tfserving::encode_predict(response, self.form)
    }

    fn encode_error(error: &Error) -> Reply {
        tfserving::encode_error(error)
    }
}

/// `:classify` and `:regress`.
struct OfExamples {
    target: ModelRef,
    method: tfserving::Method,
    n_examples: usize,
}

impl Protocol for OfExamples {
    type Raw = Bytes;
    type Reply = Reply;
    type Refusal = Reply;

    fn decode_work(&self, raw: &Bytes) -> usize {
        text_work(raw.len())
    }

    fn described(&self) -> Option<&ModelRef> {
        Some(&self.target)
    }

    fn decode(&mut self, raw: Bytes, app: &App) -> Result<InferRequest> {
        let info = app.services.infer.describe(&self.target).map_err(|error| not_found(&self.target, error))?;
        let request = tfserving::decode_examples(&raw, self.method, self.target.clone(), &info, app.protocol_limits())?;
        self.n_examples = request.inputs.first().map_or(0, Tensor::rows);
        Ok(request)
    }

    fn encode(&self, response: &InferResponse) -> Result<Reply> {
        tfserving::encode_results(response, self.method, self.n_examples)
    }

    fn encode_error(error: &Error) -> Reply {
        tfserving::encode_error(error)
    }
}

async fn metadata(app: &App, route: &Route<'_>) -> Result<Reply> {
    let model = route.model_ref()?;
    let info = app.describe(&model).await.map_err(|error| not_found(&model, error))?;
    Ok(tfserving::metadata(&info))
}

fn status(app: &App, route: &Route<'_>) -> Result<Reply> {
    let model = route.model_ref()?;
    let versions = versions(app, &model)?;
    let ready = versions.iter().any(|status: &ModelStatus| status.state == Some(ModelState::Ready));
    Ok(tfserving::status(&model.name, &versions, ready, app.started))
}

/// Returns the status of the versions that `model` means: of all, where it names none.
///
/// # Errors
/// `NotFound` where there is none.
pub(crate) fn versions(app: &App, model: &ModelRef) -> Result<Vec<ModelStatus>> {
    let mut versions = app.services.control.index();
    versions.retain(|status| *status.name == *model.name);
    if let Selector::Version(wanted) = model.selector {
        versions.retain(|status| status.version == Some(wanted));
    } else if let Selector::Label(_) = model.selector {
        let info = app.services.infer.describe(model).map_err(|error| not_found(model, error))?;
        versions.retain(|status| status.version == Some(info.version));
    }
    if versions.is_empty() { Err(not_found(model, Error::not_found(""))) } else { Ok(versions) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: &str) {
        let parsed = match Route::parse(path) {
            None => "malformed".to_owned(),
            Some(Route { name, version: None, action }) => format!("{name} {action:?}"),
            Some(Route { name, version: Some(version), action }) => format!("{name} {version:?} {action:?}"),
        };
        assert_eq!(parsed, expected, "{path}");
    }

    #[test]
    fn paths_are_taken_apart_in_any_case() {
        check("/v1/models/iris", "iris Status");
        check("/V1/Models/Iris:PREDICT", "Iris Predict");
        check("/v1/models/iris/metadata", "iris Metadata");
        check("/v1/models/iris/versions/2", "iris Number(\"2\") Status");
        check("/v1/models/iris/versions/02:predict", "iris Number(\"02\") Predict");
        check("/v1/models/iris/labels/stable:predict", "iris Label(\"stable\") Predict");
        check("/v1/models/iris/versions/2/metadata", "iris Number(\"2\") Metadata");
        check("/v1/models/iris:explain", "iris Explain");
    }

    #[test]
    fn other_paths_are_malformed() {
        for path in [
            "/v1",
            "/v1/",
            "/v1/models/",
            "/v1/models/:predict",
            "/v1/models/iris:unknown",
            "/v1/models/iris/versions/x:predict",
            "/v1/models/iris/versions/:predict",
            "/v1/models/iris/versions/1/labels/a:predict",
            "/v1/models/iris/metadata:predict",
            "/v1/models/a:b:predict",
            "/v1/models/iris/",
        ] {
            check(path, "malformed");
        }
    }

    #[test]
    fn a_name_is_decoded_before_it_is_checked() {
        let name = |path| Route::parse(path).unwrap().name();
        assert_eq!(&*name("/v1/models/a%2Bb").unwrap(), "a+b");
        for bad in ["/v1/models/a%2Fb", "/v1/models/%2e%2e", "/v1/models/%ff"] {
            assert!(name(bad).is_err(), "{bad}");
        }
        let huge = "/v1/models/iris/versions/99999999999999999999";
        assert_eq!(Route::parse(huge).unwrap().model_ref().unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
