//! The models that ensembles call: waiting for them, and following their changes.
//!
//! An ensemble is loaded once all its members serve, so it waits for those that are on their way. Who
//! waits for whom is written down before anybody waits: a circle is found by the one who would close
//! it. When a member changes later, every ensemble that calls it is put together anew.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use salver_core::{
    Backing, BoxFuture, Context, EnsembleGraph, EnsembleSpec, Error, ErrorKind, InferRequest, InferResponse,
    ModelEntry, ModelInfo, ModelName, ModelRef, ModelSpec, Result,
};
use tokio::sync::Notify;

use super::run::{Call, MAX_DEPTH};
use super::{Ensemble, Loaded};
use crate::lifecycle::{Cause, Lifecycle};
use crate::slot::Slot;
use crate::table::{Found, Table};

/// The members of an ensemble, as they were when it was loaded.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// Their interfaces.
    pub(super) infos: HashMap<ModelRef, Arc<ModelInfo>>,
    /// Which versions, of which files, and which making of an ensemble.
    versions: Vec<(ModelRef, u64, u64, Option<u64>)>,
    /// The files of all of them, and of their members, each once.
    pub(crate) files: Vec<Arc<ModelSpec>>,
    /// How many ensembles are within each other.
    depth: u8,
}

impl Members {
    /// Notes which version a member is, and what it is made of.
    fn add(&mut self, model: &ModelRef, spec: &Arc<ModelSpec>, served: Option<&Served>) -> Result<()> {
        self.versions.push((model.clone(), spec.version, spec.fingerprint, served.map(|served| served.making)));
        let within = served.map(|served| served.members.as_ref());
        for file in std::iter::once(spec).chain(within.into_iter().flat_map(|within| &within.files)) {
            let is_same = |known: &Arc<ModelSpec>| known.name == file.name && known.version == file.version;
            if !self.files.iter().any(is_same) {
                self.files.push(file.clone());
            }
        }
        self.depth = self.depth.max(within.map_or(0, |within| within.depth) + 1);
        if self.depth > MAX_DEPTH {
            return Err(Error::invalid_input(format!("more than {MAX_DEPTH} ensembles within each other")));
        }
        Ok(())
    }
}

/// An ensemble that serves.
pub(crate) struct Served {
    pub(super) ensemble: Arc<Ensemble>,
    members: Arc<Members>,
    /// Which making of an ensemble this is: another one may have other members.
    making: u64,
}

/// Who is on the way, and who waits for whom.
#[derive(Debug, Default)]
pub(crate) struct Dependants {
    /// How many changes of each model are under way.
    coming: Mutex<HashMap<ModelName, usize>>,
    waits: Mutex<HashMap<ModelName, BTreeSet<ModelName>>>,
    /// Versions that did not load for want of a member.
    orphans: Mutex<HashMap<(ModelName, u64), Arc<ModelSpec>>>,
    makings: AtomicU64,
    changed: Notify,
}

/// Says that a model is about to change, until it is dropped.
pub(crate) struct Coming {
    lifecycle: Arc<Lifecycle>,
    name: ModelName,
}

impl Served {
    /// Describes the steps.
    pub(crate) fn describe(&self, own: &EnsembleSpec, info: &ModelInfo) -> EnsembleGraph {
        self.ensemble.describe(own, info)
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let dependants = &self.lifecycle.dependants;
        let mut coming = dependants.coming.lock();
        if let Some(count) = coming.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                coming.remove(&self.name);
            }
        }
        drop(coming);
        dependants.changed.notify_waiters();
    }
}

/// Ends the entry of one who waits.
struct Waiting<'a> {
    dependants: &'a Dependants,
    name: &'a ModelName,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.dependants.waits.lock().remove(self.name);
    }
}

/// Returns the models that an ensemble calls; of any other model, none.
pub(crate) fn called(spec: &ModelSpec) -> BTreeSet<ModelName> {
    refs(spec).into_iter().map(|model| model.name.clone()).collect()
}

/// Returns the models that any version of an entry calls.
pub(crate) fn called_by(entry: &ModelEntry) -> BTreeSet<ModelName> {
    entry.versions.iter().flatten().flat_map(|spec| called(spec)).collect()
}

/// Returns the models that `is_named` picks, and all those that they call.
pub(crate) fn with_members(entries: &[ModelEntry], is_named: impl Fn(&str) -> bool) -> BTreeSet<ModelName> {
    let mut wanted = BTreeSet::new();
    let mut due: Vec<ModelName> =
        entries.iter().map(|entry| entry.name.clone()).filter(|name| is_named(name)).collect();
    while let Some(name) = due.pop() {
        if wanted.insert(name.clone()) {
            due.extend(entries.iter().filter(|entry| entry.name == name).flat_map(called_by));
        }
    }
    wanted
}

fn refs(spec: &ModelSpec) -> Vec<&ModelRef> {
    match &spec.backing {
        Backing::Ensemble(ensemble) => ensemble.models().collect(),
        _ => Vec::new(),
    }
}

impl Lifecycle {
    /// Notes that a model is about to change.
    pub(crate) fn announce(self: &Arc<Self>, name: &ModelName) -> Coming {
        *self.dependants.coming.lock().entry(name.clone()).or_default() += 1;
        Coming { lifecycle: self.clone(), name: name.clone() }
    }

    /// Waits for the members of an ensemble; of any other model, there are none.
    ///
    /// # Errors
    /// `InvalidInput` for a circle, `NotReady` for a member that does not serve.
    pub(crate) fn members<'a>(
        self: &'a Arc<Self>,
        spec: &'a Arc<ModelSpec>,
    ) -> BoxFuture<'a, Result<Option<Arc<Members>>>> {
        Box::pin(async move {
            let Backing::Ensemble(ensemble) = &spec.backing else {
                return Ok(None);
            };
            let _waiting = self.wait_for(spec)?;
            let gathered = self.gather(ensemble).await;
            if gathered.is_err() {
                self.dependants.orphans.lock().insert((spec.name.clone(), spec.version), spec.clone());
            }
            gathered.map(|members| Some(Arc::new(members)))
        })
    }

    /// Writes down whom an ensemble waits for, unless that closes a circle.
    fn wait_for<'a>(&'a self, spec: &'a ModelSpec) -> Result<Waiting<'a>> {
        let mut waits = self.dependants.waits.lock();
        let table = self.table.load();
        waits.insert(spec.name.clone(), called(spec));
        let waiting = Waiting { dependants: &self.dependants, name: &spec.name };
        let mut path = vec![spec.name.clone()];
        let closes = circle(&spec.name, &mut path, &mut BTreeSet::new(), &|name| next(name, &waits, &table));
        drop(waits);
        if closes {
            let names: Vec<String> = path.iter().map(|name| format!("'{name}'")).collect();
            return Err(Error::invalid_input(format!(
                "ensembles call each other in a circle: {}",
                names.join(" calls ")
            )));
        }
        Ok(waiting)
    }

    async fn gather(self: &Arc<Self>, ensemble: &EnsembleSpec) -> Result<Members> {
        let mut members = Members { depth: 1, ..Members::default() };
        for step in &ensemble.steps {
            for model in std::iter::once(&step.model).chain(&step.fallback) {
                if members.infos.contains_key(model) {
                    continue;
                }
                let context = |error: Error| {
                    let kind = if error.kind() == ErrorKind::NotFound { ErrorKind::NotReady } else { error.kind() };
                    error.with_kind(kind).context(format_args!("step '{}' calls model '{model}'", step.name))
                };
                let (info, spec, slot) = self.member(model).await.map_err(context)?;
                let served = slot.as_ref().and_then(|slot| slot.ensemble.get());
                if slot.as_ref().is_some_and(|slot| slot.is_decoupled) {
                    return Err(context(Error::unsupported("it gives any number of answers, and a step needs one")));
                }
                members.infos.insert(model.clone(), info);
                members.add(model, &spec, served).map_err(context)?;
            }
        }
        Ok(members)
    }

    /// Waits until a model serves that is on its way.
    async fn member(self: &Arc<Self>, model: &ModelRef) -> Result<(Arc<ModelInfo>, Arc<ModelSpec>, Option<Arc<Slot>>)> {
        loop {
            let mut changed = std::pin::pin!(self.dependants.changed.notified());
            changed.as_mut().enable();
            let is_dormant = match self.table.load().find(model) {
                Found::Resident(slot) => return Ok((slot.info.clone(), slot.spec.clone(), Some(slot.clone()))),
                Found::Dormant(dormant) => match &dormant.known {
                    Some(known) => return Ok((known.info.clone(), dormant.spec.clone(), None)),
                    None => true,
                },
                Found::Missing => false,
            };
            if is_dormant {
                let slot = self.slot(model, None).await?.slot;
                return Ok((slot.info.clone(), slot.spec.clone(), Some(slot)));
            }
            if self.is_stopping() {
                return Err(Error::not_ready("the server is stopping"));
            }
            if !self.dependants.coming.lock().contains_key(&model.name) {
                return Err(self.explain(model));
            }
            changed.await;
        }
    }

    /// Makes an ensemble of its members.
    ///
    /// # Errors
    /// `InvalidInput` naming the two ends that do not fit.
    pub(crate) fn assemble(self: &Arc<Self>, spec: &ModelSpec, members: &Arc<Members>) -> Result<(Loaded, Served)> {
        let Backing::Ensemble(own) = &spec.backing else {
            return Err(Error::engine(format!("model '{}' is no ensemble", spec.name)));
        };
        let ensemble = Ensemble::new(own, spec, members, Arc::new(Caller(Arc::downgrade(self))))?;
        let making = self.dependants.makings.fetch_add(1, Ordering::Relaxed);
        Ok((Loaded(ensemble.clone()), Served { ensemble, members: members.clone(), making }))
    }

    /// Puts ensembles together anew that call `name`, now that it has changed, and tries those again
    /// that did not load for want of it.
    pub(crate) fn revisit(self: &Arc<Self>, name: &ModelName) {
        self.dependants.changed.notify_waiters();
        let table = self.table.load();
        let calls = |spec: &ModelSpec| called(spec).contains(name);
        let stale =
            table.slots().filter(|slot| calls(&slot.spec) && is_stale(slot, &table)).map(|slot| slot.spec.clone());
        let orphans: Vec<_> = self.dependants.orphans.lock().values().filter(|spec| calls(spec)).cloned().collect();
        for spec in stale.chain(orphans) {
            let this = self.clone();
            self.tasks.spawn(async move { this.put_together_anew(spec).await });
        }
    }

    /// As [`Lifecycle::revisit`], for one ensemble that was loaded while its members may have changed.
    pub(crate) fn review(self: &Arc<Self>, slot: &Arc<Slot>) {
        if is_stale(slot, &self.table.load()) {
            let (this, spec) = (self.clone(), slot.spec.clone());
            self.tasks.spawn(async move { this.put_together_anew(spec).await });
        }
    }

    async fn put_together_anew(self: Arc<Self>, spec: Arc<ModelSpec>) {
        let turn = self.turn(&spec.name);
        let _turn = turn.lock().await;
        let key = (spec.name.clone(), spec.version);
        let is_orphan = |known: &Arc<ModelSpec>| known.fingerprint == spec.fingerprint;
        let was_orphan = self.dependants.orphans.lock().remove_entry(&key).is_some_and(|(_, known)| is_orphan(&known));
        let table = self.table.load_full();
        let slot = table.served(&spec.name).and_then(|served| served.slots.get(&spec.version));
        let is_due = match slot {
            Some(slot) => slot.spec.fingerprint == spec.fingerprint && is_stale(slot, &table),
            None => was_orphan,
        };
        if is_due && !self.is_stopping() {
            // The failure is logged and on the board already.
            let _ = self.load(spec, Cause::Change).await;
        }
    }

    /// Forgets versions of a model that wait for their members and are not wanted any more.
    pub(crate) fn forget_orphans(&self, name: &ModelName, desired: &[Arc<ModelSpec>]) {
        let is_wanted = |orphan: &ModelSpec| {
            desired.iter().any(|spec| (spec.version, spec.fingerprint) == (orphan.version, orphan.fingerprint))
        };
        self.dependants.orphans.lock().retain(|(known, _), orphan| known != name || is_wanted(orphan));
    }

    /// Returns the slots of ensembles that no other ensemble calls.
    pub(crate) fn outermost(&self) -> Vec<Arc<Slot>> {
        let table = self.table.load();
        let ensembles: Vec<&Arc<Slot>> = table.slots().filter(|slot| slot.ensemble.get().is_some()).collect();
        let inner: BTreeSet<ModelName> = ensembles.iter().flat_map(|slot| called(&slot.spec)).collect();
        ensembles.into_iter().filter(|slot| !inner.contains(&slot.spec.name)).cloned().collect()
    }
}

/// Whether a member of an ensemble is not what it was.
fn is_stale(slot: &Slot, table: &Table) -> bool {
    let Some(served) = slot.ensemble.get() else {
        return false;
    };
    served.members.versions.iter().any(|(model, version, fingerprint, making)| match table.find(model) {
        Found::Resident(slot) => {
            let now = slot.ensemble.get().map(|served| served.making);
            (slot.spec.version, slot.spec.fingerprint) != (*version, *fingerprint) || now != *making
        }
        Found::Dormant(dormant) => (dormant.spec.version, dormant.spec.fingerprint) != (*version, *fingerprint),
        // What is not there cannot be called; there is nothing to put together.
        Found::Missing => false,
    })
}

/// Whether what an ensemble answered before does not count any more: a member, or a member of a
/// member, is not what it was.
pub(crate) fn is_outdated(slot: &Slot, table: &Table) -> bool {
    let Some(served) = slot.ensemble.get() else {
        return false;
    };
    let of_members = |(model, ..): &(ModelRef, u64, u64, Option<u64>)| match table.find(model) {
        Found::Resident(slot) => is_outdated(slot, table),
        Found::Dormant(_) | Found::Missing => false,
    };
    is_stale(slot, table) || served.members.versions.iter().any(of_members)
}

/// Returns whom a model waits for or calls.
fn next(name: &ModelName, waits: &HashMap<ModelName, BTreeSet<ModelName>>, table: &Table) -> BTreeSet<ModelName> {
    if let Some(own) = waits.get(name) {
        return own.clone();
    }
    let served = table.served(name);
    let slots = served.into_iter().flat_map(|served| served.slots.values().map(|slot| &slot.spec));
    let dormant = served.into_iter().flat_map(|served| served.dormant.values().map(|dormant| &dormant.spec));
    slots.chain(dormant).flat_map(|spec| called(spec)).collect()
}

/// Whether following `next` from the end of `path` leads back to `first`; then `path` is the way.
fn circle(
    first: &ModelName,
    path: &mut Vec<ModelName>,
    seen: &mut BTreeSet<ModelName>,
    next: &dyn Fn(&ModelName) -> BTreeSet<ModelName>,
) -> bool {
    let Some(last) = path.last().cloned() else {
        return false;
    };
    for name in next(&last) {
        path.push(name.clone());
        if name == *first || (seen.insert(name) && circle(first, path, seen, next)) {
            return true;
        }
        path.pop();
    }
    false
}

/// The way from a step to its model.
struct Caller(Weak<Lifecycle>);

impl Call for Caller {
    fn call<'a>(&'a self, mut request: InferRequest, ctx: Context) -> BoxFuture<'a, Result<InferResponse>> {
        Box::pin(async move {
            let lifecycle = self.0.upgrade().ok_or_else(|| Error::not_ready("the server is stopping"))?;
            let answered = lifecycle.infer(&mut request, &ctx).await;
            answered.map_err(|error| match error.kind() {
                // The ensemble is there; that one of its models is not is nothing that the caller asked for.
                ErrorKind::NotFound if matches!(lifecycle.table.load().find(&request.model), Found::Missing) => {
                    error.with_kind(ErrorKind::NotReady)
                }
                _ => error,
            })
        })
    }
}
