//! A shared level for tests: a table that can be down, or hang.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use salver_core::{BoxFuture, CacheKey, Error, Result, SharedCache, SharedEntry};
use tokio::sync::watch;

#[derive(Debug, Default)]
pub(crate) struct FakeShared {
    entries: Mutex<HashMap<(String, CacheKey), SharedEntry>>,
    is_down: AtomicBool,
    hangs: AtomicBool,
    gets: AtomicUsize,
    puts: watch::Sender<usize>,
}

impl FakeShared {
    pub(crate) fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    pub(crate) fn hang(&self) {
        self.hangs.store(true, Ordering::SeqCst);
    }

    pub(crate) fn n_gets(&self) -> usize {
        self.gets.load(Ordering::SeqCst)
    }

    /// Waits until as many answers were written since the beginning.
    pub(crate) async fn written(&self, count: usize) {
        let _ = self.puts.subscribe().wait_for(|puts| *puts >= count).await;
    }

    /// Puts other bytes in the place of every value.
    pub(crate) fn garble(&self) {
        self.entries.lock().values_mut().for_each(|entry| entry.value = bytes::Bytes::from_static(b"garbled"));
    }

    async fn call<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.is_down.load(Ordering::SeqCst) {
            return Err(Error::not_ready("the fake place is down"));
        }
        Ok(work())
    }
}

impl SharedCache for FakeShared {
    fn get<'a>(&'a self, model: &'a str, key: &'a CacheKey) -> BoxFuture<'a, Result<Option<SharedEntry>>> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        Box::pin(self.call(|| self.entries.lock().get(&(model.to_owned(), *key)).cloned()))
    }

    fn put<'a>(&'a self, model: &'a str, key: &'a CacheKey, entry: SharedEntry) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.call(move || {
            self.entries.lock().insert((model.to_owned(), *key), entry);
            self.puts.send_modify(|puts| *puts += 1);
        }))
    }

    fn purge<'a>(&'a self, model: Option<&'a str>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.call(move || {
            self.entries.lock().retain(|(name, _), _| model.is_some_and(|model| name != model));
        }))
    }

    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.call(|| ()))
    }
}
