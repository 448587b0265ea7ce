//! What tells the series of a family apart. Names of models come from what is loaded, the rest
//! from fixed lists.

use prometheus_client::encoding::EncodeLabelSet;

use super::cache::CacheResult;
use super::features::LookupResult;
use super::model::{Outcome, Replaced, Stage};
use super::remote::RemoteOutcome;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ModelLabels {
    pub(super) model: String,
    pub(super) version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    model: String,
    version: u64,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DependencyLabels {
    pub(super) dependency: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct JobStateLabels {
    pub(super) state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct JobOutcomeLabels {
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StageLabels {
    model: String,
    version: u64,
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReplacedLabels {
    model: String,
    version: u64,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StateLabels {
    pub(super) model: String,
    pub(super) version: u64,
    pub(super) state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) protocol: &'static str,
    pub(super) code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct NameLabels {
    pub(super) model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LoadLabels {
    pub(super) model: String,
    pub(super) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CacheLabels {
    model: String,
    version: u64,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LookupLabels {
    model: String,
    version: u64,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RemoteOutcomeLabels {
    model: String,
    version: u64,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TokenLabels {
    model: String,
    version: u64,
    kind: &'static str,
}

impl ModelLabels {
    pub(super) fn with_remote_outcome(&self, outcome: RemoteOutcome) -> RemoteOutcomeLabels {
        RemoteOutcomeLabels { model: self.model.clone(), version: self.version, outcome: outcome.as_str() }
    }

    pub(super) fn with_tokens(&self, kind: &'static str) -> TokenLabels {
        TokenLabels { model: self.model.clone(), version: self.version, kind }
    }

    pub(super) fn with_outcome(&self, outcome: Outcome) -> OutcomeLabels {
        OutcomeLabels { model: self.model.clone(), version: self.version, status: outcome.as_str() }
    }

    pub(super) fn with_stage(&self, stage: Stage) -> StageLabels {
        StageLabels { model: self.model.clone(), version: self.version, stage: stage.as_str() }
    }

    pub(super) fn with_result(&self, result: CacheResult) -> CacheLabels {
        CacheLabels { model: self.model.clone(), version: self.version, result: result.as_str() }
    }

    pub(super) fn with_lookup(&self, result: LookupResult) -> LookupLabels {
        LookupLabels { model: self.model.clone(), version: self.version, result: result.as_str() }
    }

    pub(super) fn with_reason(&self, reason: Replaced) -> ReplacedLabels {
        ReplacedLabels { model: self.model.clone(), version: self.version, reason: reason.as_str() }
    }
}
