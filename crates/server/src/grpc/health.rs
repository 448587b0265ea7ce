//! `grpc.health.v1.Health`, as live as `/v2/health/ready`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::app::App;

/// How often a watcher's answer is looked at anew.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
const INFERENCE_SERVICE: &str = "inference.GRPCInferenceService";

pub(super) fn service(app: Arc<App>) -> HealthServer<LiveHealth> {
    HealthServer::new(LiveHealth { app })
}

pub(super) struct LiveHealth {
    app: Arc<App>,
}

fn status_of(app: &App, service: &str) -> ServingStatus {
    match service {
        "" | INFERENCE_SERVICE if app.is_ready() => ServingStatus::Serving,
        "" | INFERENCE_SERVICE => ServingStatus::NotServing,
        _ => ServingStatus::ServiceUnknown,
    }
}

fn reply(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// What a watcher was told last.
struct Watch {
    app: Arc<App>,
    service: String,
    told: Option<ServingStatus>,
}

impl Watch {
    /// Waits for a change. The stream ends when the server stops, after its last word on it.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Self)> {
        loop {
            let is_draining = self.app.shutdown.is_draining();
            let status = status_of(&self.app, &self.service);
            if self.told != Some(status) {
                self.told = Some(status);
                return Some((Ok(reply(status)), self));
            }
            if is_draining {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
                () = self.app.shutdown.drain.cancelled() => {}
            }
        }
    }
}

#[tonic::async_trait]
impl Health for LiveHealth {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match status_of(&self.app, &request.get_ref().service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("no such service")),
            status => Ok(Response::new(reply(status))),
        }
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let watch = Watch { app: self.app.clone(), service: request.into_inner().service, told: None };
        Ok(Response::new(Box::pin(stream::unfold(watch, Watch::next))))
    }
}
