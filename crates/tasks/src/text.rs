//! To be written.

use std::sync::Arc;

use salver_core::{Error, Result, Signature, Task, TextSpec};

pub(crate) fn make(_spec: &TextSpec, _graph: &Signature) -> Result<Arc<dyn Task>> {
    Err(Error::unsupported("not offered yet"))
}
