//! Answers in memory, bounded by the bytes that they really take.
//!
//! An entry that is expired counts as gone; the time comes in as an argument. Which entries have to
//! make room is the library's business, which keeps what is asked for again and again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use salver_core::{ElementsBuilder, Tensor};
use salver_telemetry::CacheMetrics;
use tokio::time::Instant;

use super::question::Question;

/// Parts that are locked apart. Each holds its share of the bytes, so there must be fewer than
/// [`LARGEST`] entries could fill.
const SHARDS: usize = 4;
/// The largest entry, as a part of all.
const LARGEST: u64 = 8;
/// What an entry takes besides its content: key, places in tables, allocations.
const OVERHEAD: usize = 256;
/// What a tensor takes besides its content.
const TENSOR_OVERHEAD: usize = 160;

/// One answer of one loaded version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The number of the load: a version that is loaded again starts anew.
    pub(crate) load: u64,
    pub(crate) question: Question,
}

/// An answer, in memory of its own.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) expires: Option<Instant>,
}

impl Entry {
    fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Returns the bytes that outputs take once they are kept.
pub(crate) fn weight(outputs: &[Tensor]) -> u64 {
    let spans = |tensor: &Tensor| tensor.elements().map_or(0, |elements| elements.len() * size_of::<(u32, u32)>());
    let one = |tensor: &Tensor| TENSOR_OVERHEAD + tensor.payload_len() + spans(tensor);
    (OVERHEAD + outputs.iter().map(one).sum::<usize>()) as u64
}

/// Copies outputs out of the batch that they are slices of, so that keeping them keeps nothing else.
///
/// # Errors
/// None in practice: a tensor that is copied is as valid as before.
pub(crate) fn detach(outputs: &[Tensor]) -> salver_core::Result<Vec<Tensor>> {
    let copy = |tensor: &Tensor| match tensor.elements() {
        None => {
            let data = tensor.bytes().map(|bytes| Bytes::copy_from_slice(bytes)).unwrap_or_default();
            Tensor::new(tensor.name().clone(), tensor.dtype(), tensor.shape().clone(), data)
        }
        Some(elements) => {
            let mut builder = ElementsBuilder::default();
            elements.iter().for_each(|element| builder.push(element));
            Tensor::from_elements(tensor.name().clone(), tensor.shape().clone(), builder.finish())
        }
    };
    outputs.iter().map(copy).collect()
}

/// See the module's description.
pub(crate) struct LocalCache {
    entries: Cache<Key, Arc<Entry>, Weigh, DefaultHashBuilder, CountEvictions>,
    largest: u64,
    metrics: CacheMetrics,
}

impl LocalCache {
    pub(crate) fn new(bytes: u64, metrics: CacheMetrics) -> Self {
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .weight_capacity(bytes)
            .estimated_items_capacity(usize::try_from(bytes >> 12).unwrap_or(usize::MAX))
            .build()
            .expect("the two required options are set");
        let count = CountEvictions(metrics.clone());
        let entries = Cache::with_options(options, Weigh, DefaultHashBuilder::default(), count);
        Self { entries, largest: bytes / LARGEST, metrics }
    }

    /// Whether outputs of this weight are kept at all.
    pub(crate) fn takes(&self, weight: u64) -> bool {
        weight <= self.largest
    }

    pub(crate) fn get(&self, key: &Key, now: Instant) -> Option<Arc<Entry>> {
        let entry = self.entries.get(key)?;
        if !entry.is_expired(now) {
            return Some(entry);
        }
        self.entries.remove_if(key, |found| Arc::ptr_eq(found, &entry));
        self.note_size();
        None
    }

    pub(crate) fn insert(&self, key: Key, entry: Arc<Entry>) {
        self.entries.insert(key, entry);
        self.note_size();
    }

    /// Drops the entries of these loads and returns how many there were.
    pub(crate) fn forget(&self, loads: &HashSet<u64>) -> u64 {
        let gone = AtomicU64::new(0);
        self.entries.retain(|key, _| {
            let stays = !loads.contains(&key.load);
            gone.fetch_add(u64::from(!stays), Ordering::Relaxed);
            stays
        });
        self.note_size();
        gone.into_inner()
    }

    fn note_size(&self) {
        self.metrics.set_size(self.entries.len(), self.entries.weight());
    }
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Key, Arc<Entry>> for Weigh {
    fn weight(&self, _: &Key, entry: &Arc<Entry>) -> u64 {
        weight(&entry.outputs)
    }
}

#[derive(Clone)]
struct CountEvictions(CacheMetrics);

impl Lifecycle<Key, Arc<Entry>> for CountEvictions {
    type RequestState = Vec<Arc<Entry>>;

    /// Kept until the lock is released: freeing a large answer takes its time.
    fn on_evict(&self, evicted: &mut Self::RequestState, _: Key, entry: Arc<Entry>) {
        self.0.count_eviction();
        evicted.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use salver_telemetry::Metrics;
    use salver_testkit::{tensor, text};

    use super::*;

    fn key(load: u64, number: u8) -> Key {
        Key { load, question: [number; 32] }
    }

    fn entry(len: usize, expires: Option<Instant>) -> Arc<Entry> {
        Arc::new(Entry { outputs: vec![tensor("y", &[len], &vec![1u8; len])], expires })
    }

    #[test]
    fn an_entry_is_gone_when_its_time_is_up() {
        let metrics = Metrics::new();
        let cache = LocalCache::new(1 << 20, metrics.cache());
        let now = Instant::now();
        let end = now + Duration::from_secs(60);
        cache.insert(key(1, 1), entry(10, Some(end)));
        cache.insert(key(1, 2), entry(10, None));
        assert!(cache.get(&key(1, 1), end - Duration::from_nanos(1)).is_some());
        assert!(metrics.render().contains("salver_cache_entries 2\n"));
        assert!(cache.get(&key(1, 1), end).is_none());
        assert!(cache.get(&key(1, 1), now).is_none(), "it was removed");
        assert!(cache.get(&key(1, 2), end).is_some());
        assert!(metrics.render().contains("salver_cache_entries 1\n"));
    }

    #[test]
    fn the_bytes_stay_within_the_bound_and_evictions_are_counted() {
        let metrics = Metrics::new();
        let bound = 1 << 16;
        let cache = LocalCache::new(bound, metrics.cache());
        for number in 0..=255 {
            cache.insert(key(1, number), entry(1000, None));
            assert!(cache.entries.weight() <= bound);
        }
        let kept = cache.entries.len() as u64;
        assert!(kept > 20, "{kept}");
        let text = metrics.render();
        assert!(text.contains(&format!("salver_cache_evictions_total {}\n", 256 - kept)), "{text}");
        assert!(text.contains(&format!("salver_cache_bytes {}\n", cache.entries.weight())), "{text}");
    }

    #[test]
    fn the_largest_that_is_taken_fits() {
        let cache = LocalCache::new(1 << 20, Metrics::new().cache());
        let largest = (1 << 17) - OVERHEAD - TENSOR_OVERHEAD;
        let fitting = entry(largest, None);
        assert!(cache.takes(weight(&fitting.outputs)) && !cache.takes(weight(&entry(largest + 1, None).outputs)));
        cache.insert(key(1, 1), fitting);
        assert!(cache.get(&key(1, 1), Instant::now()).is_some());
    }

    #[test]
    fn a_load_is_forgotten_without_the_others() {
        let cache = LocalCache::new(1 << 20, Metrics::new().cache());
        for number in 0..10 {
            cache.insert(key(u64::from(number % 2), number), entry(1, None));
        }
        assert_eq!(cache.forget(&[1].into()), 5);
        assert_eq!(cache.entries.len(), 5);
        assert!(cache.get(&key(0, 0), Instant::now()).is_some() && cache.get(&key(1, 1), Instant::now()).is_none());
    }

    #[test]
    fn what_is_kept_shares_no_memory_with_the_batch() {
        let batch = tensor("y", &[4, 2], &[0f32, 1., 2., 3., 4., 5., 6., 7.]);
        let words = text("z", &[4], &[b"a", b"bb", b"", b"dddd"]);
        let rows = [batch.slice_rows(1..2).unwrap(), words.slice_rows(1..3).unwrap()];
        let own = detach(&rows).unwrap();
        assert_eq!(own[0].to_vec::<f32>().unwrap(), [2., 3.]);
        assert_ne!(own[0].bytes().unwrap().as_ptr(), rows[0].bytes().unwrap().as_ptr());
        let elements: Vec<&[u8]> = own[1].elements().unwrap().iter().collect();
        assert_eq!(elements, [&b"bb"[..], b""]);
        assert_eq!(weight(&own), (OVERHEAD + 2 * TENSOR_OVERHEAD + 8 + 2 + 16) as u64);
    }
}
