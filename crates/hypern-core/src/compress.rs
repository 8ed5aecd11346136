//! Content codings: which one a response gets, and encoders for whole bodies and for streams.
//!
//! A stream is flushed after every drained buffer, so that a client decodes each event when it arrives, and its encoder
//! lives as long as the client stays. The settings therefore weigh memory first; [`Encoder`] has the figures.

mod brotli;
mod encoder;
mod gzip;

use http::StatusCode;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, VARY,
};

pub use encoder::{Encoder, compress_whole};

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `br`, RFC 7932.
    Brotli,
    /// `gzip`, RFC 1952.
    Gzip,
    /// `zstd`, RFC 8878.
    Zstd,
}

impl Encoding {
    /// The name in `Accept-Encoding` and `Content-Encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of a name, in any case; `x-gzip` is gzip (RFC 9110, section 8.4.1.3).
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "br" => Some(Self::Brotli),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// What a server compresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What it offers, the one it prefers first.
    pub encodings: Vec<Encoding>,
    /// The smallest whole body, in bytes, that is worth it; streams have no size.
    pub minimum_size: usize,
}

/// Chooses the coding for a client, or none: identity (RFC 9110, section 12.5.3).
///
/// The client's weights decide, and the order of `offered` between equal ones. Identity wins only where the client gives
/// it more weight in so many words, or where nothing on offer is acceptable, even if it refuses identity too.
pub fn negotiate(accept_encoding: &str, offered: &[Encoding]) -> Option<Encoding> {
    let preferences: Vec<(&str, u16)> = accept_encoding.split(',').filter_map(preference).collect();
    let named = |wanted: &dyn Fn(&str) -> bool| {
        preferences.iter().find(|(name, _)| wanted(name)).map(|(_, weight)| *weight)
    };
    let weight = |encoding: Encoding| {
        named(&|name| Encoding::from_name(name) == Some(encoding)).or_else(|| named(&|name| name == "*"))
    };
    let identity = named(&|name| name.eq_ignore_ascii_case("identity")).unwrap_or(0);
    let mut best = None;
    let mut best_weight = identity.max(1);
    for encoding in offered.iter().copied() {
        let weight = weight(encoding).unwrap_or(0);
        if weight > best_weight || (weight == best_weight && best.is_none()) {
            (best, best_weight) = (Some(encoding), weight);
        }
    }
    best
}

/// One member of `Accept-Encoding` and its weight in thousandths; none if it is malformed.
fn preference(member: &str) -> Option<(&str, u16)> {
    let mut parts = member.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    match parts.next() {
        None => Some((name, 1000)),
        Some(parameter) => {
            let (key, value) = parameter.split_once('=')?;
            let weight = if key.trim().eq_ignore_ascii_case("q") { weight(value.trim())? } else { 1000 };
            Some((name, weight))
        }
    }
}

/// A weight in thousandths (RFC 9110, section 12.4.2): 0 to 1 with at most three digits behind the point.
fn weight(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_valid = matches!(whole, "0" | "1")
        && fraction.len() <= 3
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths: u16 = format!("{whole}{fraction:0<3}").parse().ok().filter(|_| is_valid)?;
    (thousandths <= 1000).then_some(thousandths)
}

/// Decides for one response and, where it is to be compressed, edits its headers for that.
///
/// `length` is the size of a whole body in bytes, and none for a stream. What could have been compressed gets
/// `vary: accept-encoding`, even if this client takes identity. A compressed response gets `content-encoding`, loses
/// `content-length` and `accept-ranges`, and a strong etag becomes a weak one (RFC 9110, section 8.8.1).
///
/// Left alone are responses that are encoded already, that have no body or part of one (1xx, 204, 206, 304,
/// `content-range`), that say `cache-control: no-transform`, whose type is not worth it, or that are too small.
pub fn prepare(
    policy: &Policy,
    accept_encoding: Option<&HeaderValue>,
    status: StatusCode,
    headers: &mut HeaderMap,
    length: Option<usize>,
) -> Option<Encoding> {
    let is_large_enough = length.is_none_or(|length| length >= policy.minimum_size);
    if !is_large_enough || !has_whole_body(status) || !is_open_to_compression(headers) {
        return None;
    }
    vary_by_accept_encoding(headers);
    let encoding = negotiate(accept_encoding?.to_str().ok()?, &policy.encodings)?;
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.as_str()));
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    weaken_etag(headers);
    Some(encoding)
}

fn has_whole_body(status: StatusCode) -> bool {
    !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED)
}

fn is_open_to_compression(headers: &HeaderMap) -> bool {
    !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(CONTENT_RANGE)
        && !has_member(headers, CACHE_CONTROL, "no-transform")
        && headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(is_compressible)
}

/// Whether bodies of a media type shrink.
fn is_compressible(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.split_once('/') {
        Some(("text", _)) => true,
        Some((_, subtype)) if subtype.ends_with("+json") || subtype.ends_with("+xml") => true,
        Some(("application", subtype)) => {
            matches!(subtype, "json" | "javascript" | "x-javascript" | "xml" | "wasm" | "x-ndjson" | "yaml")
        }
        _ => false,
    }
}

fn vary_by_accept_encoding(headers: &mut HeaderMap) {
    if !has_member(headers, VARY, "accept-encoding") && !has_member(headers, VARY, "*") {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Whether a header whose value is a list, on one line or more, has a member.
fn has_member(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|member| member.trim().eq_ignore_ascii_case(wanted))
}

fn weaken_etag(headers: &mut HeaderMap) {
    let Some(etag) = headers.get(ETAG).filter(|etag| etag.as_bytes().starts_with(b"\"")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat()) {
        headers.insert(ETAG, weak);
    }
}
