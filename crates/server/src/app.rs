//! What every handler shares: the services, the options and a few questions about models.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use salver_core::{Error, LoadOverride, ModelConfig, ModelInfo, ModelName, ModelRef, ModelState, Result};
use salver_telemetry::Dependency;

use crate::browser::Hosts;
use crate::connection::Shutdown;
use crate::cors::Cors;
use crate::job_work::JobWork;
use crate::memory::Memory;
use crate::shared_memory::Regions;
use crate::trace::Traces;
use crate::{Limits, ServerOptions, Services};

/// The shared state of the server.
pub(crate) struct App {
    pub services: Services,
    pub options: ServerOptions,
    pub shutdown: Shutdown,
    pub cors: Cors,
    pub hosts: Hosts,
    pub memory: Arc<Memory>,
    /// The memory of clients; none where it is not allowed.
    pub regions: Option<Regions>,
    /// What jobs ask.
    pub job_work: JobWork,
    /// Which requests are traced.
    pub traces: Traces,
    /// What a client chose for the times of the log: they are the same either way.
    pub has_iso_times: AtomicBool,
    /// Made when it is first asked for.
    pub openapi: OnceLock<Bytes>,
    /// When the server started, in seconds since the epoch.
    pub started: u64,
}

impl App {
    /// Checks the options and joins them with the services.
    ///
    /// # Errors
    /// `InvalidInput` for a CORS origin or a host that is none, `Engine` where shared memory is allowed
    /// and the system has none.
    pub(crate) fn new(services: Services, mut options: ServerOptions) -> Result<Arc<Self>> {
        // One limit, not two that must agree.
        options.limits.protocol.max_body_bytes = options.limits.body_bytes;
        let cors = Cors::new(&options.cors)?;
        let addresses = [Some(options.http), options.grpc].into_iter().flatten().map(|address| address.ip());
        let hosts = Hosts::new(&options.allowed_hosts, addresses)?;
        let memory = Memory::new(options.limits.buffered_bytes);
        let regions = options.client_shared_memory.then(Regions::new).transpose()?;
        let job_work = JobWork::new(services.infer.clone(), options.limits.protocol);
        Ok(Arc::new(Self {
            job_work,
            services,
            options,
            shutdown: Shutdown::default(),
            cors,
            hosts,
            memory,
            regions,
            traces: Traces::default(),
            has_iso_times: AtomicBool::new(false),
            openapi: OnceLock::new(),
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }))
    }

    /// Returns the bounds on requests.
    pub(crate) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// Returns the bounds on what a decoded request may claim.
    pub(crate) fn protocol_limits(&self) -> &salver_protocol::Limits {
        &self.options.limits.protocol
    }

    /// Whether every model serves that should, and the server is not stopping.
    pub(crate) fn is_ready(&self) -> bool {
        !self.shutdown.is_draining() && self.services.control.is_ready()
    }

    /// Names what does not answer and requests do without.
    pub(crate) fn degraded(&self) -> Vec<&'static str> {
        self.services.metrics.degraded().into_iter().map(Dependency::as_str).collect()
    }

    /// Describes a model; one that is loaded at first use is loaded for it.
    ///
    /// # Errors
    /// `NotFound` for an unknown model, `NotReady` for one that does not serve.
    pub(crate) async fn describe(&self, model: &ModelRef) -> Result<Arc<ModelInfo>> {
        if let Some(wake) = self.services.infer.wake(model, self.deadline()) {
            wake.await?;
        }
        self.services.infer.describe(model)
    }

    /// Whether a request to this model may be left to a job.
    pub(crate) fn may_defer(&self, model: &ModelRef) -> bool {
        self.services.jobs.is_some() && self.services.infer.may_defer(model)
    }

    /// Returns a model's effective configuration; one that is loaded at first use is loaded for it.
    ///
    /// # Errors
    /// As [`App::describe`].
    pub(crate) async fn config(&self, model: &ModelRef) -> Result<ModelConfig> {
        if let Some(wake) = self.services.infer.wake(model, self.deadline()) {
            wake.await?;
        }
        self.services.control.config(model)
    }

    fn deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.limits().default_deadline)
    }

    /// Returns the versions of `model` that serve, ascending.
    pub(crate) fn ready_versions(&self, model: &str) -> Vec<u64> {
        let index = self.services.control.index();
        let ready = index.into_iter().filter(|status| status.name == model && status.state == Some(ModelState::Ready));
        let mut versions: Vec<u64> = ready.filter_map(|status| status.version).collect();
        versions.sort_unstable();
        versions
    }

    /// Returns the names of all models, ascending.
    pub(crate) fn model_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.services.control.index().into_iter().map(|status| status.name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the model of routes that name none.
    ///
    /// # Errors
    /// `NotFound`, saying how to choose one.
    pub(crate) fn default_model(&self) -> Result<ModelRef> {
        if let Some(name) = &self.services.default_model {
            return Ok(ModelRef::latest(name.clone()));
        }
        match self.model_names().as_slice() {
            [only] => Ok(ModelRef::latest(ModelName::new(only)?)),
            [] => Err(Error::not_found("no model is loaded")),
            several => Err(Error::not_found(format!(
                "{} models are loaded and none is the default; start the server with --default-model NAME",
                several.len()
            ))),
        }
    }

    /// Loads a model from its source, or as `by` says.
    ///
    /// # Errors
    /// As [`App::check_explicit_control`] and `ModelControl::load_with`.
    pub(crate) async fn load(&self, model: &str, by: Option<LoadOverride>) -> Result<()> {
        self.check_explicit_control()?;
        match by {
            None => self.services.control.load(model).await,
            Some(by) => self.services.control.load_with(model, by).await,
        }
    }

    /// Refuses to load or unload outside explicit control.
    ///
    /// # Errors
    /// `NotReady`, saying which setting allows it.
    pub(crate) fn check_explicit_control(&self) -> Result<()> {
        if self.options.explicit_control {
            return Ok(());
        }
        Err(Error::not_ready(
            "explicit model load / unload is not allowed; start the server with --model-control explicit",
        ))
    }
}
