//! What a model says about its sessions: devices, threads, cores.

use salver_core::{Engine, ErrorKind, InstanceGroup, ModelSpec};
use salver_testkit::{repository_path, run_staged, spec_of, tensor};

fn spec(group: InstanceGroup) -> ModelSpec {
    let mut spec = spec_of(&repository_path("examples/demo/digits/model.onnx"));
    spec.config.instance_groups = vec![group];
    spec
}

#[test]
fn a_device_without_its_provider_is_refused_at_load_with_what_is_missing() {
    let Some(engine) = crate::engine() else { return };
    let library = engine.library().unwrap().path.display().to_string();
    for (kind, accelerator, device, provider, file, package) in [
        ("KIND_GPU", None, "cuda:0", "CUDA", "cuda", "onnxruntime-gpu"),
        ("KIND_GPU", Some("tensorrt"), "tensorrt:0", "TensorRT", "tensorrt", "onnxruntime-gpu"),
        ("KIND_CPU", Some("openvino"), "openvino", "OpenVINO", "openvino", "onnxruntime-openvino"),
    ] {
        let accelerator = accelerator.map(str::to_owned);
        let group = InstanceGroup { kind: kind.to_owned(), accelerator, ..InstanceGroup::default() };
        // A machine whose library has the provider has nothing to refuse, or something else.
        let Err(error) = engine.load(&spec(group)) else { continue };
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().starts_with(&format!("device '{device}': ")), "{error}");
        if !error.message().contains("CPU build") {
            continue;
        }
        assert_eq!(
            error.message(),
            format!(
                "device '{device}': this ONNX Runtime ({library}, CPU build) has no {provider} provider: \
                 libonnxruntime_providers_{file}.so is not beside it; install {package} 1.31 or newer and point \
                 --ort-lib at its capi folder"
            )
        );
    }
    let group = InstanceGroup { accelerator: Some("abacus".to_owned()), ..InstanceGroup::default() };
    let error = engine.load(&spec(group)).err().unwrap();
    assert!(error.message().starts_with("device 'abacus': the engine 'onnx' knows 'cpu'"), "{error}");
}

#[test]
fn any_number_of_threads_gives_the_same_answer() {
    let Some(engine) = crate::engine() else { return };
    let pictures: Vec<f32> = (0..8 * 64).map(|idx| (idx % 17) as f32).collect();
    let answer = |group: InstanceGroup| -> Vec<f32> {
        let placement = salver_core::Placement { device: "cpu".to_owned(), threads: group.threads, core: None };
        let model = engine.load(&spec(group)).unwrap();
        let name = model.signature().inputs[0].name.clone();
        let mut instance = model.instance(&placement).unwrap();
        let outputs = run_staged(&mut *instance, &[tensor(&name, &[8, 1, 8, 8], &pictures)]).unwrap();
        outputs[0].to_vec().expect("FP32")
    };
    let alone = answer(InstanceGroup::default());
    for (threads, inter_threads, cores) in [(2, 1, vec![]), (1, 2, vec![]), (2, 2, vec![]), (3, 1, vec![0])] {
        let shown = format!("{threads} threads, {inter_threads} operators, cores {cores:?}");
        let several = answer(InstanceGroup { threads, inter_threads, cores, ..InstanceGroup::default() });
        assert!(several.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-4), "{shown}");
    }
}
