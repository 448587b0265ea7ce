//! Memory of clients that the server reads inputs from and writes outputs to: Triton's system shared
//! memory extension, off unless a setting allows it.
//!
//! Regions are registered by name and belong to no connection. The server's own memory has no name
//! in any folder, so no key leads to it. How a region is reached stands in [`region`].

mod mapping;
mod region;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use rustix::process::{Resource, getrlimit};
use salver_core::{Error, ErrorKind, InferRequest, Result};
use salver_protocol::shared_memory::{Region, Shared, SharedInput, Window};

pub use self::mapping::mapped_client_bytes;
use self::region::{Opened, View};
use crate::app::App;
use crate::body::BodyError;
use crate::memory::Held;

/// Where the system keeps shared memory objects.
const FOLDER: &str = "/dev/shm";
/// The most regions that are registered at a time.
const MAX_REGIONS: u64 = 1024;

/// The regions that clients registered.
#[derive(Debug)]
pub(crate) struct Regions {
    folder: OwnedFd,
    most: usize,
    by_name: RwLock<BTreeMap<String, Arc<Opened>>>,
}

impl Regions {
    /// Starts with none.
    ///
    /// # Errors
    /// `Engine` where the system has no folder of shared memory objects.
    pub(crate) fn new() -> Result<Self> {
        Self::in_folder(Path::new(FOLDER))
    }

    fn in_folder(folder: &Path) -> Result<Self> {
        let folder = region::open_folder(folder)?;
        // Each region keeps a descriptor; most of them are for connections.
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = usize::try_from(MAX_REGIONS.min(descriptors / 4)).unwrap_or(usize::MAX);
        Ok(Self { folder, most, by_name: RwLock::default() })
    }

    /// Opens an object and gives it a name.
    ///
    /// # Errors
    /// `Conflict` for a name that is taken, `Overloaded` where there are too many regions,
    /// `InvalidInput` for a key that leads to no object, or to one that is too small.
    pub(crate) fn register(&self, region: Region) -> Result<()> {
        let mut regions = self.write();
        if regions.contains_key(&region.name) {
            let message = format!("shared memory region '{}' already in manager", region.name);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        if regions.len() >= self.most {
            let message = format!("{} shared memory regions are registered, the most there may be", self.most);
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        let opened = Opened::new(&self.folder, region)?;
        regions.insert(opened.region().name.clone(), Arc::new(opened));
        Ok(())
    }

    /// Takes a name away, or all of them. Requests that have begun keep what they use.
    pub(crate) fn unregister(&self, name: Option<&str>) {
        let mut regions = self.write();
        let left = match name {
            Some(name) => regions.remove_entry(name).into_iter().collect(),
            None => std::mem::take(&mut *regions),
        };
        // Requests look regions up on the threads that read sockets, and giving much memory back takes
        // its time.
        drop(regions);
        drop(left);
    }

    /// Lists one region or all of them, by name.
    ///
    /// # Errors
    /// `NotFound` for a name that is not registered.
    pub(crate) fn status(&self, name: Option<&str>) -> Result<Vec<Region>> {
        match name {
            Some(name) => Ok(vec![self.find(name, "system ")?.region().clone()]),
            None => Ok(self.read().values().map(|opened| opened.region().clone()).collect()),
        }
    }

    fn view(&self, window: &Window) -> Result<View> {
        View::new(self.find(window.region(), "")?, window)
    }

    fn find(&self, name: &str, kind: &str) -> Result<Arc<Opened>> {
        self.read().get(name).cloned().ok_or_else(|| {
            let shown: String = name.chars().take(128).collect();
            Error::not_found(format!("Unable to find {kind}shared memory region: '{shown}'"))
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<Opened>>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Arc<Opened>>> {
        self.by_name.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Returns the regions of clients.
    ///
    /// # Errors
    /// `Unsupported` where they are not allowed, saying which setting allows them.
    pub(crate) fn regions(&self) -> Result<&Regions> {
        self.regions.as_ref().ok_or_else(|| {
            Error::unsupported(
                "system shared memory is off; start the server with --allow-client-shm, if every client may read and \
                 write the shared memory of this machine that the server can",
            )
        })
    }
}

/// The memory of clients as one request uses it.
#[derive(Debug, Default)]
pub(crate) struct InUse {
    /// What the request keeps in memory; none where shared memory is off.
    held: Option<Arc<Held>>,
    /// Those that are still to be copied.
    inputs: Vec<(SharedInput, View)>,
    outputs: Box<[View]>,
}

impl InUse {
    /// Starts with nothing.
    pub(crate) fn new(app: &App, held: &Arc<Held>) -> Self {
        Self { held: app.regions.is_some().then(|| held.clone()), ..Self::default() }
    }

    /// Takes hold of the windows of `shared`: of inputs, which [`InUse::fetch`] copies, and of outputs.
    ///
    /// # Errors
    /// `NotFound` for a region that is not registered, `InvalidInput` for a window that is not within
    /// its region, `Overloaded` where there is no room for the inputs, `Unsupported` where shared
    /// memory is off.
    pub(crate) fn attach(&mut self, app: &App, shared: &mut Shared) -> Result<()> {
        if shared.is_empty() {
            return Ok(());
        }
        let regions = app.regions()?;
        let with_view = |input: SharedInput| {
            let view = regions.view(input.window())?;
            Ok((input, view))
        };
        self.inputs = shared.take_inputs().into_iter().map(with_view).collect::<Result<_>>()?;
        self.outputs = shared.output_windows().map(|window| regions.view(window)).collect::<Result<_>>()?;
        if self.held.as_ref().is_some_and(|held| !held.add(self.missing())) {
            return Err(Error::new(ErrorKind::Overloaded, BodyError::NoRoom.to_string()));
        }
        Ok(())
    }

    /// Returns how many bytes of inputs are still to be copied.
    pub(crate) fn missing(&self) -> usize {
        self.inputs.iter().map(|(input, _)| input.byte_len()).sum()
    }

    /// Copies the inputs into the request.
    ///
    /// # Errors
    /// `InvalidInput` for a region that was truncated.
    pub(crate) fn fetch(&mut self, request: &mut InferRequest) -> Result<()> {
        for (input, view) in std::mem::take(&mut self.inputs) {
            request.inputs.push(input.into_tensor(view.read()?)?);
        }
        Ok(())
    }

    /// Writes the outputs that go into shared memory: `blobs` makes one for each window.
    ///
    /// # Errors
    /// Those of `blobs`; `InvalidInput` for a region that was truncated.
    pub(crate) fn write(&self, blobs: impl FnOnce() -> Result<Vec<Bytes>>) -> Result<()> {
        if self.outputs.is_empty() {
            return Ok(());
        }
        blobs()?.iter().zip(&self.outputs).try_for_each(|(blob, view)| view.write(blob))
    }
}

#[cfg(test)]
mod tests;
