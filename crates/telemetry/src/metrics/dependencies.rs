//! What a server leans on beside its models, and whether it answers. Requests do without it while
//! it is away, so that is no reason to be unready, but one to look.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Metrics;
use super::labels::DependencyLabels;

/// Something outside the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependency {
    /// Where servers share cached answers.
    SharedCache,
    /// Where jobs are kept.
    JobQueue,
}

impl Dependency {
    const ALL: [Self; 2] = [Self::SharedCache, Self::JobQueue];

    /// Returns the name in metrics and in answers about readiness.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SharedCache => "shared_cache",
            Self::JobQueue => "job_queue",
        }
    }

    const fn labels(self) -> DependencyLabels {
        DependencyLabels { dependency: self.as_str() }
    }
}

/// Whether each dependency answers; shown from when something is known of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Dependencies {
    pub(super) up: Family<DependencyLabels, Gauge>,
}

impl Dependencies {
    pub(super) fn set(&self, dependency: Dependency, answers: bool) {
        self.up.get_or_create(&dependency.labels()).set(i64::from(answers));
    }

    fn is_down(&self, dependency: Dependency) -> bool {
        self.up.get(&dependency.labels()).is_some_and(|up| up.get() == 0)
    }
}

impl Metrics {
    /// Returns the dependencies that do not answer.
    pub fn degraded(&self) -> Vec<Dependency> {
        Dependency::ALL.into_iter().filter(|dependency| self.dependencies.is_down(*dependency)).collect()
    }
}
