//! To be written.

use std::sync::Arc;

use salver_core::{Error, ImageSpec, Result, Signature, Task};

pub(crate) fn make(_spec: &ImageSpec, _graph: &Signature) -> Result<Arc<dyn Task>> {
    Err(Error::unsupported("not offered yet"))
}
