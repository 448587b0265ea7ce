//! Models whose work is waiting: for another machine, for a database, for other models.

use futures::future::BoxFuture;

use crate::{Context, Parameters, Result, Tensor};

/// Answers requests without a thread of its own: thousands may be in flight at a time.
///
/// Such a model has no instances, and its requests do not share batches here.
pub trait AsyncModel: Send + Sync {
    /// Answers one request. Dropping the future cancels it; what was charged by then is on the
    /// context's [`Bill`](crate::Bill), which is always there. The context's deadline bounds the whole
    /// call, its class says how calls that follow from it compete.
    ///
    /// # Errors
    /// `InvalidInput` where the data itself is at fault, `Overloaded` and `NotReady` where another try
    /// may succeed, `Deadline`, else `Engine`.
    fn run<'a>(&'a self, call: AsyncCall<'a>) -> BoxFuture<'a, Result<Vec<Tensor>>>;

    /// Returns the most requests that may wait or run; more are refused.
    fn max_in_flight(&self) -> usize;
}

/// One request to an [`AsyncModel`].
#[derive(Debug)]
pub struct AsyncCall<'a> {
    /// The inputs: checked against the signature and in its order. Optional ones may be missing.
    pub inputs: Vec<Tensor>,
    /// The request's parameters.
    pub parameters: &'a Parameters,
    /// Its circumstances.
    pub ctx: &'a Context,
}
