//! The `instance_group` blocks of `config.pbtxt`, and what else says how executions run: thread
//! counts and execution accelerators.

use salver_core::InstanceGroup;

use super::parameters;
use crate::limits::COUNT_LIMIT;
use crate::schema::triton::{
    self as proto, model_instance_group::Kind, model_optimization_policy::execution_accelerators::Accelerator,
};
use crate::text::{Checked, Fault};

/// What holds for every group of a model.
struct Shared {
    threads: Option<usize>,
    inter_threads: Option<usize>,
    gpu_accelerator: Option<String>,
    cpu_accelerator: Option<String>,
}

/// No group and nothing to say about one: none, the runtime decides. A thread count or a CPU
/// accelerator alone: Triton's default group, so that it has an effect.
pub(super) fn instance_groups(config: &proto::ModelConfig) -> Checked<Vec<InstanceGroup>> {
    let accelerators = config.optimization.as_ref().and_then(|policy| policy.execution_accelerators.as_ref());
    let gpu = accelerators.map(|all| all.gpu_execution_accelerator.as_slice()).unwrap_or_default();
    let cpu = accelerators.map(|all| all.cpu_execution_accelerator.as_slice()).unwrap_or_default();
    let shared = Shared {
        threads: parameters::intra_threads(&config.parameters)?,
        inter_threads: parameters::inter_threads(&config.parameters)?,
        // The ONNX Runtime backend takes `cuda` too; that is the provider of a GPU anyway.
        gpu_accelerator: accelerator(gpu, "gpu_execution_accelerator", "tensorrt", Some("cuda"))?,
        cpu_accelerator: accelerator(cpu, "cpu_execution_accelerator", "openvino", None)?,
    };
    let says_something = shared.threads.is_some() || shared.inter_threads.is_some() || shared.cpu_accelerator.is_some();
    let default = proto::ModelInstanceGroup::default();
    let groups = match config.instance_group.as_slice() {
        [] if says_something => std::slice::from_ref(&default),
        groups => groups,
    };
    let convert = |(idx, group): (usize, &proto::ModelInstanceGroup)| {
        let shown = format!("instance_group '{}'", group.name.escape_debug());
        instance_group(group, &shared).map_err(|fault| fault.within(&format!("instance_group[{idx}]"), &shown))
    };
    groups.iter().enumerate().map(convert).collect()
}

fn instance_group(group: &proto::ModelInstanceGroup, shared: &Shared) -> Checked<InstanceGroup> {
    let most = usize::try_from(COUNT_LIMIT).unwrap_or(usize::MAX);
    let count = usize::try_from(group.count).ok().filter(|count| *count <= most);
    let count = count.ok_or_else(|| {
        Fault::invalid("count", format!("count must be from 1 to {COUNT_LIMIT}, got {}", group.count))
    })?;
    let is_gpu = group.kind() == Kind::Gpu;
    check_gpus(group)?;
    let accelerator = if is_gpu { &shared.gpu_accelerator } else { &shared.cpu_accelerator };
    Ok(InstanceGroup {
        name: group.name.clone(),
        count: count.max(1),
        kind: group.kind().as_str_name().to_owned(),
        gpus: group.gpus.clone(),
        accelerator: accelerator.clone(),
        threads: shared.threads.unwrap_or(1),
        inter_threads: shared.inter_threads.unwrap_or(1),
        ..InstanceGroup::default()
    })
}

fn check_gpus(group: &proto::ModelInstanceGroup) -> Checked<()> {
    if let Some(idx) = group.gpus.iter().position(|gpu| !(0..=255).contains(gpu)) {
        let message = format!("gpus must be from 0 to 255, got {}", group.gpus[idx]);
        return Err(Fault::invalid(format!("gpus[{idx}]"), message));
    }
    if group.kind() == Kind::Cpu && !group.gpus.is_empty() {
        return Err(Fault::invalid("gpus", "gpus must be left out where kind is KIND_CPU"));
    }
    Ok(())
}

/// Returns the accelerator named, if it is the one that is offered.
fn accelerator(list: &[Accelerator], field: &str, offered: &str, plain: Option<&str>) -> Checked<Option<String>> {
    let is_plain = |accelerator: &Accelerator| plain == Some(accelerator.name.as_str());
    if let Some(idx) = list.iter().position(|accelerator| accelerator.name != offered && !is_plain(accelerator)) {
        let path = format!("optimization.execution_accelerators.{field}[{idx}]");
        let message = format!("{field} '{}' is not offered; only '{offered}' is", list[idx].name.escape_debug());
        return Err(Fault::unsupported(path, message));
    }
    let is_asked = list.iter().any(|accelerator| accelerator.name == offered);
    Ok(is_asked.then(|| offered.to_owned()))
}
