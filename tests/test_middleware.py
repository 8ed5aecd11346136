"""Middleware: its order, what it sees, and the two that come with Hypern."""

import asyncio
import contextvars
import gzip

import pytest

from hypern import HTTPException, Hypern, Router, StreamingResponse
from hypern.middleware import CompressionMiddleware, CorsMiddleware, Hook
from hypern.testing import TestClient

ORIGIN = "https://app.example"
variable = contextvars.ContextVar("variable", default="unset")


def recording(name, calls):
    async def middleware(req, res, ctx, next):  # noqa: A002
        calls.append(f"{name} before")
        await next()
        calls.append(f"{name} after {res.status_code}")

    return middleware


class Refusing(Hook):
    def __init__(self, calls, refused="/refused"):
        self.calls = calls
        self.refused = refused

    def before(self, req, res, ctx):
        self.calls.append("hook")
        if req.path == self.refused:
            res.status(403).text("refused")
            return True
        return False


def test_the_app_is_around_the_router_and_the_first_is_outermost():
    calls = []
    app, router, inner = Hypern(), Router("/a"), Router()
    router.get("/b")(lambda: calls.append("handler"))
    router.use(recording("router", calls))
    inner.get("/c")(lambda: calls.append("handler"))
    inner.use(recording("inner", calls))
    router.use(inner)
    app.use(router)
    app.use(recording("first", calls))
    app.use(recording("second", calls))
    with TestClient(app) as client:
        client.get("/a/b")
        assert calls == [
            "first before",
            "second before",
            "router before",
            "handler",
            "router after 200",
            "second after 200",
            "first after 200",
        ]
        calls.clear()
        client.get("/a/c")
        assert calls[:5] == ["first before", "second before", "router before", "inner before", "handler"]


def test_without_next_the_handler_does_not_run():
    app = Hypern()

    @app.use
    async def closed(req, res):
        if req.path == "/set":
            res.status(503).text("closed")
            return None
        return {"closed": True}

    app.get("/*path")(lambda: "open")
    with TestClient(app) as client:
        response = client.get("/set")
        assert (response.status_code, response.text) == (503, "closed")
        assert client.get("/returned").json() == {"closed": True}


def test_what_a_handler_returns_is_there_after_next():
    app = Hypern()
    app.get("/json")(lambda: {"a": 1})
    app.get("/stream")(lambda: StreamingResponse([b"a", b"b"], "text/plain", 201, {"x-own": "1"}))

    @app.use
    async def look(res, next):  # noqa: A002
        assert not res.started
        await next()
        res.header("x-seen", f"{res.started} {res.status_code} {res.get_header('content-type')}")

    with TestClient(app) as client:
        assert client.get("/json").headers["x-seen"] == "True 200 application/json"
        response = client.get("/stream")
    assert response.headers["x-seen"] == "True 201 text/plain"
    assert (response.status_code, response.content, response.headers["x-own"]) == (201, b"ab", "1")


@pytest.mark.parametrize("path", ["/thread", "/loop"])
def test_handlers_keep_their_place_and_their_context(path):
    app = Hypern()

    @app.use
    async def set_variable(next):  # noqa: A002
        variable.set("set")
        await asyncio.sleep(0)
        await next()

    @app.get("/thread")
    def on_thread():
        return [variable.get(), asyncio._get_running_loop() is None]

    @app.get("/loop")
    async def on_loop():
        return [variable.get(), asyncio._get_running_loop() is not None]

    with TestClient(app) as client:
        assert client.get(path).json() == ["set", True]
    assert variable.get() == "unset"


@pytest.mark.parametrize("handler_is_async", [False, True])
def test_middleware_sees_the_response_of_an_expected_error(handler_is_async, caplog):
    app, calls = Hypern(), []
    app.use(recording("outer", calls))

    @app.use
    async def inner(next):  # noqa: A002
        calls.append("inner before")
        await next()
        calls.append("inner after")

    def fail(req):
        raise (HTTPException(409) if req.path == "/http" else KeyError("k"))

    async def fail_async(req):
        fail(req)

    app.get("/http")(fail_async if handler_is_async else fail)
    app.get("/key")(fail_async if handler_is_async else fail)
    app.error_handler(KeyError)(lambda res: res.status(410).text("gone"))
    with TestClient(app) as client:
        assert client.get("/http").json() == {"detail": "Conflict"}
        assert client.get("/key").text == "gone"
    assert calls == [
        *("outer before", "inner before", "inner after", "outer after 409"),
        *("outer before", "inner before", "inner after", "outer after 410"),
    ]
    assert caplog.records == []


def test_middleware_around_one_that_raises_sees_the_response():
    app, calls = Hypern(), []
    app.use(recording("outer", calls))

    @app.use
    async def refuse():
        raise HTTPException(401)

    app.get("/")(lambda: "never")
    with TestClient(app) as client:
        assert client.get("/").status_code == 401
    assert calls == ["outer before", "outer after 401"]


def test_an_unexpected_error_goes_through_middleware(caplog):
    app, seen = Hypern(), []

    @app.use
    async def watch(next):  # noqa: A002
        try:
            await next()
        except ZeroDivisionError as error:
            seen.append(error)
            raise

    app.get("/")(lambda: 1 / 0)
    with TestClient(app) as client:
        assert client.get("/").status_code == 500
    assert len(seen) == 1
    assert len(caplog.records) == 1


def test_a_stop_iteration_is_an_unexpected_error_like_others(caplog):
    app, calls = Hypern(), []
    app.use(recording("app", calls))

    @app.get("/")
    def first_of_none():
        return next(iter([]))

    with TestClient(app) as client:
        assert client.get("/").status_code == 500
    assert "first_of_none raised StopIteration" in str(caplog.records[0].exc_info[1])


def test_middleware_sees_misses():
    app, calls = Hypern(), []
    app.use(recording("app", calls))
    app.get("/")(lambda: "here")
    with TestClient(app) as client:
        missing, wrong, options = client.get("/nowhere"), client.post("/"), client.options("/")
    assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert [call for call in calls if "after" in call] == ["app after 404", "app after 405", "app after 204"]


def test_next_is_called_once(caplog):
    app = Hypern()

    @app.use
    async def again(next):  # noqa: A002
        await next()
        await next()

    app.get("/")(lambda: "once")
    with TestClient(app) as client:
        assert client.get("/").status_code == 500
    assert str(caplog.records[0].exc_info[1]) == "next() was called twice: a request has one response"


def test_middleware_may_be_an_object():
    class Tag:
        async def __call__(self, res, next):  # noqa: A002
            res.header("x-tag", "yes")
            await next()

    app = Hypern()
    app.use(Tag())
    app.get("/")(lambda: "tagged")
    with TestClient(app) as client:
        assert client.get("/").headers["x-tag"] == "yes"


def not_async(req, res, ctx, next):  # noqa: A002
    pass


@pytest.mark.parametrize(
    ("middleware", "message"),
    [
        (not_async, "middleware is an async def that awaits next"),
        (CorsMiddleware, r"use\(\) takes an instance: write use\(CorsMiddleware\(\)\)"),
        (None, "expected a function"),
        (lambda call_next: None, "needs a parameter 'call_next'; it may take req, res, ctx, next"),
    ],
)
def test_what_is_no_middleware_is_refused(middleware, message):
    with pytest.raises(TypeError, match=message):
        Hypern().use(middleware)


@pytest.mark.parametrize("path", ["/thread", "/loop"])
def test_hooks_alone_leave_a_handler_where_it_is(path):
    app, calls = Hypern(), []
    app.use(Refusing(calls))
    app.use(Refusing(calls, "/loop-refused"))

    @app.get("/thread")
    @app.get("/refused")
    def on_thread(req):
        return {"loop": asyncio._get_running_loop() is not None}

    @app.get("/loop")
    @app.get("/loop-refused")
    async def on_loop():
        return {"loop": asyncio._get_running_loop() is not None}

    with TestClient(app) as client:
        assert client.get(path).json() == {"loop": path == "/loop"}
        assert calls == ["hook", "hook"]
        assert client.get("/refused").text == "refused"
        assert client.get("/loop-refused").status_code == 403


def test_a_hook_is_in_its_place_among_middleware():
    app, calls = Hypern(), []
    app.use(recording("outer", calls))
    app.use(Refusing(calls))
    app.use(recording("inner", calls))
    app.get("/*path")(lambda: calls.append("handler"))
    with TestClient(app) as client:
        client.get("/refused")
        assert calls == ["outer before", "hook", "outer after 403"]
        calls.clear()
        client.get("/")
        client.get("/open")
    assert calls[-6:] == ["outer before", "hook", "inner before", "handler", "inner after 200", "outer after 200"]


def test_a_hook_says_what_it_does():
    with pytest.raises(NotImplementedError):
        Hook().before(None, None, None)


def test_compression_is_what_the_client_asks_for():
    app = Hypern()
    app.use(CompressionMiddleware(("gzip",), minimum_size=100))
    app.get("/long")(lambda: "x" * 100)
    app.get("/short")(lambda: "x" * 99)

    @app.sse("/events")
    def events():
        yield "first"
        yield "second"

    with TestClient(app) as client:
        with client.stream("GET", "/long", headers={"accept-encoding": "gzip"}) as response:
            assert response.headers["content-encoding"] == "gzip"
            assert response.headers["vary"].lower() == "accept-encoding"
            assert gzip.decompress(b"".join(response.iter_raw())) == b"x" * 100
        assert "content-encoding" not in client.get("/long", headers={"accept-encoding": "br"}).headers
        assert "content-encoding" not in client.get("/short", headers={"accept-encoding": "gzip"}).headers
        with client.stream("GET", "/events", headers={"accept-encoding": "gzip"}) as response:
            assert gzip.decompress(b"".join(response.iter_raw())) == b"data: first\n\ndata: second\n\n"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"encodings": ("gzip", "lzma")}, ValueError, r"encodings must be .*, got \['lzma'\]"),
        ({"encodings": ()}, ValueError, "encodings must be one or more of zstd, br, gzip, got none"),
        ({"encodings": "gzip"}, TypeError, r"encodings must be a sequence .* write \('gzip',\)"),
        ({"minimum_size": -1}, ValueError, "minimum_size must not be negative, got -1"),
    ],
)
def test_compression_that_cannot_be_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        CompressionMiddleware(**arguments)


def cors_app(**options):
    app = Hypern()
    app.use(CorsMiddleware(**options))
    app.get("/")(lambda: "shared")

    @app.get("/error")
    def error():
        raise RuntimeError

    return app


def preflight(origin=ORIGIN, **headers):
    return {"origin": origin, "access-control-request-method": "PUT", **headers}


def test_every_origin_is_allowed_unless_some_are_named():
    with TestClient(cors_app()) as client:
        shared = client.get("/", headers={"origin": ORIGIN})
        same_origin = client.get("/")
        failed = client.get("/error", headers={"origin": ORIGIN})
        missing = client.get("/nowhere", headers={"origin": ORIGIN})
    assert shared.headers["access-control-allow-origin"] == "*"
    assert "vary" not in shared.headers
    assert "access-control-allow-origin" not in same_origin.headers
    assert failed.headers["access-control-allow-origin"] == "*"
    assert missing.headers["access-control-allow-origin"] == "*"


def test_named_origins_are_told_apart():
    with TestClient(cors_app(allow_origins=(ORIGIN,), allow_credentials=True, expose_headers=("x-a", "x-b"))) as client:
        allowed = client.get("/", headers={"origin": ORIGIN})
        refused = client.get("/", headers={"origin": "https://evil.example"})
        same_origin = client.get("/")
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert allowed.headers["access-control-allow-credentials"] == "true"
    assert allowed.headers["access-control-expose-headers"] == "x-a, x-b"
    assert "access-control-allow-origin" not in refused.headers
    assert refused.text == "shared"
    assert [response.headers["vary"] for response in (allowed, refused, same_origin)] == ["origin"] * 3


def test_a_preflight_is_answered():
    asked = {"access-control-request-headers": "authorization, x-custom"}
    with TestClient(cors_app(max_age=5)) as client:
        response = client.options("/", headers=preflight(**asked))
        bare = client.options("/", headers=preflight())
        no_preflight = client.options("/", headers={"origin": ORIGIN})
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-methods"] == "GET, HEAD, POST, PUT, PATCH, DELETE"
    assert response.headers["access-control-allow-headers"] == "authorization, x-custom"
    assert response.headers["access-control-max-age"] == "5"
    assert response.headers["vary"] == "access-control-request-headers"
    assert bare.headers["access-control-allow-headers"] == "last-event-id"
    assert no_preflight.headers["allow"] == "GET, HEAD, OPTIONS"
    assert "access-control-allow-methods" not in no_preflight.headers


def test_a_client_of_fetch_may_always_resume():
    app = cors_app(allow_origins=(ORIGIN,), allow_methods=("PUT",), allow_headers=("X-Custom", "Last-Event-ID"))
    with TestClient(app) as client:
        response = client.options("/", headers=preflight())
        refused = client.options("/", headers=preflight("https://evil.example"))
    assert response.headers["access-control-allow-methods"] == "PUT"
    assert response.headers["access-control-allow-headers"] == "x-custom, last-event-id"
    assert refused.status_code == 204
    assert [name for name in refused.headers if name.startswith("access-control")] == []


@pytest.mark.parametrize(
    "origin", ["app.example", "https://app.example/", "https://App.example", "https://*.example/a", ""]
)
def test_an_origin_is_a_scheme_and_a_host(origin):
    with pytest.raises(ValueError, match="an origin is a scheme, a host and maybe a port"):
        CorsMiddleware((origin,))


def test_credentials_need_named_origins():
    with pytest.raises(ValueError, match="name the origins"):
        CorsMiddleware(allow_credentials=True)
    CorsMiddleware(("null", "http://localhost:3000"), allow_credentials=True)


def test_origins_are_several():
    with pytest.raises(TypeError, match="allow_origins must be a sequence of str, got a single str"):
        CorsMiddleware(ORIGIN)
