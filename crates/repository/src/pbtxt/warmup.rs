//! The `model_warmup` blocks of `config.pbtxt`. Files are named here; `triton.rs` finds them.

use std::path::PathBuf;

use salver_core::{WarmupData, WarmupInput, WarmupRequest};

use super::tensors;
use crate::schema::triton::{self as proto, model_warmup::input::InputDataType};
use crate::text::{Checked, Fault};

pub(super) fn requests(requests: &[proto::ModelWarmup]) -> Checked<Vec<WarmupRequest>> {
    requests.iter().enumerate().map(|(idx, request)| convert_request(idx, request)).collect()
}

fn convert_request(idx: usize, request: &proto::ModelWarmup) -> Checked<WarmupRequest> {
    let inputs = request.inputs.iter().map(|(name, input)| {
        let shown = format!("model_warmup '{}', input '{}'", request.name.escape_debug(), name.escape_debug());
        let within = |fault: Fault| fault.within(&format!("model_warmup[{idx}].inputs[{name}]"), &shown);
        convert_input(name, input).map_err(within)
    });
    Ok(WarmupRequest {
        name: request.name.clone(),
        batch_size: usize::try_from(request.batch_size).unwrap_or(usize::MAX),
        count: usize::try_from(request.count.max(1)).unwrap_or(usize::MAX),
        inputs: inputs.collect::<Checked<_>>()?,
    })
}

fn convert_input(name: &str, input: &proto::model_warmup::Input) -> Checked<WarmupInput> {
    let Some(dtype) = tensors::data_type(input.data_type()) else {
        return Err(Fault::invalid("data_type", "data_type is missing"));
    };
    let dim = |&dim: &i64| {
        let extent = usize::try_from(dim).ok().filter(|&extent| extent > 0);
        extent.ok_or_else(|| Fault::invalid("dims", format!("dims must be 1 or more, got {dim}")))
    };
    let data = match &input.input_data_type {
        Some(InputDataType::RandomData(true)) => WarmupData::Random,
        Some(InputDataType::InputDataFile(name)) => WarmupData::File { name: name.clone(), path: PathBuf::new() },
        Some(InputDataType::RandomData(false) | InputDataType::ZeroData(_)) | None => WarmupData::Zeros,
    };
    Ok(WarmupInput { name: name.to_owned(), dtype, dims: input.dims.iter().map(dim).collect::<Checked<_>>()?, data })
}
