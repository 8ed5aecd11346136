//! A file on disk as a response: ranges, conditions, a media type, HEAD.

use std::io;
use std::path::Path;

use http::header::{
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{Method, Request, Response, StatusCode};
use tower_http::services::ServeFile;

/// The bytes of a file, read in pieces of 64 KiB while they are sent; fails with [`io::Error`].
pub type Body = tower_http::services::fs::ServeFileSystemResponseBody;

/// The headers that make a request conditional (RFC 9110, section 13.1).
const CONDITIONS: [HeaderName; 4] = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];

/// Answers a request with a file: 200, 206, 304, 412 or 416 (RFC 9110, sections 13 and 14).
///
/// The media type follows from the file's name, and text is said to be UTF-8. `etag` and `last-modified` follow from its
/// size and its modification time. HEAD has the headers of GET and no body. Ranges are for GET alone, and a request for
/// several ranges at once gets the whole file. Any other method gets it too, whatever the conditions.
///
/// # Errors
///
/// There is no such file or it may not be read; [`io::ErrorKind::IsADirectory`] for a directory, and
/// [`io::ErrorKind::InvalidInput`] for what is neither (a pipe would block) or for a path with a NUL.
pub async fn serve(path: &Path, method: &Method, request_headers: &HeaderMap) -> io::Result<Response<Body>> {
    let metadata = tokio::fs::metadata(path).await?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut response = call(path, relevant(method, request_headers)).await?;
    if is_partial(&response) && !allows_range(request_headers, response.headers()) {
        let mut request = relevant(method, request_headers);
        request.headers_mut().remove(RANGE);
        response = call(path, request).await?;
    }
    declare_utf8(response.headers_mut());
    Ok(response)
}

async fn call(path: &Path, request: Request<()>) -> io::Result<Response<Body>> {
    let response = ServeFile::new(path).ignore_multi_range_requests(true).try_call(request).await?;
    match response.status() {
        StatusCode::NOT_FOUND => Err(io::ErrorKind::NotFound.into()),
        _ => Ok(response),
    }
}

/// The part of a request that a file's response depends on.
fn relevant(method: &Method, headers: &HeaderMap) -> Request<()> {
    let mut request = Request::new(());
    let mut copy = |name: HeaderName| {
        if let Some(value) = headers.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    };
    if matches!(*method, Method::GET | Method::HEAD) {
        CONDITIONS.into_iter().for_each(&mut copy);
    }
    if *method == Method::GET {
        copy(RANGE);
    }
    *request.method_mut() = if *method == Method::HEAD { Method::HEAD } else { Method::GET };
    request
}

fn is_partial(response: &Response<Body>) -> bool {
    matches!(response.status(), StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE)
}

/// Whether the file is still the one that the client has a part of (RFC 9110, section 13.1.5): the strong etag or the
/// exact date. The validators are those of the file that was opened, so that a change in between cannot mix two files.
fn allows_range(request_headers: &HeaderMap, response_headers: &HeaderMap) -> bool {
    let Some(validator) = request_headers.get(IF_RANGE) else { return true };
    [ETAG, LAST_MODIFIED].iter().any(|name| response_headers.get(name) == Some(validator))
}

/// Without a charset, browsers read text as Windows-1252.
fn declare_utf8(headers: &mut HeaderMap) {
    let Some(content_type) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return };
    if !content_type.starts_with("text/") || content_type.contains("charset") {
        return;
    }
    if let Ok(value) = HeaderValue::try_from(format!("{content_type}; charset=utf-8")) {
        headers.insert(CONTENT_TYPE, value);
    }
}
