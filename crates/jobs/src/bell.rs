//! Wakes those who wait within this process: workers for jobs, callers for answers.
//!
//! Only a hint. Other processes change the queue too, so whoever waits looks again from time to time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::types::JobId;

/// See the module's description. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// There may be a job to run.
    work: Notify,
    /// A job has ended, and somebody may be waiting for a message.
    ended: Notify,
    /// Those who wait for something to happen to a job.
    watchers: Mutex<HashMap<JobId, Watchers>>,
}

#[derive(Debug, Default)]
struct Watchers {
    count: usize,
    notify: Arc<Notify>,
}

impl Bell {
    /// Says that there may be a job to run.
    pub fn work(&self) {
        self.0.work.notify_one();
    }

    /// Waits for [`Bell::work`], but no longer than `most`.
    pub(crate) async fn heard_work(&self, most: Duration) {
        let _ = tokio::time::timeout(most, self.0.work.notified()).await;
    }

    /// Says that a job has ended.
    pub fn ended(&self, id: JobId) {
        self.0.ended.notify_one();
        self.changed(id);
    }

    /// Waits for [`Bell::ended`], but no longer than `most`.
    pub(crate) async fn heard_end(&self, most: Duration) {
        let _ = tokio::time::timeout(most, self.0.ended.notified()).await;
    }

    /// Says that something happened to a job.
    pub fn changed(&self, id: JobId) {
        if let Some(watchers) = self.0.watchers.lock().get(&id) {
            watchers.notify.notify_waiters();
        }
    }

    /// Begins to watch a job: what happens from here on is not missed.
    pub fn watch(&self, id: JobId) -> Watch {
        let mut watchers = self.0.watchers.lock();
        let of_job = watchers.entry(id).or_default();
        of_job.count += 1;
        Watch { bell: self.0.clone(), id, notify: of_job.notify.clone() }
    }
}

/// Watches one job until it is dropped.
#[derive(Debug)]
pub struct Watch {
    bell: Arc<Inner>,
    id: JobId,
    notify: Arc<Notify>,
}

impl Watch {
    /// Runs `look`, then waits until something happens to the job, but no longer than `most` says.
    pub(crate) async fn look_and_wait<T>(&self, look: impl Future<Output = T>, most: impl Fn(&T) -> Duration) -> T {
        let mut changed = std::pin::pin!(self.notify.notified());
        changed.as_mut().enable();
        let seen = look.await;
        let most = most(&seen);
        if !most.is_zero() {
            let _ = tokio::time::timeout(most, changed).await;
        }
        seen
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = self.bell.watchers.lock();
        if let Some(of_job) = watchers.get_mut(&self.id) {
            of_job.count -= 1;
            if of_job.count == 0 {
                watchers.remove(&self.id);
            }
        }
    }
}
