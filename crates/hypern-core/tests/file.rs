//! Files as responses, on a real file system.

use std::io;
use std::path::{Path, PathBuf};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response};
use http_body_util::BodyExt;
use hypern_core::file::{self, Body, serve};
use tempfile::TempDir;

const TEXT: &str = "0123456789";

fn file(name: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(name);
    std::fs::write(&path, TEXT).expect("a file");
    (directory, path)
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::try_from(*value).expect("a header"))
    };
    lines.iter().map(line).collect()
}

async fn get(path: &Path, lines: &[(&'static str, &str)]) -> Response<Body> {
    serve(path, &Method::GET, &headers(lines)).await.expect("a response")
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

async fn text(response: Response<Body>) -> String {
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

#[tokio::test]
async fn a_whole_file_has_its_size_type_and_validators() {
    let (_directory, path) = file("a.txt");
    let response = get(&path, &[]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(header(&response, "content-length"), "10");
    assert_eq!(header(&response, "accept-ranges"), "bytes");
    assert!(header(&response, "etag").starts_with('"') && !header(&response, "last-modified").is_empty());
    assert_eq!(text(response).await, TEXT);
}

#[tokio::test]
async fn the_name_decides_the_type() {
    for (name, content_type) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.unheard-of", "application/octet-stream"),
        ("a b%20é.css", "text/css; charset=utf-8"),
    ] {
        let (_directory, path) = file(name);
        assert_eq!(header(&get(&path, &[]).await, "content-type"), content_type, "{name}");
    }
}

#[tokio::test]
async fn head_has_the_headers_alone() {
    let (_directory, path) = file("a.txt");
    let response = serve(&path, &Method::HEAD, &headers(&[("range", "bytes=0-1")])).await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "content-length")), (200, "10"));
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn a_range_is_a_part() {
    let (_directory, path) = file("a.txt");
    for (range, content_range, part) in [
        ("bytes=2-4", "bytes 2-4/10", "234"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-2", "bytes 8-9/10", "89"),
        ("bytes=5-99", "bytes 5-9/10", "56789"),
    ] {
        let response = get(&path, &[("range", range)]).await;
        assert_eq!((response.status().as_u16(), header(&response, "content-range")), (206, content_range));
        assert_eq!(header(&response, "content-length"), part.len().to_string());
        assert_eq!(text(response).await, part);
    }
}

#[tokio::test]
async fn a_range_outside_is_refused_and_several_are_the_whole() {
    let (_directory, path) = file("a.txt");
    let response = get(&path, &[("range", "bytes=10-")]).await;
    assert_eq!((response.status().as_u16(), header(&response, "content-range")), (416, "bytes */10"));
    assert_eq!(text(response).await, "");
    let response = get(&path, &[("range", "bytes=0-1,4-5")]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, TEXT);
}

#[tokio::test]
async fn if_range_lets_parts_of_the_same_file_through_alone() {
    let (_directory, path) = file("a.txt");
    let response = get(&path, &[]).await;
    let (etag, modified) =
        (header(&response, "etag").to_owned(), header(&response, "last-modified").to_owned());
    let weak = format!("W/{etag}");
    for (validator, status) in [
        (etag.as_str(), 206),
        (modified.as_str(), 206),
        ("\"other\"", 200),
        (weak.as_str(), 200),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
    ] {
        let response = get(&path, &[("range", "bytes=0-1"), ("if-range", validator)]).await;
        assert_eq!(response.status(), status, "{validator}");
        assert_eq!(text(response).await, if status == 206 { "01" } else { TEXT });
    }
    let response = get(&path, &[("range", "bytes=99-"), ("if-range", "\"other\"")]).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn conditions_spare_or_refuse_the_body() {
    let (_directory, path) = file("a.txt");
    let response = get(&path, &[]).await;
    let (etag, modified) =
        (header(&response, "etag").to_owned(), header(&response, "last-modified").to_owned());
    let weak = format!("\"x\", W/{etag}");
    let past = "Thu, 01 Jan 1970 00:00:00 GMT";
    for (line, status) in [
        (("if-none-match", etag.as_str()), 304),
        (("if-none-match", weak.as_str()), 304),
        (("if-none-match", "\"other\""), 200),
        (("if-modified-since", modified.as_str()), 304),
        (("if-modified-since", past), 200),
        (("if-match", etag.as_str()), 200),
        (("if-match", "\"other\""), 412),
        (("if-unmodified-since", past), 412),
    ] {
        let response = get(&path, &[line]).await;
        assert_eq!(response.status(), status, "{line:?}");
        assert_eq!(text(response).await, if status == 200 { TEXT } else { "" });
    }
}

#[tokio::test]
async fn other_methods_get_the_whole_file() {
    let (_directory, path) = file("a.txt");
    let lines = headers(&[("range", "bytes=0-1"), ("if-none-match", "*")]);
    let response = serve(&path, &Method::POST, &lines).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, TEXT);
}

#[tokio::test]
async fn an_empty_file_is_an_empty_body() {
    let (_directory, path) = file("a.txt");
    std::fs::write(&path, "").unwrap();
    let response = get(&path, &[]).await;
    assert_eq!((response.status().as_u16(), header(&response, "content-length")), (200, "0"));
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn a_large_file_arrives_whole() {
    let (_directory, path) = file("a.bin");
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, &bytes).unwrap();
    assert!(get(&path, &[]).await.into_body().collect().await.unwrap().to_bytes() == bytes);
}

#[tokio::test]
async fn what_is_no_readable_file_is_an_error() {
    let (directory, path) = file("a.txt");
    for method in [Method::GET, Method::HEAD, Method::POST] {
        for (path, kind) in [
            (directory.path().join("b.txt"), io::ErrorKind::NotFound),
            (path.join("b.txt"), io::ErrorKind::NotADirectory),
            (directory.path().to_owned(), io::ErrorKind::IsADirectory),
            (PathBuf::from("a\0.txt"), io::ErrorKind::InvalidInput),
            (PathBuf::from("/dev/null"), io::ErrorKind::InvalidInput),
        ] {
            let error = serve(&path, &method, &HeaderMap::new()).await.err();
            assert_eq!(error.map(|error| error.kind()), Some(kind), "{path:?}");
        }
    }
}

#[tokio::test]
async fn responses_move_between_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let (_directory, path) = file("a.txt");
    let headers = HeaderMap::new();
    let response: Response<file::Body> = is_send(serve(&path, &Method::GET, &headers)).await.unwrap();
    assert_eq!(text(is_send(response)).await, TEXT);
}
