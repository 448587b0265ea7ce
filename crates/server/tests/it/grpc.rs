//! gRPC on both ports: calls, streams, health, reflection, limits and statuses.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use salver_protocol::oip_grpc::inference as wire;
use tokio::sync::mpsc;
use tonic::codec::CompressionEncoding;
use tonic::codegen::tokio_stream::StreamExt;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use wire::grpc_inference_service_client::GrpcInferenceServiceClient as Client;
use wire::model_infer_request::InferInputTensor;
use wire::{ModelInferRequest, infer_parameter::ParameterChoice};

use crate::server::TestServer;

async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

pub(crate) async fn client(address: SocketAddr) -> Client<Channel> {
    Client::new(channel(address).await)
}

fn http2_client<B>() -> hyper_util::client::legacy::Client<hyper_util::client::legacy::connect::HttpConnector, B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).http2_only(true).build_http()
}

fn request(model: &str, id: &str) -> ModelInferRequest {
    with_rows(model, id, 1)
}

fn with_rows(model: &str, id: &str, rows: usize) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.to_owned(),
        id: id.to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![rows as i64, 2],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![Bytes::from(vec![0; rows * 8])],
        ..ModelInferRequest::default()
    }
}

#[tokio::test]
async fn both_ports_answer_calls() {
    let server = TestServer::start().await;
    for address in [server.http, server.grpc] {
        let mut client = client(address).await;
        let mut call = Request::new(request("echo", "7"));
        call.metadata_mut().insert("x-request-id", "abc".parse().unwrap());
        let reply = client.model_infer(call).await.unwrap();
        assert_eq!(reply.metadata().get("x-request-id").unwrap(), "abc");
        assert_eq!(reply.metadata().get("x-salver-model-version").unwrap(), "2");
        let reply = reply.into_inner();
        assert_eq!((reply.id.as_str(), reply.model_version.as_str()), ("7", "2"));
        assert_eq!(reply.raw_output_contents, [Bytes::from(vec![0; 8])]);
        assert_eq!(server.fake.observed.take(), 1);
        assert!(client.server_live(wire::ServerLiveRequest {}).await.unwrap().into_inner().live);
    }
    // The second port answers HTTP too.
    let reply = crate::raw::Raw::connect(server.grpc).await.get("/health", "").await;
    assert_eq!(reply.text(), "OK");
}

#[tokio::test]
async fn errors_have_their_status() {
    let server = TestServer::start().await;
    let mut client = client(server.http).await;
    for (model, code) in [
        ("nobody", Code::NotFound),
        ("../x", Code::InvalidArgument),
        ("failing", Code::Internal),
        ("busy", Code::Unavailable),
        ("panicking", Code::Internal),
    ] {
        let status = client.model_infer(request(model, "")).await.unwrap_err();
        assert_eq!(status.code(), code, "{model}: {status:?}");
        assert!(!status.message().contains("secret"));
    }
    let mut wrong = request("echo", "");
    wrong.raw_input_contents = vec![Bytes::from_static(b"abc")];
    assert_eq!(client.model_infer(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    let register = client.cuda_shared_memory_register(wire::CudaSharedMemoryRegisterRequest::default());
    assert_eq!(register.await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(client.model_infer(request("echo", "")).await.unwrap().into_inner().outputs.len(), 1);
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_clients_fault() {
    let server = TestServer::start().await;
    for (frame, code) in [
        (&b"\0\0\0\0\x02\xff\xff"[..], "3"), // no protobuf
        (b"\0\0\0\0\x09\xff", "3"),          // cut off
        (b"\x01\0\0\0\x01\x00", "3"),        // compressed, but by what?
        (b"\x07\0\0\0\x00", "3"),            // no such flag
        (b"", "3"),                          // no message
        (b"\0\xff\xff\xff\xff", "8"),        // a claim beyond the limit
    ] {
        let request = http::Request::post(format!("http://{}/inference.GRPCInferenceService/ModelInfer", server.http))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(http_body_util::Full::new(Bytes::copy_from_slice(frame)))
            .unwrap();
        let reply = http2_client().request(request).await.unwrap();
        assert_eq!(reply.headers().get("grpc-status").unwrap(), code, "{frame:?}");
    }
}

#[tokio::test]
async fn a_call_whose_body_stalls_is_given_up() {
    let server = TestServer::with(|options| {
        options.limits.body_grace = Duration::from_millis(50);
        options.limits.min_body_rate = 1 << 20;
    })
    .await;
    let (tx, rx) = mpsc::channel::<Result<http_body::Frame<Bytes>, std::convert::Infallible>>(1);
    tx.send(Ok(http_body::Frame::data(Bytes::from_static(b"\0\0\0\0\x09")))).await.unwrap();
    let request = http::Request::post(format!("http://{}/inference.GRPCInferenceService/ModelInfer", server.http))
        .header("content-type", "application/grpc")
        .body(http_body_util::StreamBody::new(ReceiverStream::new(rx)))
        .unwrap();
    let reply = http2_client().request(request).await.unwrap();
    assert_eq!(reply.headers().get("grpc-status").unwrap(), "4");
    drop(tx);
}

#[tokio::test]
async fn a_message_at_the_limit_is_taken_and_a_larger_one_is_not() {
    use prost::Message;
    let fits = with_rows("echo", "", 1000);
    let server = TestServer::with(|options| options.limits.body_bytes = fits.encoded_len()).await;
    for coding in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Deflate)] {
        let mut client = client(server.http).await;
        if let Some(coding) = coding {
            client = client.send_compressed(coding);
        }
        assert!(client.model_infer(fits.clone()).await.is_ok(), "{coding:?}");
        let mut larger = fits.clone();
        larger.id = "x".to_owned();
        let status = client.model_infer(larger).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{coding:?}: {status:?}");
    }
}

#[tokio::test]
async fn deadlines_and_cancelled_calls_end_the_work() {
    let server = TestServer::start().await;
    let mut client = client(server.http).await;
    let mut call = Request::new(request("slow", ""));
    call.metadata_mut().insert("x-salver-timeout-ms", "20".parse().unwrap());
    assert_eq!(client.model_infer(call).await.unwrap_err().code(), Code::DeadlineExceeded);
    server.fake.wait_inside(0).await;
    let mut call = Request::new(request("slow", ""));
    call.set_timeout(Duration::from_millis(20));
    client.model_infer(call).await.unwrap_err();
    server.fake.wait_inside(0).await;
    let mut other = client.clone();
    let running = tokio::spawn(async move { other.model_infer(request("slow", "")).await.map(drop) });
    server.fake.wait_inside(1).await;
    running.abort();
    server.fake.wait_inside(0).await;
    assert!(client.model_infer(request("echo", "")).await.is_ok());
}

#[tokio::test]
async fn a_stream_answers_in_order_and_outlives_failures() {
    let server = TestServer::start().await;
    let mut client = client(server.http).await;
    let (tx, rx) = mpsc::channel(8);
    let mut replies = client.model_stream_infer(ReceiverStream::new(rx)).await.unwrap().into_inner();
    let mut marked = request("echo", "c");
    marked.parameters.insert(
        "triton_enable_empty_final_response".to_owned(),
        wire::InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) },
    );
    for message in [request("slow", "a"), request("nobody", "b"), marked, request("failing", "d")] {
        tx.send(message).await.unwrap();
    }
    // All are worked on together, and still the first is answered first.
    server.fake.wait_inside(1).await;
    server.fake.gate.add_permits(1);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let reply = replies.next().await.unwrap().unwrap();
        let inner = reply.infer_response.unwrap();
        let is_final = inner.parameters.contains_key("triton_final_response");
        seen.push((inner.id, reply.error_message.is_empty(), is_final));
    }
    let expected = [("a", true, false), ("b", false, false), ("c", true, true), ("d", false, false)];
    assert_eq!(seen, expected.map(|(id, ok, last)| (id.to_owned(), ok, last)));
    drop(tx);
    assert!(replies.next().await.is_none());
}

#[tokio::test]
async fn a_dropped_stream_drops_its_work() {
    let server = TestServer::start().await;
    let mut client = client(server.http).await;
    let (tx, rx) = mpsc::channel(8);
    let replies = client.model_stream_infer(ReceiverStream::new(rx)).await.unwrap().into_inner();
    tx.send(request("slow", "a")).await.unwrap();
    tx.send(request("slow", "b")).await.unwrap();
    server.fake.wait_inside(2).await;
    drop((tx, replies));
    server.fake.wait_inside(0).await;
}

#[tokio::test]
async fn shutdown_finishes_calls_and_ends_streams() {
    let server = TestServer::start().await;
    let mut client = client(server.http).await;
    let (tx, rx) = mpsc::channel(8);
    let mut replies = client.model_stream_infer(ReceiverStream::new(rx)).await.unwrap().into_inner();
    tx.send(request("slow", "streamed")).await.unwrap();
    let mut other = client.clone();
    let call = tokio::spawn(async move { other.model_infer(request("slow", "called")).await });
    server.fake.wait_inside(2).await;
    server.shutdown.cancel();
    server.fake.gate.add_permits(2);
    assert_eq!(call.await.unwrap().unwrap().into_inner().id, "called");
    assert_eq!(replies.next().await.unwrap().unwrap().infer_response.unwrap().id, "streamed");
    assert_eq!(replies.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
    drop((tx, replies));
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn health_is_live() {
    let server = TestServer::start().await;
    let mut client = HealthClient::new(channel(server.http).await);
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    assert_eq!(client.check(ask("")).await.unwrap().into_inner().status, 1);
    assert_eq!(client.check(ask("nobody")).await.unwrap_err().code(), Code::NotFound);
    let mut watch = client.watch(ask("inference.GRPCInferenceService")).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status, 1);
    server.fake.is_ready.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(client.check(ask("")).await.unwrap().into_inner().status, 2);
    assert_eq!(watch.next().await.unwrap().unwrap().status, 2);
    server.shutdown.cancel();
    assert!(watch.next().await.is_none());
    drop(client);
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let server = TestServer::start().await;
    let mut client = ServerReflectionClient::new(channel(server.http).await);
    let ask = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut replies =
        client.server_reflection_info(tonic::codegen::tokio_stream::once(ask)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = replies.next().await.unwrap().unwrap().message_response
    else {
        panic!("no list");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["inference.GRPCInferenceService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.contains(&name), "{name} of {names:?}");
    }
}

#[tokio::test]
async fn models_are_described_and_controlled() {
    let server = TestServer::start().await;
    let mut client = client(server.grpc).await;
    let ready = |name: &str| wire::ModelReadyRequest { name: name.to_owned(), version: String::new() };
    assert!(client.model_ready(ready("echo")).await.unwrap().into_inner().ready);
    assert!(!client.model_ready(ready("nobody")).await.unwrap().into_inner().ready);
    let metadata = wire::ModelMetadataRequest { name: "echo".to_owned(), version: "1".to_owned() };
    assert_eq!(client.model_metadata(metadata).await.unwrap().into_inner().versions, ["1", "2"]);
    let config = wire::ModelConfigRequest { name: "nobody".to_owned(), version: String::new() };
    assert_eq!(client.model_config(config).await.unwrap_err().code(), Code::NotFound);
    let all = client.model_statistics(wire::ModelStatisticsRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.model_stats[0].inference_count, 7);
    let load = wire::RepositoryModelLoadRequest { model_name: "echo".to_owned(), ..Default::default() };
    client.repository_model_load(load).await.unwrap();
    let unload = wire::RepositoryModelUnloadRequest { model_name: "echo".to_owned(), ..Default::default() };
    client.repository_model_unload(unload).await.unwrap();
    assert_eq!(*server.fake.changes.lock().unwrap(), ["load echo", "unload echo"]);
    let index = client.repository_index(wire::RepositoryIndexRequest { ready: true, ..Default::default() }).await;
    assert!(index.unwrap().into_inner().models.iter().all(|model| model.state == "READY"));
}
