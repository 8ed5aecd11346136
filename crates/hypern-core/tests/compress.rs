//! Which coding a response gets, and that every flush can be decoded when it arrives.

use std::io::{Read, Write};

use brotli::enc::StandardAlloc;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use hypern_core::compress::Encoding::{self, Brotli, Gzip, Zstd};
use hypern_core::compress::{Encoder, Policy, compress_whole, negotiate, prepare};
use proptest::prelude::*;

const ALL: [Encoding; 3] = [Zstd, Brotli, Gzip];

/// A decoder that gives what it has as soon as it has it.
enum Decoder {
    Brotli(Box<BrotliDecoder>),
    Gzip(Box<flate2::write::GzDecoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Vec<u8>>>),
}

impl Decoder {
    fn new(encoding: Encoding) -> Self {
        match encoding {
            Brotli => Self::Brotli(Box::new(BrotliDecoder::new())),
            Gzip => Self::Gzip(Box::new(flate2::write::GzDecoder::new(Vec::new()))),
            Zstd => Self::Zstd(Box::new(zstd::stream::write::Decoder::new(Vec::new()).expect("a decoder"))),
        }
    }

    /// Everything decoded from the start.
    fn feed(&mut self, input: &[u8]) -> &[u8] {
        let write = |decoder: &mut dyn Write| {
            decoder.write_all(input).and_then(|()| decoder.flush()).expect("a valid stream");
        };
        match self {
            Self::Brotli(decoder) => decoder.feed(input),
            Self::Gzip(decoder) => {
                write(decoder);
                decoder.get_ref()
            }
            Self::Zstd(decoder) => {
                write(decoder);
                decoder.get_ref()
            }
        }
    }
}

/// The decoder of brotli itself, because its `DecompressorWriter` holds decoded bytes back.
struct BrotliDecoder {
    state: brotli::BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    decoded: Vec<u8>,
}

impl BrotliDecoder {
    fn new() -> Self {
        let allocator = StandardAlloc::default;
        Self { state: brotli::BrotliState::new(allocator(), allocator(), allocator()), decoded: Vec::new() }
    }

    fn feed(&mut self, input: &[u8]) -> &[u8] {
        let (mut left, mut taken, mut total) = (input.len(), 0, 0);
        loop {
            let mut room = [0; 4096];
            let (mut available, mut written) = (room.len(), 0);
            let result = brotli::BrotliDecompressStream(
                &mut left,
                &mut taken,
                input,
                &mut available,
                &mut written,
                &mut room,
                &mut total,
                &mut self.state,
            );
            self.decoded.extend_from_slice(&room[..written]);
            match result {
                brotli::BrotliResult::ResultFailure => panic!("an invalid stream"),
                // It asks for input as soon as it has none left, even if its output did not fit.
                _ if left == 0 && written < room.len() => return &self.decoded,
                _ => {}
            }
        }
    }
}

/// Decodes a whole body and fails if it is cut.
fn decode(encoding: Encoding, body: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let read = match encoding {
        Brotli => brotli::Decompressor::new(body, 4096).read_to_end(&mut decoded),
        Gzip => flate2::read::GzDecoder::new(body).read_to_end(&mut decoded),
        Zstd => {
            zstd::stream::read::Decoder::new(body).and_then(|mut decoder| decoder.read_to_end(&mut decoded))
        }
    };
    read.expect("a whole body");
    decoded
}

fn event(number: usize) -> Vec<u8> {
    format!(
        "id: {number}\nevent: price\ndata: {{\"symbol\": \"A{}\", \"price\": {}}}\n\n",
        number % 7,
        number * 37
    )
    .into_bytes()
}

/// Writes `parts`, decodes after each, then finishes and decodes the whole.
fn check_round_trip(encoding: Encoding, parts: &[Vec<u8>]) {
    let (mut encoder, mut decoder) = (Encoder::new(encoding), Decoder::new(encoding));
    let (mut wire, mut plain) = (Vec::new(), Vec::new());
    for part in parts {
        let start = wire.len();
        encoder.write_and_flush(part, &mut wire);
        plain.extend_from_slice(part);
        assert!(decoder.feed(&wire[start..]) == plain, "{encoding:?} holds something back");
    }
    encoder.finish(&mut wire);
    assert!(decode(encoding, &wire) == plain, "{encoding:?} ends wrongly");
}

#[test]
fn each_event_is_decodable_at_once() {
    let events: Vec<Vec<u8>> = (0..2000).map(event).collect();
    for encoding in ALL {
        check_round_trip(encoding, &events);
    }
}

#[test]
fn bursts_between_events_are_decodable_at_once() {
    let burst: Vec<u8> =
        (0..20_000_u32).flat_map(|number| (number.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    let zeros = vec![0; 300_000];
    for encoding in ALL {
        check_round_trip(
            encoding,
            &[event(1), burst.clone(), event(2), zeros.clone(), event(3), burst.clone()],
        );
    }
}

#[test]
fn a_stream_without_events_is_whole() {
    for encoding in ALL {
        check_round_trip(encoding, &[]);
        check_round_trip(encoding, &[Vec::new()]);
    }
}

#[test]
fn later_events_profit_from_earlier_ones() {
    for encoding in ALL {
        let (mut encoder, mut wire) = (Encoder::new(encoding), Vec::new());
        (0..200).for_each(|number| encoder.write_and_flush(&event(number), &mut wire));
        let plain: usize = (0..200).map(|number| event(number).len()).sum();
        assert!(wire.len() * 2 < plain, "{encoding:?}: {} of {plain}", wire.len());
    }
}

#[test]
fn nothing_is_written_for_nothing() {
    for encoding in ALL {
        let (mut encoder, mut wire) = (Encoder::new(encoding), Vec::new());
        encoder.write_and_flush(b"", &mut wire);
        assert!(wire.is_empty());
    }
}

#[test]
fn encoders_move_between_threads() {
    fn is_send<T: Send + 'static>() {}
    is_send::<Encoder>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_stream_comes_back(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..20),
        repeats in 1..4_usize,
    ) {
        for encoding in ALL {
            check_round_trip(encoding, &vec![parts.clone(); repeats].concat());
        }
    }

    #[test]
    fn any_body_comes_back(body in proptest::collection::vec(any::<u8>(), 0..5000), repeats in 0..30_usize) {
        let body = body.repeat(repeats);
        for encoding in ALL {
            prop_assert!(decode(encoding, &compress_whole(encoding, &body)) == body);
        }
    }

    #[test]
    fn no_accept_encoding_panics(header in "[a-z0-9*;=,. q]{0,40}") {
        let _ = negotiate(&header, &ALL);
    }
}

#[test]
fn weights_decide_and_the_server_between_equals() {
    for (header, wanted) in [
        ("", None),
        ("gzip", Some(Gzip)),
        ("GZip", Some(Gzip)),
        ("x-gzip", Some(Gzip)),
        ("gzip, deflate, br, zstd", Some(Zstd)),
        ("gzip, br", Some(Brotli)),
        ("gzip;q=1.0, br;q=0.5", Some(Gzip)),
        ("gzip ; Q=0.2 , br;q=0.21", Some(Brotli)),
        ("deflate", None),
        ("*", Some(Zstd)),
        ("*;q=0", None),
        ("zstd;q=0, *", Some(Brotli)),
        ("gzip;q=0", None),
        ("gzip;q=0.000", None),
        ("gzip;q=0.001", Some(Gzip)),
        ("identity", None),
        ("identity, gzip", Some(Gzip)),
        ("identity;q=1, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.7", Some(Gzip)),
        ("identity;q=0", None),
        ("identity;q=0, br", Some(Brotli)),
        ("identity;q=0, *", Some(Zstd)),
        ("gzip;q=2, br;q=0.1", Some(Brotli)),
        ("gzip;q=1.001", None),
        ("gzip;q=0.1234", None),
        ("gzip;q=nan", None),
        ("gzip;q=", None),
        ("gzip;q", None),
        (";q=1,,", None),
        ("gzip;level=1", Some(Gzip)),
    ] {
        assert_eq!(negotiate(header, &ALL), wanted, "{header:?}");
    }
    assert_eq!(negotiate("gzip, br, zstd", &[Gzip, Zstd]), Some(Gzip));
    assert_eq!(negotiate("gzip, br, zstd", &[]), None);
}

#[test]
fn names_go_both_ways() {
    for encoding in ALL {
        assert_eq!(Encoding::from_name(encoding.as_str()), Some(encoding));
    }
    assert_eq!(Encoding::from_name("deflate"), None);
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    lines.iter().map(line).collect()
}

fn prepared(
    headers: &mut HeaderMap,
    accept: Option<&'static str>,
    length: Option<usize>,
) -> Option<Encoding> {
    let policy = Policy { encodings: ALL.to_vec(), minimum_size: 500 };
    prepare(&policy, accept.map(HeaderValue::from_static).as_ref(), StatusCode::OK, headers, length)
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| value.to_str().expect("text").to_owned()).collect()
}

#[test]
fn a_compressed_response_says_so() {
    let mut headers = headers(&[
        ("content-type", "application/json"),
        ("content-length", "500"),
        ("accept-ranges", "bytes"),
        ("etag", "\"abc\""),
    ]);
    assert_eq!(prepared(&mut headers, Some("gzip"), Some(500)), Some(Gzip));
    assert_eq!(values(&headers, "content-encoding"), ["gzip"]);
    assert_eq!(values(&headers, "vary"), ["accept-encoding"]);
    assert_eq!(values(&headers, "etag"), ["W/\"abc\""]);
    assert!(!headers.contains_key("content-length") && !headers.contains_key("accept-ranges"));
}

#[test]
fn a_weak_etag_stays_as_it_is() {
    let mut headers = headers(&[("content-type", "text/html"), ("etag", "W/\"abc\"")]);
    prepared(&mut headers, Some("gzip"), None);
    assert_eq!(values(&headers, "etag"), ["W/\"abc\""]);
}

#[test]
fn vary_is_added_once_and_without_compression_too() {
    for (before, after) in [
        (&[][..], &["accept-encoding"][..]),
        (&["origin"], &["origin", "accept-encoding"]),
        (&["origin, Accept-Encoding"], &["origin, Accept-Encoding"]),
        (&["*"], &["*"]),
    ] {
        for accept in [Some("gzip"), Some("identity"), None] {
            let mut headers =
                headers(&[("content-type", "text/event-stream"), ("content-length", "7"), ("etag", "\"a\"")]);
            before.iter().for_each(|value| {
                headers.append("vary", HeaderValue::from_static(value));
            });
            let encoding = prepared(&mut headers, accept, None);
            assert_eq!(values(&headers, "vary"), after);
            assert_eq!(encoding.is_some(), accept == Some("gzip"));
            assert_eq!(headers.contains_key("content-length"), encoding.is_none());
            assert_eq!(values(&headers, "etag")[0] == "\"a\"", encoding.is_none());
        }
    }
}

#[test]
fn types_that_shrink_are_compressed() {
    for (content_type, wanted) in [
        ("text/event-stream", true),
        ("text/plain; charset=utf-8", true),
        ("TEXT/HTML", true),
        ("application/json", true),
        ("application/problem+json; x=y", true),
        ("application/javascript", true),
        ("application/atom+xml", true),
        ("application/xml", true),
        ("application/wasm", true),
        ("application/x-ndjson", true),
        ("image/svg+xml", true),
        ("image/png", false),
        ("application/octet-stream", false),
        ("video/mp4", false),
        ("json", false),
        ("", false),
    ] {
        let mut headers = headers(&[("content-type", content_type)]);
        assert_eq!(prepared(&mut headers, Some("gzip"), None).is_some(), wanted, "{content_type}");
    }
    assert_eq!(prepared(&mut HeaderMap::new(), Some("gzip"), None), None);
}

#[test]
fn what_must_not_be_touched_is_not() {
    for extra in [
        ("content-encoding", "br"),
        ("content-range", "bytes 0-1/2"),
        ("cache-control", "public, No-Transform"),
    ] {
        let mut headers = headers(&[("content-type", "text/plain"), extra]);
        let before = headers.clone();
        assert_eq!(prepared(&mut headers, Some("gzip"), None), None);
        assert_eq!(headers, before);
    }
    let mut headers = headers(&[("content-type", "text/plain")]);
    let before = headers.clone();
    assert_eq!(prepared(&mut headers, Some("gzip"), Some(499)), None);
    let policy = Policy { encodings: ALL.to_vec(), minimum_size: 0 };
    for status in [100, 103, 204, 206, 304] {
        let (status, accept) = (StatusCode::from_u16(status).unwrap(), HeaderValue::from_static("gzip"));
        assert_eq!(prepare(&policy, Some(&accept), status, &mut headers, None), None);
    }
    assert_eq!(headers, before);
}
