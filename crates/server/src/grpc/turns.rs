//! Keeps the requests of each sequence in the order of their stream: they are decoded side by side,
//! and a large one takes longer.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use salver_protocol::oip_grpc::inference::ModelInferRequest;
use salver_protocol::oip_grpc::inference::infer_parameter::ParameterChoice;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// One stream's sequences that have a request under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<String, Arc<Turn<()>>>>>);

impl Turns {
    /// Waits until the earlier requests of the same sequence are answered; those that ask earlier go
    /// first. None: the request belongs to no sequence.
    pub(super) async fn wait(&self, message: &ModelInferRequest) -> Option<OwnedMutexGuard<()>> {
        let name = name(message)?;
        let turn = {
            let mut turns = self.0.lock();
            // As many are left as requests are under way.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(name).or_default().clone()
        };
        Some(turn.lock_owned().await)
    }
}

fn name(message: &ModelInferRequest) -> Option<String> {
    let id = match message.parameters.get("sequence_id")?.parameter_choice.as_ref()? {
        ParameterChoice::Int64Param(id) => id.to_string(),
        ParameterChoice::Uint64Param(id) => id.to_string(),
        ParameterChoice::StringParam(id) => format!("'{id}"),
        _ => return None,
    };
    Some(format!("{}/{id}", message.model_name))
}
