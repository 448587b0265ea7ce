//! Compressed requests and replies.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::server::{OIP_BODY, TestServer};

const ECHO: &str = "/v2/models/echo/infer";

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn coded_requests_are_decoded() {
    let server = TestServer::start().await;
    for (coding, body) in [("gzip", gzip(OIP_BODY.as_bytes())), ("deflate", deflate(OIP_BODY.as_bytes()))] {
        let header = format!("Content-Encoding: {coding}\r\n");
        assert_eq!(server.raw().await.post(ECHO, &header, &body).await.status, 200, "{coding}");
        assert_eq!(server.raw().await.post(ECHO, &header, OIP_BODY).await.status, 400, "{coding}");
        assert_eq!(server.raw().await.post(ECHO, &header, &body[..body.len() - 2]).await.status, 400, "{coding}");
    }
    assert_eq!(server.raw().await.post(ECHO, "Content-Encoding: identity\r\n", OIP_BODY).await.status, 200);
    let other = server.raw().await.post(ECHO, "Content-Encoding: br\r\n", OIP_BODY).await;
    assert_eq!((other.status, other.header("accept-encoding")), (415, Some("gzip, deflate")));
}

#[tokio::test]
async fn replies_are_coded_as_asked() {
    let server = TestServer::start().await;
    let plain = server.post(ECHO, OIP_BODY).await.body;
    for (accept, coding) in [("gzip", Some("gzip")), ("gzip;q=0.1, deflate", Some("deflate")), ("br", None)] {
        let reply = server.raw().await.post(ECHO, &format!("Accept-Encoding: {accept}\r\n"), OIP_BODY).await;
        assert_eq!(reply.header("content-encoding"), coding, "{accept}");
        let mut body = Vec::new();
        match coding {
            Some("gzip") => drop(GzDecoder::new(&reply.body[..]).read_to_end(&mut body).unwrap()),
            Some(_) => drop(ZlibDecoder::new(&reply.body[..]).read_to_end(&mut body).unwrap()),
            None => body = reply.body,
        }
        assert_eq!(body, plain, "{accept}");
    }
    let error = server.raw().await.post(ECHO, "Accept-Encoding: gzip\r\n", "{").await;
    assert_eq!((error.status, error.header("content-encoding")), (400, None));
}

#[tokio::test]
async fn a_decoded_body_at_the_limit_is_taken_and_one_byte_more_is_not() {
    let server = TestServer::with(|options| {
        options.limits.body_bytes = 10_000;
        options.limits.decompressed_ratio = 1_000_000;
    })
    .await;
    for (len, status) in [(10_000, 200), (10_001, 413)] {
        let body = format!("{OIP_BODY}{}", " ".repeat(len - OIP_BODY.len()));
        for (coding, body) in [("gzip", gzip(body.as_bytes())), ("deflate", deflate(body.as_bytes()))] {
            let reply = server.raw().await.post(ECHO, &format!("Content-Encoding: {coding}\r\n"), &body).await;
            assert_eq!(reply.status, status, "{coding} {len}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn a_bomb_within_the_size_limit_is_stopped_by_its_ratio() {
    let server = TestServer::start().await;
    let bomb = gzip(&vec![b' '; 16 << 20]);
    let reply = server.raw().await.post(ECHO, "Content-Encoding: gzip\r\n", &bomb).await;
    assert_eq!(reply.status, 413);
    assert!(reply.json()["error"].as_str().unwrap().contains("100 times"), "{}", reply.text());
}

#[tokio::test]
async fn a_body_at_the_ratio_is_taken_and_one_beyond_it_is_not() {
    // Above the size up to which the ratio does not matter.
    let body = format!("{OIP_BODY}{}", " ".repeat(2 << 20));
    let coded = gzip(body.as_bytes());
    let ratio = body.len().div_ceil(coded.len());
    for (allowed, status) in [(ratio, 200), (ratio - 1, 413)] {
        let server = TestServer::with(|options| options.limits.decompressed_ratio = allowed).await;
        let reply = server.raw().await.post(ECHO, "Content-Encoding: gzip\r\n", &coded).await;
        assert_eq!(reply.status, status, "{allowed}: {}", reply.text());
    }
}
