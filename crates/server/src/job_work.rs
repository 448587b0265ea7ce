//! What jobs ask, and how it is answered: the bodies that the routes of predictions take, decoded
//! when they come in, so that a bad one is refused at once, and again when a worker has them.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use salver_core::{BoxFuture, Class, Context, Error, Infer, InferRequest, InferResponse, ModelRef, Result};
use salver_jobs::{Answer, Content, Done, Form, Lease, Work};
use salver_protocol::oip_rest::{self, ReplyOptions};
use salver_protocol::{Limits, Reply, plain};

use crate::answer::OFFLOAD_BYTES;
use crate::coding::offload;

/// The most requests of one job.
const MOST_REQUESTS: usize = 100_000;
/// Requests of one job that are worked on at the same time.
const AT_A_TIME: usize = 16;
/// The media type of several answers.
const LINES: &str = "application/x-ndjson";

/// Decodes, infers and encodes for jobs.
#[derive(Clone)]
pub struct JobWork {
    infer: Arc<dyn Infer>,
    limits: Limits,
}

/// How a reply is to be written.
enum Reader {
    Plain,
    Oip(Box<ReplyOptions>),
}

impl JobWork {
    /// Asks `infer`, and takes what is within `limits`.
    pub fn new(infer: Arc<dyn Infer>, limits: Limits) -> Self {
        Self { infer, limits }
    }

    /// Returns how many requests a job is, all of which can be read.
    ///
    /// # Errors
    /// Those of the models and protocols: an unknown model, a body that does not fit it.
    pub async fn check(&self, model: &ModelRef, content: &Content, deadline: Instant) -> Result<u64> {
        self.wake(model, Some(deadline)).await?;
        self.infer.describe(model)?;
        if self.infer.is_decoupled(model) {
            return Err(Error::unsupported(format!(
                "model '{model}' may answer a request several times, which jobs do not take; use ModelStreamInfer"
            )));
        }
        let content_len = content.body.len();
        let (work, model, content) = (self.clone(), model.clone(), content.clone());
        let check = move || {
            let bodies = bodies(&content)?;
            for (idx, body) in bodies.iter().enumerate() {
                work.read(&model, &content, body.clone()).map_err(|error| at_line(&content, idx, error))?;
            }
            Ok(bodies.len() as u64)
        };
        if content_len < OFFLOAD_BYTES { check() } else { offload(check).await? }
    }

    async fn wake(&self, model: &ModelRef, deadline: Option<Instant>) -> Result<()> {
        match self.infer.wake(model, deadline) {
            Some(wake) => wake.await,
            None => Ok(()),
        }
    }

    fn read(&self, model: &ModelRef, content: &Content, body: Bytes) -> Result<(InferRequest, Reader)> {
        match content.form {
            Form::Plain | Form::PlainLines => {
                let info = self.infer.describe(model)?;
                // Lines are JSON, whatever the whole is called.
                let media = content.content_type.as_deref().filter(|_| content.form == Form::Plain);
                Ok((plain::decode_predict(body, media, model.clone(), &info, &self.limits)?, Reader::Plain))
            }
            Form::Oip | Form::OipLines => {
                let header_len = content.header_len.and_then(|len| usize::try_from(len).ok());
                let describe = || self.infer.describe(model);
                let (request, options) =
                    oip_rest::decode_infer(body, header_len, model.clone(), describe, &self.limits)?;
                if !options.shared.is_empty() {
                    return Err(Error::unsupported("a job outlives its client's shared memory; send tensors as data"));
                }
                Ok((request, Reader::Oip(Box::new(options))))
            }
        }
    }

    async fn answer_one(&self, lease: &Lease, body: Bytes, deadline: Instant) -> Result<Reply> {
        let (work, model, content) = (self.clone(), lease.model.clone(), lease.content.clone());
        let (request, reader) = match body.len() < OFFLOAD_BYTES {
            true => self.read(&model, &content, body)?,
            false => offload(move || work.read(&model, &content, body)).await??,
        };
        let ctx = Context {
            deadline: Some(deadline),
            class: Class::Background,
            ..Context::new(format!("job-{}", lease.hold.id))
        };
        let response = self.infer.infer(request, ctx).await?;
        reader.write(&response)
    }
}

impl Reader {
    fn write(&self, response: &InferResponse) -> Result<Reply> {
        match self {
            Self::Plain => plain::encode_predict(response),
            Self::Oip(options) => oip_rest::encode_infer(response, options),
        }
    }
}

impl Work for JobWork {
    fn run<'a>(&'a self, lease: &'a Lease, done: &'a Done) -> BoxFuture<'a, Result<Answer>> {
        Box::pin(async move {
            let deadline = Instant::now() + lease.time_limit;
            self.wake(&lease.model, Some(deadline)).await?;
            let bodies = bodies(&lease.content)?;
            let one = |(idx, body): (usize, Bytes)| async move {
                let reply = self.answer_one(lease, body, deadline).await;
                let reply = reply.map_err(|error| at_line(&lease.content, idx, error))?;
                done.add();
                Ok::<_, Error>(reply)
            };
            let mut replies = stream::iter(bodies.into_iter().enumerate()).map(one).buffered(AT_A_TIME);
            match lease.content.form {
                Form::Plain | Form::Oip => {
                    let reply = replies.try_next().await?.ok_or_else(|| Error::engine("a job without a request"))?;
                    let header_len = reply.inference_header_len.map(|len| len as u64);
                    Ok(Answer { content_type: reply.content_type.to_owned(), header_len, body: reply.body })
                }
                Form::PlainLines | Form::OipLines => {
                    let mut lines = BytesMut::new();
                    while let Some(reply) = replies.try_next().await? {
                        if reply.inference_header_len.is_some() {
                            return Err(Error::invalid_input("outputs as bytes have no place on a line; ask for JSON"));
                        }
                        lines.extend_from_slice(&reply.body);
                        lines.extend_from_slice(b"\n");
                    }
                    Ok(Answer { content_type: LINES.to_owned(), header_len: None, body: lines.freeze() })
                }
            }
        })
    }
}

/// Returns the bodies of all requests of a job.
fn bodies(content: &Content) -> Result<Vec<Bytes>> {
    if matches!(content.form, Form::Plain | Form::Oip) {
        return Ok(vec![content.body.clone()]);
    }
    let lines = content.body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let bodies: Vec<Bytes> = lines.take(MOST_REQUESTS + 1).map(|line| content.body.slice_ref(line)).collect();
    match bodies.len() {
        0 => Err(Error::invalid_input("a job of lines needs one request on each line; there is none")),
        n if n > MOST_REQUESTS => {
            Err(Error::too_large(format!("a job may have {MOST_REQUESTS} lines; split it into several")))
        }
        _ => Ok(bodies),
    }
}

fn at_line(content: &Content, idx: usize, error: Error) -> Error {
    match content.form {
        Form::Plain | Form::Oip => error,
        Form::PlainLines | Form::OipLines => error.context(format_args!("request {}", idx + 1)),
    }
}
