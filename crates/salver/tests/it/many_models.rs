//! Many models under a memory limit that holds few: every answer right, and the process about as
//! large as it may be.
//!
//! Two dozen models of 4 MiB by default; for the full figures, with a release build:
//! `SALVER_MANY_MODELS=300 SALVER_MANY_WIDTH=20600 SALVER_MANY_ROOM=20`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use salver_client::HttpClient;
use salver_core::{Context, ErrorKind, Infer as _, InferRequest, Parameters, Tensor};
use salver_testkit::ServerProcess;

use crate::support::{PATIENCE, options, succeed};

/// Inputs and outputs of each model.
const FEATURES: usize = 64;

fn from_env(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The wire format of protobuf, as far as a model needs it.
mod proto {
    pub(super) fn varint(mut value: usize, out: &mut Vec<u8>) {
        while value > 127 {
            out.push((value & 127) as u8 | 128);
            value >>= 7;
        }
        out.push(value as u8);
    }

    pub(super) fn number(field: usize, value: usize, out: &mut Vec<u8>) {
        varint(field << 3, out);
        varint(value, out);
    }

    pub(super) fn bytes(field: usize, value: &[u8], out: &mut Vec<u8>) {
        varint(field << 3 | 2, out);
        varint(value.len(), out);
        out.extend_from_slice(value);
    }

    pub(super) fn message(field: usize, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = Vec::new();
        fill(&mut inner);
        bytes(field, &inner, out);
    }
}

/// The element of the first matrix of model `number`; what it is multiplied with adds up every
/// 64th of a row, so that answers are whole numbers and differ between models.
fn weight(number: usize, row: usize, column: usize) -> f32 {
    ((row + column + number) % 7) as f32
}

/// `y = x · first · second`, with matrices of 64 × `width` and `width` × 64.
fn model(number: usize, width: usize) -> Vec<u8> {
    let matrix = |rows: usize, columns: usize, element: &dyn Fn(usize, usize) -> f32| -> Vec<u8> {
        (0..rows * columns).flat_map(|idx| element(idx / columns, idx % columns).to_le_bytes()).collect()
    };
    let first = matrix(FEATURES, width, &|row, column| weight(number, row, column));
    let second = matrix(width, FEATURES, &|row, column| f32::from(u8::from(row % FEATURES == column)));
    let mut out = Vec::new();
    proto::number(1, 8, &mut out);
    proto::message(7, &mut out, |graph| {
        for [left, right, product] in [["x", "first", "h"], ["h", "second", "y"]] {
            proto::message(1, graph, |node| {
                proto::bytes(1, left.as_bytes(), node);
                proto::bytes(1, right.as_bytes(), node);
                proto::bytes(2, product.as_bytes(), node);
                proto::bytes(4, b"MatMul", node);
            });
        }
        proto::bytes(2, b"many", graph);
        for (name, shape, data) in [("first", [FEATURES, width], &first), ("second", [width, FEATURES], &second)] {
            proto::message(5, graph, |tensor| {
                shape.iter().for_each(|dim| proto::number(1, *dim, tensor));
                proto::number(2, 1, tensor);
                proto::bytes(8, name.as_bytes(), tensor);
                proto::bytes(9, data, tensor);
            });
        }
        for (field, name) in [(11, "x"), (12, "y")] {
            proto::message(field, graph, |value| {
                proto::bytes(1, name.as_bytes(), value);
                proto::message(2, value, |kind| {
                    proto::message(1, kind, |tensor| {
                        proto::number(1, 1, tensor);
                        proto::message(2, tensor, |shape| {
                            proto::message(1, shape, |dim| proto::bytes(2, b"batch", dim));
                            proto::message(1, shape, |dim| proto::number(1, FEATURES, dim));
                        });
                    });
                });
            });
        }
    });
    proto::message(8, &mut out, |opset| {
        proto::bytes(1, b"", opset);
        proto::number(2, 17, opset);
    });
    out
}

/// What model `number` answers to the unit vector `row`.
fn expected(number: usize, width: usize, row: usize) -> Vec<f32> {
    let sum = |output: usize| (output..width).step_by(FEATURES).map(|column| weight(number, row, column)).sum();
    (0..FEATURES).map(sum).collect()
}

fn write_models(folder: &Path, count: usize, width: usize) {
    for number in 0..count {
        let own = folder.join(format!("m{number}/1"));
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("model.onnx"), model(number, width)).unwrap();
    }
}

fn unit_request(model: &str, row: usize) -> InferRequest {
    let mut x = [0f32; FEATURES];
    x[row] = 1.0;
    InferRequest {
        model: model.parse().unwrap(),
        id: None,
        inputs: vec![Tensor::from_slice("x", [1, FEATURES], &x).unwrap()],
        outputs: Vec::new(),
        parameters: Parameters::new(),
    }
}

async fn ask(client: &HttpClient, number: usize, width: usize, row: usize) {
    let request = unit_request(&format!("m{number}"), row);
    let ctx = Context { deadline: Some(Instant::now() + PATIENCE), ..Context::new("many") };
    let response = client.infer(request, ctx).await.unwrap();
    assert_eq!(response.outputs[0].to_vec::<f32>().unwrap(), expected(number, width, row), "model {number}");
}

/// Resident bytes of the server, now and at most.
fn memory(server: &ServerProcess) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
    };
    (field("VmRSS:"), field("VmHWM:"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_models_fit_into_little_memory() {
    let count = from_env("SALVER_MANY_MODELS", 24);
    let width = from_env("SALVER_MANY_WIDTH", 8200);
    let room = from_env("SALVER_MANY_ROOM", 8);
    let turns = from_env("SALVER_MANY_TURNS", 4 * count);
    let folder = tempfile::tempdir().unwrap();
    write_models(folder.path(), count, width);
    let model_bytes = fs::metadata(folder.path().join("m0/1/model.onnx")).unwrap().len();
    // What the process holds with the library and one model, and the other models beside it.
    let limit = 76 * 1024 * 1024 + room as u64 * model_bytes;

    let limit_text = limit.to_string();
    let server = options().arg(folder.path().to_str().unwrap()).arg("--memory-limit").arg(&limit_text).without_grpc();
    let server = server.start();
    let client = Arc::new(ready(&server).await);
    let started = Instant::now();
    let askers: Vec<_> = (0..4usize)
        .map(|asker| {
            let client = client.clone();
            tokio::spawn(async move {
                for turn in 0..turns / 4 {
                    // A few models are asked often, the others now and then.
                    let pick = (asker + turn * 31) % count;
                    let number = if turn % 3 == 0 { pick % 4 } else { pick };
                    ask(&client, number, width, (asker + turn) % FEATURES).await;
                }
            })
        })
        .collect();
    for asker in askers {
        asker.await.unwrap();
    }
    let (now, most) = memory(&server);
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{count} models of {} MiB, limit {} MiB: {turns} requests answered right in {:?}; the process holds {} MiB, \
         at most {} MiB",
        mib(model_bytes),
        mib(limit),
        started.elapsed(),
        mib(now),
        mib(most),
    );
    assert!(most <= limit + limit * 15 / 100, "{most} bytes at most, the limit is {limit}");
    let listed = client.residency(None).await.unwrap();
    let resident = listed["models"].as_array().unwrap().iter().filter(|model| model["resident"].is_object()).count();
    assert!(resident < count && resident >= room / 2, "{resident} of {count} in memory: {listed}");

    succeed(&["models", "pin", "m1", "--server", &server.url("")]);
    let table = succeed(&["models", "show", "m1", "--server", &server.url("")]);
    assert!(table.contains("ready") && table.contains("yes") && table.contains("MiB"), "{table}");
    succeed(&["models", "unpin", "m1", "--server", &server.url("")]);
}

async fn ready(server: &ServerProcess) -> HttpClient {
    let client = HttpClient::new(&server.url("")).unwrap();
    while !client.is_ready().await.unwrap() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client
}

/// Which version answers, if one does.
async fn answering(client: &HttpClient, model: &str) -> Result<u64, ErrorKind> {
    let answer = client.infer(unit_request(model, 1), Context::new("versions")).await;
    answer.map(|response| response.model.version).map_err(|error| error.kind())
}

fn write_version(folder: &Path, version: usize) {
    let draft = folder.join("draft");
    fs::create_dir_all(&draft).unwrap();
    fs::write(draft.join("model.onnx"), model(version, FEATURES)).unwrap();
    fs::rename(draft, folder.join(version.to_string())).unwrap();
}

#[tokio::test]
async fn version_policies_hold_for_what_is_loaded_at_first_use() {
    let folder = tempfile::tempdir().unwrap();
    let policies =
        [("all", "all { }"), ("two", "latest { num_versions: 2 }"), ("some", "specific { versions: [1, 3] }")];
    for (name, policy) in policies {
        let own = folder.path().join(name);
        (1..=3).for_each(|version| write_version(&own, version));
        fs::write(own.join("config.pbtxt"), format!("backend: \"onnxruntime\"\nversion_policy: {{ {policy} }}\n"))
            .unwrap();
    }
    let server =
        options().arg(folder.path().to_str().unwrap()).arg("--memory-limit").arg("4GiB").without_grpc().start();
    let client = ready(&server).await;
    for (model, expected) in [
        ("all/1", Ok(1)),
        ("all", Ok(3)),
        ("all/2", Ok(2)),
        ("two/1", Err(ErrorKind::NotFound)),
        ("two/2", Ok(2)),
        ("two", Ok(3)),
        ("some/2", Err(ErrorKind::NotFound)),
        ("some/1", Ok(1)),
        ("some", Ok(3)),
    ] {
        assert_eq!(answering(&client, model).await, expected, "{model}");
    }
}

#[tokio::test]
async fn a_new_numbered_folder_takes_over_with_polling() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("m");
    write_version(&own, 1);
    let server = options().arg(folder.path().to_str().unwrap()).arg("--memory-limit").arg("4GiB");
    let server = server.arg("--model-control").arg("poll").arg("--poll-interval-ms").arg("20").without_grpc().start();
    let client = ready(&server).await;
    assert_eq!(answering(&client, "m").await, Ok(1));
    write_version(&own, 2);
    let end = Instant::now() + PATIENCE;
    while answering(&client, "m").await != Ok(2) {
        assert!(Instant::now() < end, "version 2 never answered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(answering(&client, "m/1").await, Err(ErrorKind::NotFound));
}
