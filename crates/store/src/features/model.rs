//! One loaded model: its signature, and the way of a request from keys to rows to outputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;
use salver_core::{
    AsyncCall, AsyncModel, Batching, BoxFuture, DataType, Error, ErrorKind, FeaturesSpec, Instance, KeyType, Model,
    Placement, Result, Signature, Tensor, TensorSpec,
};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::answer::{self, Answer, Row};
use super::hash::Hashes;
use super::key::{Asked, Key};
use super::table::Table;
use super::{CountLookups, Lookup};

/// Values after which other requests of the same thread get their turn.
const VALUES_AT_A_TIME: usize = 4096;

/// Where the rows of a model are.
pub(super) enum Rows {
    Redis(Hashes),
    Postgres(Table),
}

impl Rows {
    /// Returns the row of each key, in their order.
    async fn fetch(&self, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        match self {
            Self::Redis(hashes) => hashes.fetch(keys).boxed().await,
            Self::Postgres(table) => table.fetch(keys).boxed().await,
        }
    }
}

/// A model that looks features up.
pub(super) struct FeaturesModel {
    signature: Signature,
    inner: Arc<Inner>,
}

struct Inner {
    model: Arc<str>,
    spec: Arc<FeaturesSpec>,
    rows: Rows,
    count: CountLookups,
    /// Whether the store did not answer the last time.
    is_away: AtomicBool,
}

impl FeaturesModel {
    pub(super) fn new(model: Arc<str>, spec: Arc<FeaturesSpec>, rows: Rows, count: CountLookups) -> Self {
        Self {
            signature: signature(&spec),
            inner: Arc::new(Inner { model, spec, rows, count, is_away: AtomicBool::new(false) }),
        }
    }
}

fn signature(spec: &FeaturesSpec) -> Signature {
    let dtype = match spec.key_type {
        KeyType::Int64 => DataType::Int64,
        KeyType::Text => DataType::Bytes,
    };
    let inputs = vec![TensorSpec::new(spec.key.clone(), dtype, &[-1, 1])];
    let size = |size| i64::try_from(size).unwrap_or(i64::MAX);
    let output = |(name, dtype, values): (Arc<str>, DataType, usize)| TensorSpec::new(name, dtype, &[-1, size(values)]);
    let outputs: Vec<_> = answer::outputs(spec).into_iter().map(output).collect();
    let batching = Batching::of(&inputs, &outputs);
    Signature { inputs, outputs, batching }
}

impl Model for FeaturesModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn memory_bytes(&self) -> u64 {
        // The names of the features, and what surrounds them.
        (size_of::<Self>() + self.inner.spec.features.len() * 256) as u64
    }

    fn asynchronous(&self) -> Option<Arc<dyn AsyncModel>> {
        Some(self.inner.clone())
    }

    fn instance(&self, _: &Placement) -> Result<Box<dyn Instance>> {
        Err(Error::unsupported("a model that looks features up has no instances: its work is waiting"))
    }
}

impl AsyncModel for Inner {
    fn run<'a>(&'a self, call: AsyncCall<'a>) -> BoxFuture<'a, Result<Vec<Tensor>>> {
        self.look_up(call.inputs)
            .map(|done| done.map_err(|error| error.context(format_args!("model '{}'", self.model))))
            .boxed()
    }

    fn max_in_flight(&self) -> usize {
        self.spec.max_in_flight
    }
}

impl Inner {
    async fn look_up(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let Some(keys) = inputs.first() else {
            return Err(Error::invalid_input(format!("input '{}' is missing", self.spec.key)));
        };
        let asked = Asked::new(keys, self.spec.key_type)?;
        let rows = asked.key_of_row.len();
        let mut answer = Answer::new(&self.spec, rows)?;
        let mut counting = Counting { count: &self.count, rows, found: None };
        let fetched = timeout(self.spec.timeout, self.rows.fetch(&asked.keys)).await;
        let fetched = fetched.unwrap_or_else(|_| Err(self.too_slow()));
        self.note(&fetched);
        let fetched = match fetched {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                counting.rows = 0;
                return Err(error);
            }
            fetched => fetched?,
        };
        let rows_at_a_time = (VALUES_AT_A_TIME / answer::width(&self.spec).max(1)).max(1);
        for (row_idx, &key_idx) in asked.key_of_row.iter().enumerate() {
            if row_idx % rows_at_a_time == rows_at_a_time - 1 {
                yield_now().await;
            }
            answer.push(&asked.keys[key_idx], fetched[key_idx].as_ref())?;
        }
        counting.found = Some(answer.n_found());
        answer.finish()
    }

    /// Logs when the store goes and when it is back, not each request between.
    fn note<T>(&self, fetched: &Result<T>) {
        let away =
            fetched.as_ref().err().filter(|error| matches!(error.kind(), ErrorKind::NotReady | ErrorKind::Deadline));
        if self.is_away.swap(away.is_some(), Ordering::Relaxed) == away.is_some() {
            return;
        }
        match away {
            Some(error) => tracing::warn!(model = &*self.model, ?error, "the feature store does not answer"),
            None => tracing::info!(model = &*self.model, store = &*self.spec.store, "the feature store answers again"),
        }
    }

    fn too_slow(&self) -> Error {
        let (store, limit) = (&self.spec.store, self.spec.timeout.as_millis());
        Error::new(ErrorKind::Deadline, format!("the feature store '{store}' did not answer within {limit} ms"))
    }
}

/// Counts the keys of a request when it ends, also where its caller has left.
struct Counting<'a> {
    count: &'a CountLookups,
    rows: usize,
    /// How many had a row; none: the request failed.
    found: Option<usize>,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        let counts = match self.found {
            None => [(Lookup::Failed, self.rows), (Lookup::Found, 0)],
            Some(found) => [(Lookup::Found, found), (Lookup::Missing, self.rows - found)],
        };
        for (result, rows) in counts.into_iter().filter(|(_, rows)| *rows > 0) {
            (self.count)(result, rows);
        }
    }
}
