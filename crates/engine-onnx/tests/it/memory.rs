//! Memory: what models held goes back to the system, and so does what an unusually large run took.
//!
//! The resident size is that of a process, so each measurement has one of its own.

use std::path::Path;
use std::process::Command;

use salver_core::{Engine, Inputs, Instance, Placement};
use salver_testkit::{spec_of, tensor};

/// Width of a layer: its weights are 1 MiB.
const WIDTH: usize = 512;
const LAYERS: usize = 10;
const MIB: usize = 1 << 20;
const CHILD: &str = "SALVER_TEST_MEMORY_CHILD";

#[test]
fn memory_goes_back_after_unloading_and_after_an_unusually_large_run() {
    let Some(engine) = crate::engine() else {
        return;
    };
    if std::env::var_os(CHILD).is_some() {
        return measure(engine);
    }
    let name = "memory::memory_goes_back_after_unloading_and_after_an_unusually_large_run";
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", name, "--nocapture", "--test-threads=1"];
    let child = Command::new(program).args(arguments).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

/// Runs in a process of its own.
fn measure(engine: &dyn Engine) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("layers.onnx");
    std::fs::write(&path, layers()).expect("write the model");
    // What the library takes once is not the models'.
    drop(engine.load(&spec_of(&path)).expect("load the model"));
    let base = resident();

    let models: Vec<_> = (0..3).map(|_| engine.load(&spec_of(&path)).expect("load the model")).collect();
    let mut instances: Vec<_> = models.iter().map(|model| model.instance(&cpu()).expect("an instance")).collect();
    instances.iter_mut().for_each(|instance| run(&mut **instance, 8));
    let loaded = resident() - base;
    let weights = 3 * LAYERS * MIB;
    assert!((weights..weights * 3 / 2).contains(&loaded), "{loaded} bytes hold {weights} of weights");

    // 16 MiB of input, and as much again for each value in between; the output holds its own on.
    run(&mut *instances[0], 16 * MIB / WIDTH / 4);
    let large = resident() - base;
    run(&mut *instances[0], 8);
    let after = resident() - base;
    assert!(large > loaded + 12 * MIB, "the large run took only {} bytes", large - loaded);
    assert!(after < loaded + 4 * MIB, "{} bytes stayed of {}", after - loaded, large - loaded);

    drop((instances, models));
    let left = resident().saturating_sub(base);
    assert!(left < weights / 4, "{left} bytes stayed of {loaded}");
}

fn cpu() -> Placement {
    Placement { device: "cpu".to_owned(), threads: 1, core: None }
}

fn run(instance: &mut dyn Instance, rows: usize) {
    let input = tensor("x", &[rows, WIDTH], &vec![1.0f32; rows * WIDTH]);
    instance.run(Inputs::Direct(&[input])).expect("a run");
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string(Path::new("/proc/self/statm")).expect("Linux");
    let pages: usize = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// An ONNX file of matrix products with weights of their own: protobuf by hand, field by field.
fn layers() -> Vec<u8> {
    let mut graph = Vec::new();
    for idx in 0..LAYERS {
        let (from, to) = (value(idx), value(idx + 1));
        let node = [text(1, &from), text(1, &format!("w{idx}")), text(2, &to), text(4, "MatMul")].concat();
        graph.extend(bytes(1, &node));
    }
    graph.extend(text(2, "layers"));
    for idx in 0..LAYERS {
        let dims = [number(1, WIDTH), number(1, WIDTH)].concat();
        let tensor = [dims, number(2, 1), text(8, &format!("w{idx}")), bytes(9, &weights(idx))].concat();
        graph.extend(bytes(5, &tensor));
    }
    graph.extend(bytes(11, &matrix(&value(0))));
    graph.extend(bytes(12, &matrix(&value(LAYERS))));
    [number(1, 8), bytes(8, &number(2, 17)), bytes(7, &graph)].concat()
}

/// Different for each layer: the library keeps equal ones once.
fn weights(layer: usize) -> Vec<u8> {
    ((layer + 1) as f32 * 1e-4).to_le_bytes().repeat(WIDTH * WIDTH)
}

fn value(idx: usize) -> String {
    if idx == 0 { "x".to_owned() } else { format!("v{idx}") }
}

/// An FP32 matrix of any number of rows.
fn matrix(name: &str) -> Vec<u8> {
    let shape = [bytes(1, &text(2, "rows")), bytes(1, &number(1, WIDTH))].concat();
    let tensor = [number(1, 1), bytes(2, &shape)].concat();
    [text(1, name), bytes(2, &bytes(1, &tensor))].concat()
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

fn number(field: usize, number: usize) -> Vec<u8> {
    [varint(field << 3), varint(number)].concat()
}

fn bytes(field: usize, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len()), content.to_vec()].concat()
}

fn text(field: usize, content: &str) -> Vec<u8> {
    bytes(field, content.as_bytes())
}
