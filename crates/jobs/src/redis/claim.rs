//! Hands jobs out.

use std::time::Duration;

use redis::{Value, from_redis_value};
use salver_core::{Error, Result};
use tokio::runtime::Handle;

use super::{MOST_JOBS, RedisQueue, fields, scripts};
use crate::standing::millis;
use crate::types::{Content, Form, Hold, Lease, Millis, Outcome};

/// Once the jobs of one call carry this many bytes, it gets no further one.
const ENOUGH_BYTES: usize = 16 << 20;

/// What is said of a job: whether it is alone, model, form, how many requests, time limit, media type
/// and length of the JSON part.
type Said = (Option<String>, String, String, u64, u64, Option<String>, Option<u64>);

impl RedisQueue {
    /// Hands jobs out. If the caller goes away meanwhile, they go back.
    pub(super) async fn claim_for_sure(
        self,
        most: usize,
        is_idle: bool,
        lease: Duration,
        now: Millis,
    ) -> Result<Vec<Lease>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let (tx, rx) = tokio::sync::oneshot::channel();
        // Ends with Redis' reply, or after the time for one.
        tokio::spawn(async move {
            if !tx.is_closed() {
                let claimed = self.hand_out(most, is_idle, lease, now).await;
                // Who has gone away drops the offer.
                let _ = tx.send(claimed.map(|leases| Offer { leases, queue: self, now, runtime: Handle::current() }));
            }
        });
        let offer = rx.await.map_err(|_| Error::not_ready("the queue of jobs is closed; the server is stopping"))?;
        Ok(std::mem::take(&mut offer?.leases))
    }

    async fn hand_out(&self, most: usize, is_idle: bool, held: Duration, now: Millis) -> Result<Vec<Lease>> {
        let call = scripts::CLAIM.call().arg(most.min(MOST_JOBS)).arg(u8::from(is_idle)).arg(now).arg(ENOUGH_BYTES);
        let call = call.arg(millis(held));
        let handed: Vec<Value> = self.run(call).await?;
        let mut leases = Vec::with_capacity(handed.len());
        for value in handed {
            let parts = from_redis_value(value).map_err(|error| self.failed(error.into()))?;
            let (id, token, attempt, said, body): (String, i64, u32, Said, Vec<u8>) = parts;
            let hold = Hold { id: fields::id(&id)?, token };
            match lease(hold, attempt, said, body) {
                Some(lease) => leases.push(lease),
                None => {
                    let reason = "this version of the server cannot read what it asks".into();
                    // Where that fails, the watch of a crew finds it.
                    let _ = self.end(hold, Outcome::Failed(reason), now).await;
                }
            }
        }
        Ok(leases)
    }
}

/// Jobs on their way to a worker. Those that it does not take go back.
struct Offer {
    leases: Vec<Lease>,
    queue: RedisQueue,
    now: Millis,
    runtime: Handle,
}

impl Drop for Offer {
    fn drop(&mut self) {
        let (leases, queue, now) = (std::mem::take(&mut self.leases), self.queue.clone(), self.now);
        if leases.is_empty() {
            return;
        }
        self.runtime.spawn(async move {
            for lease in leases {
                // Where that fails, the watch of a crew finds it.
                let _ = queue.end(lease.hold, Outcome::GivenBack, now).await;
            }
        });
    }
}

/// Reads a job that is handed out; where another version of this program wrote it, it may be one that
/// this one does not know how to run. It must not be in the way of others for ever.
fn lease(hold: Hold, attempt: u32, said: Said, body: Vec<u8>) -> Option<Lease> {
    let (alone, model, form, total, time_limit, content_type, header_len) = said;
    let form = Form::ALL.into_iter().find(|known| known.as_str() == form)?;
    Some(Lease {
        hold,
        model: model.parse().ok()?,
        content: Content { form, content_type, header_len, body: body.into() },
        total,
        time_limit: Duration::from_millis(time_limit),
        attempt,
        is_alone: alone.is_some(),
    })
}
