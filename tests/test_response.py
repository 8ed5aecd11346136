"""Response: what its methods refuse at the call, and the headers that they set. What is sent is tested over sockets."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from hypern._hypern import Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

from hypern import SSEEvent, StreamingResponse


def events() -> Iterator[str]:
    yield "x"


async def async_events() -> AsyncIterator[str]:
    yield "x"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda res: res.status(99), ValueError, "status must be from 200 to 599, got 99"),
        (lambda res: res.status(600), ValueError, "status must be from 200 to 599"),
        (lambda res: res.header("a b", "c"), ValueError, 'header name "a b" must be a token'),
        (lambda res: res.header("x-a\n", "c"), ValueError, "must be a token"),
        (lambda res: res.header("x-a", "b\r\nset-cookie: c"), ValueError, "header x-a must not contain a line break"),
        (lambda res: res.append_header("x-a", "\0"), ValueError, "header x-a must not contain"),
        (lambda res: res.headers({"x-a": 1}), TypeError, "must be a str"),
        (lambda res: res.type("text/plain\nx: y"), ValueError, "header content-type must not"),
        (lambda res: res.redirect("/\r\nset-cookie: a=b"), ValueError, "header location must not"),
        (lambda res: res.redirect("/", 200), ValueError, "status must be from 300 to 399"),
        (lambda res: res.cookie("a b", "x"), ValueError, 'cookie name "a b" must be a token'),
        (lambda res: res.cookie("a", "x", path="/;x"), ValueError, "cookie path"),
        (lambda res: res.cookie("a", "x", domain="x\n"), ValueError, "cookie domain"),
        (lambda res: res.cookie("a", "x", same_site="none"), ValueError, "needs secure=True"),
        (lambda res: res.cookie("a", "x", same_site="maybe"), ValueError, "same_site must be"),
        (lambda res: res.cookie("a", "x", expires=datetime(2030, 1, 1)), ValueError, "aware"),  # noqa: DTZ001
        (lambda res: res.cookie("a", "x", expires="soon"), ValueError, "not an HTTP date"),
        (lambda res: res.cookie("a", "x", expires=[]), TypeError, "expires must be"),
        (lambda res: res.cookie("a", "x", expires=-1), ValueError, "years 1970 to 9999"),
        (lambda res: res.json(object()), TypeError, "object has no JSON form"),
        (lambda res: res.text("\ud800"), ValueError, "lone surrogate"),
        (lambda res: res.sse("text"), TypeError, "str is one item"),
        (lambda res: res.sse({"data": "x"}), TypeError, "dict is one item"),
        (lambda res: res.sse(async_events()), TypeError, "call res.sse_stream"),
        (lambda res: res.sse(["\ud800"]), ValueError, "data must not contain a lone surrogate"),
        (lambda res: res.sse_event("x", id=1), TypeError, "id must be str, got int"),
        (lambda res: res.sse_stream(SSEEvent("x")), TypeError, "call res.sse_event"),
        (lambda res: res.sse_stream(events), TypeError, "got a function: call it"),
        (lambda res: res.sse_stream(5), TypeError, "sync or async iterable, .* got int"),
        (lambda res: res.sse_stream([], ping=0), ValueError, "ping must be a positive number"),
        (lambda res: res.sse_stream([], ping=float("inf")), ValueError, "ping must be a positive number"),
        (lambda res: res.sse_stream([], send_timeout=-1), ValueError, "send_timeout must be a positive number"),
        (lambda res: res.sse_stream([], retry=-1), ValueError, "retry must be from 0"),
        (lambda res: res.sse_stream([], on_error="x"), TypeError, "on_error must be a function"),
        (lambda res: res.stream(5), TypeError, "sync or async iterable, .* got int"),
        (lambda res: res.stream({"a": 1}), TypeError, "call res.send"),
        (lambda res: res._compress(["lzma"], 1), ValueError, 'encoding must be "br", "gzip" or "zstd"'),
    ],
)
def test_refused_at_the_call(call: Callable[[Response], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(Response())


@pytest.mark.parametrize(
    ("call", "content_type"),
    [
        (lambda res: res.json({}), "application/json"),
        (lambda res: res.text("x"), "text/plain; charset=utf-8"),
        (lambda res: res.html("x"), "text/html; charset=utf-8"),
        (lambda res: res.send("x"), "text/plain; charset=utf-8"),
        (lambda res: res.send(b"x"), "application/octet-stream"),
        (lambda res: res.send(bytearray(b"x")), "application/octet-stream"),
        (lambda res: res.send(memoryview(b"x")), "application/octet-stream"),
        (lambda res: res.send([1]), "application/json"),
        (lambda res: res.send(), None),
        (lambda res: res.type("text/csv").send("a,b"), "text/csv"),
        (lambda res: res.type("application/problem+json").json({}), "application/problem+json"),
        (lambda res: res.header("Content-Type", "text/x").send("x"), "text/x"),
        (lambda res: res.text("x").json(1), "application/json"),
        (lambda res: res.text("x").file("a.bin"), None),
        (lambda res: res.file("a.bin", content_type="text/x"), "text/x"),
        (lambda res: res.sse(["x"]), "text/event-stream"),
        (lambda res: res.sse_event(data="x", event="e", id="1"), "text/event-stream"),
        (lambda res: res.sse_stream(events()), "text/event-stream"),
        (lambda res: res.sse_stream(async_events(), ping=None, send_timeout=None), "text/event-stream"),
        (lambda res: res.sse_headers().send("x"), "text/event-stream"),
        (lambda res: res.sse(["x"]).json({}), "application/json"),
        (lambda res: res.stream(events()), "application/octet-stream"),
        (lambda res: res.stream("one chunk", content_type="text/x"), "text/x"),
        (lambda res: res.type("text/x").stream([b"x"]), "text/x"),
    ],
)
def test_content_type(call: Callable[[Response], Response], content_type: str | None) -> None:
    res = Response()
    assert call(res) is res
    assert res.started
    assert res.get_header("content-type") == content_type


def test_headers_of_an_event_stream() -> None:
    res = Response().sse_stream(events())
    assert res.get_header("cache-control") == "no-cache"
    assert res.get_header("x-accel-buffering") == "no"
    assert Response().header("cache-control", "no-store").sse(["x"]).get_header("cache-control") == "no-store"


def test_header_replaces_and_append_header_adds() -> None:
    res = Response().header("X-A", "1").header("x-a", "2").append_header("x-a", "3").headers({"x-b": "4"})
    assert res.get_header("X-a") == "2, 3"
    assert res.get_header("x-b") == "4"
    assert res.get_header("x-c") is None
    assert not res.started


def test_redirect() -> None:
    res = Response().redirect("/é x?q=%20")
    assert (res.status_code, res.get_header("location")) == (302, "/%C3%A9%20x?q=%20")
    assert Response().redirect("/", 308).status_code == 308


def test_cookie() -> None:
    moment = datetime(2030, 1, 1, tzinfo=timezone.utc)
    res = Response().cookie("a", "ü;b", max_age=5, expires=moment, domain="ex.org", secure=True, same_site="lax")
    assert res.get_header("set-cookie") == (
        "a=%C3%BC%3Bb; Max-Age=5; Expires=Tue, 01 Jan 2030 00:00:00 GMT; Path=/; Domain=ex.org; Secure; SameSite=Lax"
    )
    assert Response().cookie("a", "b", path=None, http_only=True).get_header("set-cookie") == "a=b; HttpOnly"
    http_date = "Tue, 01 Jan 2030 00:00:00 GMT"
    assert f"Expires={http_date};" in str(Response().cookie("a", "b", expires=http_date).get_header("set-cookie"))
    assert f"Expires={http_date};" in str(Response().cookie("a", "b", expires=1893456000).get_header("set-cookie"))
    cleared = Response().clear_cookie("a", path="/x").get_header("set-cookie")
    assert cleared == "a=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/x"


@pytest.mark.parametrize(
    ("filename", "disposition"),
    [
        (None, 'attachment; filename="report.csv"'),
        ("a b.txt", 'attachment; filename="a b.txt"'),
        ('ü".txt', "attachment; filename=\"__.txt\"; filename*=UTF-8''%C3%BC%22.txt"),
        ("a\r\nb/c", "attachment; filename=\"a__b_c\"; filename*=UTF-8''a%0D%0Ab%2Fc"),
    ],
)
def test_download(filename: str | None, disposition: str) -> None:
    assert Response().download("/data/report.csv", filename).get_header("content-disposition") == disposition


def test_reset_keeps_what_does_not_describe_the_body() -> None:
    res = Response().status(201).header("etag", '"1"').header("x-request", "7").cookie("a", "b").text("x")
    res._reset()
    assert (res.status_code, res.started) == (200, False)
    assert [res.get_header(name) for name in ("content-type", "etag", "set-cookie")] == [None, None, None]
    assert res.get_header("x-request") == "7"


def test_a_generator_may_use_the_response_that_sends_it() -> None:
    res = Response()

    def generator() -> Iterator[str]:
        res.header("x-inside", "1")
        yield "x"

    assert res.sse(generator()).get_header("x-inside") == "1"


def test_absorbed_return_values() -> None:
    res = Response()
    for unchanged in (None, res):
        res._absorb(unchanged)
        assert not res.started
    res.status(201)._absorb({"a": 1})
    assert (res.status_code, res.get_header("content-type")) == (201, "application/json")
    res = Response()
    res._absorb(StreamingResponse([b"x"], "text/x", 202, {"x-a": "1"}))
    assert (res.status_code, res.get_header("content-type"), res.get_header("x-a")) == (202, "text/x", "1")


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (events(), "register it with @app.sse"),
        (async_events(), "register it with @app.sse"),
        (SSEEvent("x"), "send it with res.sse_event"),
        (Response(), "return the handler's own res"),
        (object(), "object has no JSON form"),
    ],
)
def test_values_that_no_handler_can_return(value: object, advice: str) -> None:
    with pytest.raises(TypeError, match=advice):
        Response()._absorb(value)


def test_repr() -> None:
    assert repr(Response().status(404)) == "<Response 404>"
