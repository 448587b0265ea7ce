//! Starts a server with the fake models on ports of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use salver_core::{ModelName, Result};
use salver_server::{EventLoops, ServerOptions, Services, bind};
use salver_telemetry::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake::Fake;
use crate::raw::{Raw, RawReply};

/// A request to `echo` over the Open Inference Protocol.
pub(crate) const OIP_BODY: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1.5,2]}]}"#;

pub(crate) struct TestServer {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) fake: Arc<Fake>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<()>>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let mut options = ServerOptions {
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
            grpc: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            shutdown_grace: Duration::from_secs(20),
            explicit_control: true,
            ..ServerOptions::default()
        };
        options.limits.drain_linger = Duration::from_millis(50);
        change(&mut options);
        let fake = Fake::new();
        let services = Services {
            infer: fake.clone(),
            control: fake.clone(),
            metrics: Metrics::new(),
            server_name: "salver".to_owned(),
            server_version: "1.2.3".to_owned(),
            default_model: Some(ModelName::new("echo").unwrap()),
            registry: None,
            jobs: None,
            reload: None,
        };
        let bound = bind(services, options).await.unwrap();
        let (http, grpc) = (bound.http_addr(), bound.grpc_addr().unwrap_or_else(|| bound.http_addr()));
        let shutdown = CancellationToken::new();
        let loops = Arc::new(EventLoops::start(2).unwrap());
        let task = tokio::spawn(bound.serve(loops, shutdown.clone()));
        Self { http, grpc, fake, shutdown, task }
    }

    pub(crate) async fn raw(&self) -> Raw {
        Raw::connect(self.http).await
    }

    pub(crate) async fn get(&self, path: &str) -> RawReply {
        self.raw().await.get(path, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> RawReply {
        self.raw().await.post(path, "", body).await
    }
}
