//! Content codings of HTTP bodies: gzip, and deflate, which is the zlib format here as in Triton.
//!
//! Decoding is bounded twice, by size and by how much larger a body may become. Large bodies are
//! coded on blocking threads, so that one client does not hold up the others.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use flate2::write::{GzEncoder, ZlibEncoder};
use flate2::{Compression, Decompress, FlushDecompress, Status};
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use salver_core::{Error, ErrorKind, Result};

/// Bodies from this size on are coded away from the async threads.
const OFFLOAD_BYTES: usize = 64 << 10;
/// A short body may grow to this size whatever the ratio: repetitive small requests are honest.
const RATIO_FLOOR: usize = 1 << 20;

/// How a body is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Deflate,
}

impl Coding {
    /// Returns the name on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn from_wire(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if is("identity") || name.is_empty() => Some(Self::Identity),
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("deflate") => Some(Self::Deflate),
            () => None,
        }
    }

    /// Reads the coding of a request body; `None` for one that is not known, or for several.
    pub(crate) fn of_request(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let Some(first) = values.next() else {
            return Some(Self::Identity);
        };
        if values.next().is_some() {
            return None;
        }
        Self::from_wire(first.to_str().ok()?.trim())
    }

    /// Picks the coding of a reply: the best by q-value, gzip before deflate before none.
    pub(crate) fn for_reply(headers: &HeaderMap) -> Self {
        if !headers.contains_key(ACCEPT_ENCODING) {
            return Self::Identity;
        }
        let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        Self::best(accepted.flat_map(|value| value.split(',')))
    }

    fn best<'a>(items: impl Iterator<Item = &'a str>) -> Self {
        // Milli-q of gzip, deflate, identity and `*`; unset: not named.
        let (mut gzip, mut deflate, mut identity, mut any) = (None, None, None, None);
        for item in items {
            let (name, quality) = split_quality(item);
            match Self::from_wire(name) {
                Some(Self::Gzip) => gzip = Some(quality),
                Some(Self::Deflate) => deflate = Some(quality),
                Some(Self::Identity) if !name.is_empty() => identity = Some(quality),
                _ if name == "*" => any = Some(quality),
                _ => {}
            }
        }
        let rank = |named: Option<u16>| named.or(any).unwrap_or(0);
        let (gzip, deflate) = (rank(gzip), rank(deflate));
        // Not naming identity leaves it allowed, but least wanted.
        let identity = identity.unwrap_or(0);
        if gzip > 0 && gzip >= deflate && gzip >= identity {
            Self::Gzip
        } else if deflate > 0 && deflate >= identity {
            Self::Deflate
        } else {
            Self::Identity
        }
    }
}

/// Splits `gzip;q=0.5` into the name and thousandths.
fn split_quality(item: &str) -> (&str, u16) {
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let quality = quality.map_or(1.0, |text| text.trim().parse::<f32>().unwrap_or(0.0));
    (name, (quality.clamp(0.0, 1.0) * 1000.0) as u16)
}

/// What a body may become by decoding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecodeLimits {
    pub bytes: usize,
    pub ratio: usize,
}

/// Decodes a request body.
///
/// # Errors
/// `TooLarge` beyond either limit, `InvalidInput` for data that does not decode.
pub(crate) async fn decode(body: Bytes, coding: Coding, limits: DecodeLimits) -> Result<Bytes> {
    match coding {
        Coding::Identity => Ok(body),
        // A short body may become a long one, so every coded body leaves the async threads
        // unless it cannot become long.
        _ if body.len().saturating_mul(limits.ratio) < OFFLOAD_BYTES => decode_now(&body, coding, limits),
        _ => offload(move || decode_now(&body, coding, limits)).await?,
    }
}

fn decode_now(body: &[u8], coding: Coding, limits: DecodeLimits) -> Result<Bytes> {
    let limit = limits.bytes.min(body.len().saturating_mul(limits.ratio).max(RATIO_FLOOR));
    let mut out = Vec::new();
    let read = match coding {
        Coding::Identity => io::copy(&mut body.take(limit as u64 + 1), &mut out).map(drop),
        Coding::Gzip => MultiGzDecoder::new(body).take(limit as u64 + 1).read_to_end(&mut out).map(drop),
        Coding::Deflate => inflate(body, limit, &mut out),
    };
    if out.len() > limit {
        return Err(Error::too_large(format!(
            "the request body decompresses to more than {limit} bytes; at most {} bytes and {} times what was sent \
             are allowed",
            limits.bytes, limits.ratio
        )));
    }
    match read {
        Ok(()) => Ok(out.into()),
        Err(error) => {
            let message = format!("the request body is not valid {}", coding.as_str());
            Err(Error::invalid_input(message).with_source(error))
        }
    }
}

/// Decodes the zlib format until one byte past `limit`. flate2's own reader takes a truncated
/// stream for a complete one.
fn inflate(body: &[u8], limit: usize, out: &mut Vec<u8>) -> io::Result<()> {
    let mut decoder = Decompress::new(true);
    while out.len() <= limit {
        out.reserve((out.len() + 1024).min(limit + 1));
        let before = (decoder.total_in(), decoder.total_out());
        let rest = usize::try_from(decoder.total_in()).ok().and_then(|start| body.get(start..)).unwrap_or_default();
        if decoder.decompress_vec(rest, out, FlushDecompress::None)? == Status::StreamEnd {
            return Ok(());
        }
        if before == (decoder.total_in(), decoder.total_out()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Codes a reply's body.
///
/// # Errors
/// `Engine` if the coder fails, which it does not in memory.
pub(crate) async fn encode(body: Bytes, coding: Coding) -> Result<Bytes> {
    let failed = |error: io::Error| Error::engine("the reply could not be compressed").with_source(error);
    if coding == Coding::Identity {
        return Ok(body);
    }
    if body.len() < OFFLOAD_BYTES {
        return encode_now(&body, coding).map_err(failed);
    }
    offload(move || encode_now(&body, coding)).await?.map_err(failed)
}

fn encode_now(body: &[u8], coding: Coding) -> io::Result<Bytes> {
    // The fastest level: most of the gain for numbers written as text at a fraction of the time.
    let out = Vec::with_capacity(body.len() / 2);
    match coding {
        Coding::Identity => Ok(Bytes::copy_from_slice(body)),
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(out, Compression::fast());
            encoder.write_all(body)?;
            encoder.finish().map(Bytes::from)
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(out, Compression::fast());
            encoder.write_all(body)?;
            encoder.finish().map(Bytes::from)
        }
    }
}

/// Runs work that takes long enough to hold up others on a blocking thread.
///
/// # Errors
/// `Engine` if the work panicked, `Cancelled` if the server stops.
pub(crate) async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        let kind = if error.is_panic() { ErrorKind::Engine } else { ErrorKind::Cancelled };
        Error::new(kind, "the server stopped working on this request").with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const LIMITS: DecodeLimits = DecodeLimits { bytes: 16 << 20, ratio: 100 };

    #[track_caller]
    fn check_accept(header: &str, expected: Coding) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_str(header).unwrap());
        assert_eq!(Coding::for_reply(&headers), expected, "{header}");
    }

    #[test]
    fn the_best_accepted_coding_is_picked() {
        assert_eq!(Coding::for_reply(&HeaderMap::new()), Coding::Identity);
        check_accept("gzip, deflate, br", Coding::Gzip);
        check_accept("deflate, gzip;q=0.9", Coding::Deflate);
        check_accept("gzip;q=0.5, deflate;q=0.8", Coding::Deflate);
        check_accept("gzip;q=0, deflate;q=0", Coding::Identity);
        check_accept("gzip;q=0, *", Coding::Deflate);
        check_accept("*;q=0.1", Coding::Gzip);
        check_accept("br", Coding::Identity);
        check_accept("", Coding::Identity);
        check_accept("identity, gzip;q=0.5", Coding::Identity);
        check_accept("GZIP;Q=1.0", Coding::Gzip);
        check_accept("gzip;q=nonsense", Coding::Identity);
    }

    #[tokio::test]
    async fn both_codings_round_trip() {
        let body: String = (0..60_000).map(|n| format!("{n},")).collect();
        let body = Bytes::from(body);
        for coding in [Coding::Identity, Coding::Gzip, Coding::Deflate] {
            for len in [0, 1, 1000, body.len()] {
                let coded = encode(body.slice(..len), coding).await.unwrap();
                assert_eq!(decode(coded, coding, LIMITS).await.unwrap(), body.slice(..len));
            }
        }
    }

    #[tokio::test]
    async fn a_body_at_the_limit_decodes_and_one_byte_more_does_not() {
        for coding in [Coding::Gzip, Coding::Deflate] {
            let limits = DecodeLimits { bytes: 100_000, ratio: 10_000 };
            let coded = encode(Bytes::from(vec![1; 100_000]), coding).await.unwrap();
            assert_eq!(decode(coded, coding, limits).await.unwrap().len(), 100_000);
            let coded = encode(Bytes::from(vec![1; 100_001]), coding).await.unwrap();
            assert_eq!(decode(coded, coding, limits).await.unwrap_err().kind(), ErrorKind::TooLarge);
        }
    }

    #[tokio::test]
    async fn a_bomb_is_stopped_by_its_ratio() {
        for coding in [Coding::Gzip, Coding::Deflate] {
            let coded = encode(Bytes::from(vec![0; 2 << 20]), coding).await.unwrap();
            let error = decode(coded, coding, LIMITS).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{coding:?}: {error}");
        }
    }

    #[tokio::test]
    async fn garbage_and_truncated_bodies_are_the_clients_fault() {
        for coding in [Coding::Gzip, Coding::Deflate] {
            let coded = encode(Bytes::from_static(b"some text, some text, some text"), coding).await.unwrap();
            for bad in [coded.slice(..coded.len() - 1), coded.slice(..1), Bytes::from_static(b"no"), Bytes::new()] {
                let error = decode(bad.clone(), coding, LIMITS).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{coding:?} {bad:?}");
            }
        }
    }

    #[test]
    fn unknown_and_stacked_request_codings_are_not_taken() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            });
            Coding::of_request(&headers)
        };
        assert_eq!(of(&[]), Some(Coding::Identity));
        assert_eq!(of(&["identity"]), Some(Coding::Identity));
        assert_eq!(of(&["GZip"]), Some(Coding::Gzip));
        assert_eq!(of(&["br"]), None);
        assert_eq!(of(&["gzip, gzip"]), None);
        assert_eq!(of(&["gzip", "gzip"]), None);
    }
}
