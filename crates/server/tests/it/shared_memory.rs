//! System shared memory over both protocols: off by default, and kept by who has begun.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

use salver_protocol::oip_grpc::inference as wire;
use serde_json::json;
use tonic::Code;
use wire::infer_parameter::ParameterChoice;
use wire::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};

use crate::grpc::client;
use crate::raw::Raw;
use crate::server::TestServer;

/// An object in the system's folder, removed at the end.
struct Object {
    name: String,
    path: PathBuf,
}

impl Object {
    fn new(content: &[u8]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("salver_it_{}_{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from("/dev/shm").join(&name);
        fs::write(&path, content).unwrap();
        Self { name, path }
    }

    fn content(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn sharing() -> TestServer {
    TestServer::with(|options| options.client_shared_memory = true).await
}

/// Registers the first 8 bytes of an object as `in` and the rest as `out`.
async fn register(server: &TestServer, object: &Object) {
    for (name, offset, byte_size) in [("in", 0, 8), ("out", 8, 16)] {
        let body = json!({ "key": object.name, "offset": offset, "byte_size": byte_size }).to_string();
        let reply = server.post(&format!("/v2/systemsharedmemory/region/{name}/register"), body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

fn body() -> String {
    json!({
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 2],
            "parameters": { "shared_memory_region": "in", "shared_memory_byte_size": 8 } }],
        "outputs": [{ "name": "y",
            "parameters": { "shared_memory_region": "out", "shared_memory_byte_size": 12, "shared_memory_offset": 4 } }],
    })
    .to_string()
}

fn message(model: &str) -> wire::ModelInferRequest {
    let whole = |number| wire::InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(number)) };
    let parameters = |region: &str, size, offset| {
        let region = ParameterChoice::StringParam(region.to_owned());
        [
            ("shared_memory_region".to_owned(), wire::InferParameter { parameter_choice: Some(region) }),
            ("shared_memory_byte_size".to_owned(), whole(size)),
            ("shared_memory_offset".to_owned(), whole(offset)),
        ]
        .into()
    };
    wire::ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, 2],
            parameters: parameters("in", 8, 0),
            ..InferInputTensor::default()
        }],
        outputs: vec![InferRequestedOutputTensor { name: "y".to_owned(), parameters: parameters("out", 12, 4) }],
        ..wire::ModelInferRequest::default()
    }
}

const GIVEN: [u8; 24] = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const ANSWERED: [u8; 24] = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0];

#[tokio::test]
async fn it_is_off_unless_allowed() {
    let server = TestServer::start().await;
    let base = "/v2/systemsharedmemory";
    for path in ["/status", "/region/r/status", "/other", "/region/r/other"] {
        let reply = server.get(&format!("{base}{path}")).await;
        assert_eq!(reply.status, 501, "{path}");
        assert!(reply.text().contains("--allow-client-shm"), "{}", reply.text());
    }
    for path in ["/region/r/register", "/region/r/unregister", "/unregister"] {
        assert_eq!(server.post(&format!("{base}{path}"), "{}").await.status, 501, "{path}");
    }
    let reply = server.post("/v2/models/echo/infer", body()).await;
    assert_eq!(reply.status, 501, "{}", reply.text());
    assert!(!server.get("/v2").await.text().contains("system_shared_memory"));
    let mut client = client(server.grpc).await;
    let off = Code::Unimplemented;
    assert_eq!(
        client.system_shared_memory_status(wire::SystemSharedMemoryStatusRequest::default()).await.unwrap_err().code(),
        off
    );
    let register = wire::SystemSharedMemoryRegisterRequest { name: "r".to_owned(), ..Default::default() };
    assert_eq!(client.system_shared_memory_register(register).await.unwrap_err().code(), off);
    let unregister = wire::SystemSharedMemoryUnregisterRequest::default();
    assert_eq!(client.system_shared_memory_unregister(unregister).await.unwrap_err().code(), off);
    assert_eq!(client.model_infer(message("echo")).await.unwrap_err().code(), off);
}

#[tokio::test]
async fn both_protocols_read_and_write_it() {
    let server = sharing().await;
    assert!(server.get("/v2").await.text().contains("system_shared_memory"));
    for over_grpc in [false, true] {
        let object = Object::new(&GIVEN);
        register(&server, &object).await;
        if over_grpc {
            let reply = client(server.grpc).await.model_infer(message("echo")).await.unwrap().into_inner();
            assert_eq!((reply.outputs[0].shape.as_slice(), reply.raw_output_contents.len()), ([1, 2].as_slice(), 1));
            assert!(reply.raw_output_contents[0].is_empty());
        } else {
            let reply = server.post("/v2/models/echo/infer", body()).await.json();
            assert_eq!(reply["outputs"], json!([{ "name": "y", "datatype": "FP32", "shape": [1, 2] }]));
        }
        assert_eq!(object.content(), ANSWERED);
        assert_eq!(server.post("/v2/systemsharedmemory/unregister", "").await.status, 200);
        assert_eq!(server.get("/v2/systemsharedmemory/status").await.json(), json!([]));
    }
}

#[tokio::test]
async fn who_has_begun_keeps_what_it_uses() {
    let server = sharing().await;
    for over_grpc in [false, true] {
        let object = Object::new(&GIVEN);
        register(&server, &object).await;
        let address = server.http;
        let asked = tokio::spawn(async move {
            match over_grpc {
                true => client(address).await.model_infer(message("slow")).await.map(|_| 200).unwrap(),
                false => Raw::connect(address).await.post("/v2/models/slow/infer", "", body()).await.status,
            }
        });
        server.fake.wait_inside(1).await;
        for name in ["in", "out"] {
            let path = format!("/v2/systemsharedmemory/region/{name}/unregister");
            assert_eq!(server.post(&path, "").await.status, 200);
        }
        assert_eq!(server.get("/v2/systemsharedmemory/status").await.json(), json!([]));
        // The names are free for others, whom the answer must not reach.
        let other = Object::new(&[9; 24]);
        register(&server, &other).await;
        server.fake.gate.add_permits(1);
        assert_eq!(asked.await.unwrap(), 200);
        assert_eq!((object.content(), other.content()), (ANSWERED.to_vec(), vec![9; 24]));
        server.post("/v2/systemsharedmemory/unregister", "").await;
    }
}

#[tokio::test]
async fn what_is_copied_counts_as_what_is_buffered() {
    let server = TestServer::with(|options| {
        options.client_shared_memory = true;
        options.limits.buffered_bytes = body().len() + 7;
    })
    .await;
    let object = Object::new(&GIVEN);
    register(&server, &object).await;
    let reply = server.post("/v2/models/echo/infer", body()).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(object.content(), GIVEN);
}

#[tokio::test]
async fn names_in_paths_are_decoded() {
    let server = sharing().await;
    let object = Object::new(&GIVEN);
    let body = json!({ "key": object.name, "byte_size": 24 }).to_string();
    assert_eq!(server.post("/v2/systemsharedmemory/region/a%2F..%2Fb/register", body).await.status, 200);
    let all = server.get("/v2/systemsharedmemory/status").await.json();
    let expected = json!([{ "name": "a/../b", "key": object.name, "offset": 0, "byte_size": 24 }]);
    assert_eq!(all, expected);
    assert_eq!(server.get("/v2/systemsharedmemory/region/a%2F..%2Fb/status").await.json(), expected);
    assert_eq!(server.get("/v2/systemsharedmemory/region/b/status").await.status, 404);
    let reply = server.get("/v2/systemsharedmemory/region/%ff/status").await;
    assert_eq!((reply.status, reply.json()["error"].is_string()), (400, true));
}
