//! What a runtime offers: inference, and control over its models.

use std::sync::Arc;
use std::time::Instant;

use salver_core::{
    Backing, BoxFuture, BoxStream, Context, EnsembleGraph, Error, Infer, InferRequest, InferResponse, Inferred,
    LoadOverride, MemoryUse, ModelConfig, ModelControl, ModelInfo, ModelName, ModelRef, ModelStatistics, ModelStatus,
    OnMiss, ResidentModel, Result,
};

use crate::Runtime;
use crate::pieces::Pieces;
use crate::table::Found;

impl Infer for Runtime {
    fn infer(&self, mut request: InferRequest, ctx: Context) -> BoxFuture<'_, Result<InferResponse>> {
        Box::pin(async move { self.infer_here(&mut request, &ctx).await })
    }

    fn infer_or_defer(&self, request: InferRequest, ctx: Context) -> BoxFuture<'_, Result<Inferred>> {
        Box::pin(async move { self.infer_or_leave(request, &ctx).await })
    }

    fn may_defer(&self, model: &ModelRef) -> bool {
        match self.lifecycle.table.load().find(model) {
            Found::Resident(slot) => slot.spec.config.on_miss == OnMiss::Job,
            Found::Dormant(dormant) => dormant.spec.config.on_miss == OnMiss::Job,
            Found::Missing => false,
        }
    }

    fn infer_stream(self: Arc<Self>, request: InferRequest, ctx: Context) -> BoxStream<'static, Result<InferResponse>> {
        Box::pin(Pieces::new(move |inlet| Box::pin(self.drive(request, ctx, inlet))))
    }

    fn is_decoupled(&self, model: &ModelRef) -> bool {
        match self.lifecycle.table.load().find(model) {
            Found::Resident(slot) => slot.is_decoupled,
            Found::Dormant(dormant) => dormant.known.as_ref().is_some_and(|known| known.config.decoupled),
            Found::Missing => false,
        }
    }

    fn wake<'a>(&'a self, model: &'a ModelRef, deadline: Option<Instant>) -> Option<BoxFuture<'a, Result<()>>> {
        match self.lifecycle.table.load().find(model) {
            // What was in memory before is known well enough.
            Found::Dormant(dormant) if dormant.known.is_none() => {}
            Found::Dormant(_) | Found::Resident(_) | Found::Missing => return None,
        }
        Some(Box::pin(async move { self.lifecycle.slot(model, deadline).await.map(drop) }))
    }

    fn describe(&self, model: &ModelRef) -> Result<Arc<ModelInfo>> {
        let table = self.lifecycle.table.load();
        let info = match table.find(model) {
            Found::Resident(slot) => Some(&slot.info),
            Found::Dormant(dormant) => dormant.known.as_ref().map(|known| &known.info),
            Found::Missing => None,
        };
        info.cloned().ok_or_else(|| self.explain(model))
    }
}

impl ModelControl for Runtime {
    fn index(&self) -> Vec<ModelStatus> {
        self.lifecycle.board.index()
    }

    fn engines(&self) -> Vec<String> {
        self.lifecycle.engines()
    }

    fn is_ready(&self) -> bool {
        // What is loaded at first use is not missing while it is not used.
        let counts = |name: &str| self.options.residency.is_none() || self.lifecycle.residency.is_pinned(name);
        self.lifecycle.has_started() && self.lifecycle.board.is_ready(counts)
    }

    fn is_model_ready(&self, model: &ModelRef) -> bool {
        self.lifecycle.would_answer(model)
    }

    fn load<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.load_named(model))
    }

    fn load_with<'a>(&'a self, model: &'a str, by: LoadOverride) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.load_overridden(model, by))
    }

    fn unload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.explicit()?;
            match ModelName::new(model) {
                Ok(name) => self.unload_named(&name).await,
                Err(_) => Ok(()),
            }
        })
    }

    fn resident(&self) -> Vec<ResidentModel> {
        self.lifecycle.resident()
    }

    fn memory(&self) -> MemoryUse {
        let limit_bytes = self.options.residency.as_ref().map(|residency| residency.memory_limit);
        MemoryUse { resident_bytes: self.lifecycle.residency.used(), limit_bytes }
    }

    fn pin<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.pin_named(model))
    }

    fn unpin(&self, model: &str) -> Result<()> {
        self.lifecycle.set_pinned(&self.known(model)?, false);
        Ok(())
    }

    fn statistics(&self, model: Option<&ModelRef>) -> Result<Vec<ModelStatistics>> {
        let mut all: Vec<ModelStatistics> = self.slots_of(model)?.iter().map(|slot| slot.statistics()).collect();
        all.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
        Ok(all)
    }

    fn config(&self, model: &ModelRef) -> Result<ModelConfig> {
        let table = self.lifecycle.table.load();
        let config = match table.find(model) {
            Found::Resident(slot) => Some(&slot.interface.config),
            Found::Dormant(dormant) => dormant.known.as_ref().map(|known| &known.config),
            Found::Missing => None,
        };
        config.cloned().ok_or_else(|| self.explain(model))
    }

    fn graph(&self, model: &ModelRef) -> Result<EnsembleGraph> {
        let table = self.lifecycle.table.load();
        let Found::Resident(slot) = table.find(model) else {
            return Err(self.explain(model));
        };
        match (&slot.spec.backing, slot.ensemble.get()) {
            (Backing::Ensemble(own), Some(served)) => Ok(served.describe(own, &slot.info)),
            _ => Err(Error::invalid_input(format!("model '{model}' is no ensemble: it has no steps"))),
        }
    }

    fn purge_cache<'a>(&'a self, model: Option<&'a ModelRef>) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let slots = self.slots_of(model)?;
            match &self.cache {
                Some(cache) => cache.purge(&slots, model.map(|model| &*model.name)).await,
                None => Ok(0),
            }
        })
    }
}
