//! One closed list of what can go wrong, and what a caller may do about each.
//!
//! A crate's own error enum stays inside it and converts to [`Error`] at its border. How a kind
//! looks on a wire beyond its status number is each protocol's business.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Cost;

/// The result of most calls between parts.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller may act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request contradicts the model's signature or its own protocol.
    InvalidInput,
    /// A stated limit was exceeded.
    TooLarge,
    /// No valid credentials came along.
    Unauthenticated,
    /// The credentials do not allow this.
    Forbidden,
    /// No such model, version, label or resource.
    NotFound,
    /// The resource changed or exists already.
    Conflict,
    /// A bounded queue is full; try again later.
    Overloaded,
    /// The model or server is not serving at the moment.
    NotReady,
    /// The deadline passed before an answer was there.
    Deadline,
    /// The caller went away.
    Cancelled,
    /// A feature that this build, engine or mode does not offer.
    Unsupported,
    /// The engine failed on a request that passed every check.
    Engine,
    /// The resource existed and has expired.
    Gone,
    /// No room left on a disk or in a quota.
    Full,
}

impl ErrorKind {
    /// Returns the HTTP status of this kind.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidInput => 400,
            Self::TooLarge => 413,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Overloaded => 429,
            Self::NotReady => 503,
            Self::Deadline => 504,
            Self::Cancelled => 499,
            Self::Unsupported => 501,
            Self::Engine => 500,
            Self::Gone => 410,
            Self::Full => 507,
        }
    }

    /// Returns the gRPC status code of this kind, as the number on the wire.
    pub const fn grpc_code(self) -> i32 {
        match self {
            Self::Cancelled => 1,
            Self::InvalidInput => 3,
            Self::Deadline => 4,
            Self::NotFound | Self::Gone => 5,
            Self::Forbidden => 7,
            Self::TooLarge | Self::Overloaded | Self::Full => 8,
            Self::Conflict => 10,
            Self::Unsupported => 12,
            Self::Engine => 13,
            Self::NotReady => 14,
            Self::Unauthenticated => 16,
        }
    }

    /// Whether the same request may succeed later without a change.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Overloaded | Self::NotReady)
    }
}

/// What was wrong, where, and what was expected.
///
/// Cheap to clone: one failed batch answers many callers.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    is_of_lost_batch: bool,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    cost: Option<Cost>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Makes an error of `kind`; `message` names what was wrong, where, and what was expected.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, is_of_lost_batch: false, message: message.into(), retry_after: None, cost: None, source: None }
    }

    /// Makes an [`ErrorKind::InvalidInput`].
    pub fn invalid_input(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// Makes an [`ErrorKind::TooLarge`].
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::TooLarge, message)
    }

    /// Makes an [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Makes an [`ErrorKind::NotReady`].
    pub fn not_ready(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::NotReady, message)
    }

    /// Makes an [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Makes an [`ErrorKind::Engine`].
    pub fn engine(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Engine, message)
    }

    /// Attaches the cause, for the log; clients never see it.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Attaches how long the caller should wait before trying again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Notes that the engine was lost under several requests, of which this one may have done nothing wrong.
    #[must_use]
    pub fn of_lost_batch(mut self) -> Self {
        self.is_of_lost_batch = true;
        self
    }

    /// Puts `context` and a colon before the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message).into();
        self
    }

    /// Makes this another kind of error: what was said stands.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Notes what others charged for the request nevertheless.
    #[must_use]
    pub fn with_cost(mut self, cost: Option<Cost>) -> Self {
        self.cost = cost;
        self
    }

    /// Returns the kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the message that a client may see.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the engine was lost under this request and others: it is not known whose fault that is.
    pub fn is_of_lost_batch(&self) -> bool {
        self.is_of_lost_batch
    }

    /// Returns what others charged for the request, if anybody did.
    pub fn cost(&self) -> Option<Cost> {
        self.cost
    }

    /// Returns how long to wait before another try, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        if let Some(source) = &self.source {
            write!(f, " (cause: {source})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}
