//! Listeners, limits and one thin handler per protocol.
//!
//! Bytes come in through sockets here, become an [`InferRequest`](salver_core::InferRequest) by
//! `salver-protocol`, and go to whatever implements [`Infer`]. The server knows no engine, no
//! folder and no wire format of its own. Every listener speaks HTTP/1.1, HTTP/2 and gRPC.

mod answer;
mod app;
mod body;
mod browser;
mod call;
mod coding;
mod connection;
mod cors;
mod edge;
mod event_loops;
mod grpc;
mod http;
mod job_work;
mod limits;
mod listener;
mod memory;
mod settings;
mod shared_memory;
mod trace;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderName;
use bytes::Bytes;
use salver_core::{BoxFuture, Error, Infer, ModelControl, ModelName, Result};
use salver_jobs::Jobs;
use salver_registry::Registry;
use salver_telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::event_loops::EventLoops;
pub use crate::job_work::JobWork;
pub use crate::limits::Limits;
pub use crate::shared_memory::mapped_client_bytes;

use crate::app::App;
use crate::connection::Shutdown;
use crate::edge::Edge;
use crate::listener::Acceptor;

/// What the server serves.
#[derive(Clone)]
pub struct Services {
    /// Answers inference requests.
    pub infer: Arc<dyn Infer>,
    /// Loads, unloads and lists models.
    pub control: Arc<dyn ModelControl>,
    /// Rendered at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// The name in the server's metadata.
    pub server_name: String,
    /// The version in the server's metadata.
    pub server_version: String,
    /// The model of routes that name none; unset: the only one there is.
    pub default_model: Option<ModelName>,
    /// What is known of models, and what MLflow's clients talk to.
    pub registry: Option<Registry>,
    /// The queue of jobs; none: there is none.
    pub jobs: Option<Jobs>,
    /// Replaces the models of a `models.config` for TF Serving's clients, where that is allowed.
    pub reload: Option<Arc<dyn ReloadConfig>>,
}

/// Replaces the list of models that a server was started with.
pub trait ReloadConfig: Send + Sync + 'static {
    /// Serves the models of `config`, an encoded `tensorflow.serving.ModelServerConfig`, instead of
    /// those listed before, and returns once they serve.
    ///
    /// # Errors
    /// `InvalidInput` naming what is wrong with the list, or with the model that does not load.
    fn reload(&self, config: Bytes) -> BoxFuture<'_, Result<()>>;
}

/// Renders the message that a job has ended: JSON, described in `docs/jobs.md`.
pub fn job_event(job: &salver_jobs::Job) -> Bytes {
    http::job_event(job).to_string().into()
}

/// How the server listens.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where HTTP and gRPC are answered.
    pub http: SocketAddr,
    /// A second address that answers the same, for clients that expect gRPC on a port of its own.
    pub grpc: Option<SocketAddr>,
    /// Bounds on requests and connections.
    pub limits: Limits,
    /// Origins whose pages may read replies; `*` for all. None: browsers keep replies to the
    /// server's own pages.
    pub cors: Vec<String>,
    /// Names that requests may have in `Host` besides those of this machine; `*` for all. None: all,
    /// where the server listens for other machines.
    pub allowed_hosts: Vec<String>,
    /// Whether `/bench/constant` answers.
    pub constant_route: bool,
    /// How long requests in flight may take once shutdown began.
    pub shutdown_grace: Duration,
    /// Whether clients may load and unload models.
    pub explicit_control: bool,
    /// Whether clients may name shared memory of this machine for the server to read and write.
    pub client_shared_memory: bool,
    /// Whether `/metrics` has Triton's names for its counters besides.
    pub triton_metrics: bool,
    /// The header in which a proxy in front says who submits a job; none: callers are told apart by
    /// their addresses.
    pub caller_header: Option<HeaderName>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            http: SocketAddr::from(([127, 0, 0, 1], 8080)),
            grpc: Some(SocketAddr::from(([127, 0, 0, 1], 8081))),
            limits: Limits::default(),
            cors: Vec::new(),
            allowed_hosts: Vec::new(),
            constant_route: false,
            shutdown_grace: Duration::from_secs(30),
            explicit_control: false,
            client_shared_memory: false,
            triton_metrics: false,
            caller_header: None,
        }
    }
}

/// A server whose addresses are taken; connections wait until [`BoundServer::serve`].
pub struct BoundServer {
    listeners: Vec<TcpListener>,
    http_addr: SocketAddr,
    grpc_addr: Option<SocketAddr>,
    app: Arc<App>,
}

/// Takes the addresses.
///
/// # Errors
/// `InvalidInput` for a CORS origin or a host that is none, `Engine` naming the address that cannot be
/// listened on and why, or where shared memory is allowed and the system has none.
pub async fn bind(services: Services, options: ServerOptions) -> Result<BoundServer> {
    let (http, grpc) = (options.http, options.grpc);
    let app = App::new(services, options)?;
    let (listener, http_addr) = listen(http).await?;
    let mut server = BoundServer { listeners: vec![listener], http_addr, grpc_addr: None, app };
    if let Some(grpc) = grpc {
        let (listener, grpc_addr) = listen(grpc).await?;
        server.listeners.push(listener);
        server.grpc_addr = Some(grpc_addr);
    }
    Ok(server)
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok::<_, io::Error>((listener, address))
    };
    bound.await.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "; another program uses it: stop that one or choose another port",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges: choose a higher one",
            _ => "",
        };
        Error::engine(format!("cannot listen on {address}: {error}{advice}")).with_source(error)
    })
}

impl BoundServer {
    /// Returns the address that answers HTTP and gRPC.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Returns the second address, where there is one.
    pub fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc_addr
    }

    /// Serves until `shutdown` is cancelled, then finishes what is in flight within the grace.
    /// Connections are spread over `loops`; what may take long runs where this does.
    ///
    /// Dropping the future ends everything at once.
    ///
    /// # Errors
    /// `Deadline` if requests were still in flight at the end of the grace and were dropped.
    pub async fn serve(self, loops: Arc<EventLoops>, shutdown: CancellationToken) -> Result<()> {
        let Self { listeners, app, .. } = self;
        let grace = app.options.shutdown_grace;
        let phases = app.shutdown.clone();
        // Whoever drops this future drops the HTTP/2 streams too, which run in tasks of their own.
        let _abort_on_drop = phases.abort.clone().drop_guard();
        let streams = TaskTracker::new();
        let builder = Arc::new(connection::builder(&app.options.limits, streams.clone(), &phases));
        let elsewhere = (!loops.is_empty()).then(Handle::current);
        let edge = Arc::new(Edge::new(app, elsewhere));
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            let (edge, builder, shutdown, loops) = (edge.clone(), builder.clone(), phases.clone(), loops.clone());
            acceptors.spawn(Acceptor { listener, loops, edge, builder, shutdown }.run());
        }
        shutdown.cancelled().await;
        phases.drain.cancel();
        let finished = async {
            while acceptors.join_next().await.is_some() {}
            streams.close();
            streams.wait().await;
        };
        if tokio::time::timeout(grace, finished).await.is_ok() {
            return Ok(());
        }
        phases.abort.cancel();
        while acceptors.join_next().await.is_some() {}
        let message = format!("requests were still in flight after {} ms of grace and were dropped", grace.as_millis());
        Err(Error::new(salver_core::ErrorKind::Deadline, message))
    }
}

impl Shutdown {
    /// Whether the server has begun to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }
}
