//! To be written.

use std::sync::Arc;

use salver_core::{Error, Result, Signature, TabularSpec, Task};

pub(crate) fn make(_spec: &TabularSpec, _graph: &Signature) -> Result<Arc<dyn Task>> {
    Err(Error::unsupported("not offered yet"))
}
