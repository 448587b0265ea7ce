//! A function as a model that is loaded, and its instances.

use std::sync::Arc;

use salver_core::{BatchLayout, Error, Inputs, Instance, Model, Placement, Result, Signature, StagingBuffer, Tensor};

use super::Function;
use super::view::{View, in_order};

/// A function, shared by its instances.
#[derive(Debug)]
pub(super) struct Builtin {
    function: Arc<dyn Function>,
}

impl Builtin {
    pub(super) fn new(function: Arc<dyn Function>) -> Self {
        Self { function }
    }
}

impl Model for Builtin {
    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn memory_bytes(&self) -> u64 {
        self.function.memory_bytes()
    }

    fn instance(&self, placement: &Placement) -> Result<Box<dyn Instance>> {
        if placement.device != "cpu" {
            return Err(Error::unsupported(format!(
                "device '{}': the engine 'builtin' runs on 'cpu' only; leave [instances] device out",
                placement.device
            )));
        }
        Ok(Box::new(Running { function: self.function.clone(), staging: StagingBuffer::default() }))
    }
}

struct Running {
    function: Arc<dyn Function>,
    staging: StagingBuffer,
}

impl Instance for Running {
    fn input_buffer(&mut self, layout: &BatchLayout) -> Result<&mut [u8]> {
        self.staging.resize(layout.total_len)
    }

    fn run(&mut self, inputs: Inputs<'_>) -> Result<Vec<Tensor>> {
        let given: Vec<View<'_>> = match inputs {
            Inputs::Staged(layout) => {
                let buffer = self.staging.bytes();
                layout.inputs.iter().map(|input| View::staged(input, buffer)).collect::<Result<_>>()?
            }
            Inputs::Direct(tensors) => tensors.iter().map(View::from).collect(),
        };
        self.function.run(&in_order(self.function.signature(), &given)?)
    }

    /// Nothing stays behind from one run to the next.
    fn is_sound(&mut self, _failed: bool) -> bool {
        true
    }
}
