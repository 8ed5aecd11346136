"""Routes, routers, and what a handler may look like."""

import asyncio
import functools
import threading

import pytest

from hypern import Hypern, Router
from hypern._calls import resolve
from hypern.middleware import CorsMiddleware
from hypern.testing import TestClient

VALUES = ("the request", "the response", "the context")


def called_with(function):
    call = resolve(function)
    return call.call(*call.pick(VALUES))


class Controller:
    def method(self, ctx, req):
        return ctx, req

    async def async_method(self, req):
        return req

    def __call__(self, res):
        return res


def prefixed(database, req, res):
    return database, req, res


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return "wrapped", function(*args, **kwargs)

    return wrapper


def decorated_without_wraps(function):
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def adds_context(function):
    @functools.wraps(function)
    def wrapper(req, ctx):
        return ctx, function(req)

    return wrapper


def with_keyword_only(*, res, req):
    return req, res


def with_a_default(req, limit=10, ctx=None, **rest):
    return req, limit, ctx, rest


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (lambda: "nothing", "nothing"),
        (lambda ctx: ctx, "the context"),
        (lambda ctx, req, res: (ctx, req, res), ("the context", "the request", "the response")),
        (lambda *values: values, VALUES),
        (lambda req, *rest: (req, *rest), VALUES),
        (Controller().method, ("the context", "the request")),
        (Controller(), "the response"),
        (functools.partial(prefixed, "db"), ("db", "the request", "the response")),
        (functools.partial(prefixed, database="db"), ("db", "the request", "the response")),
        (functools.partial(Controller().method, ctx="mine"), ("mine", "the request")),
        (decorated(lambda req: req), ("wrapped", "the request")),
        (decorated_without_wraps(lambda req, res, ctx: (req, res, ctx)), VALUES),
        (adds_context(lambda req: req), ("the context", "the request")),
        (with_keyword_only, ("the request", "the response")),
        (with_a_default, ("the request", 10, "the context", {})),
    ],
)
def test_a_handler_is_called_with_what_it_names(function, result):
    assert called_with(function) == result


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda request: None, "needs a parameter 'request'; it may take req, res, ctx"),
        (lambda req, /, other: None, "needs a parameter 'other'"),
        (lambda *, other: None, "needs a parameter 'other'"),
        (dict, "cannot read the signature of dict"),
        ("handler", "expected a function that takes any of req, res, ctx, got 'handler'"),
    ],
)
def test_a_handler_that_cannot_be_called_is_refused_at_registration(function, message):
    with pytest.raises(TypeError, match=message):
        Router().get("/")(function)


async def waits():
    await asyncio.sleep(0)


async def waits_in_a_loop(req):
    async for _ in req.stream():
        pass


async def waits_in_a_block(ctx):
    async with ctx.lock:
        pass


async def never_waits(req):
    return req


@pytest.mark.parametrize(
    ("function", "is_async", "suspends"),
    [
        (waits, True, True),
        (waits_in_a_loop, True, True),
        (waits_in_a_block, True, True),
        (never_waits, True, False),
        (Controller().async_method, True, False),
        (functools.partial(never_waits), True, False),
        (decorated(waits), True, True),
        (Controller().method, False, False),
    ],
)
def test_where_a_handler_runs_is_read_from_its_code(function, is_async, suspends):
    call = resolve(function)
    assert (call.is_async, call.suspends) == (is_async, suspends)


def test_a_coroutine_function_whose_code_cannot_be_read_may_wait(monkeypatch):
    monkeypatch.setattr("inspect.iscoroutinefunction", lambda function: function is len)
    assert resolve(functools.partial(len, ()), ()).suspends


def test_routes_of_every_method():
    app = Hypern()
    for method in ("get", "post", "put", "patch", "delete", "options"):
        getattr(app, method)("/own")(lambda req: f"{req.method} of its own")
    app.head("/bare")(lambda res: res.header("x-head", "yes"))
    app.route("/both", methods=["GET", "post"])(lambda req: req.method)
    with TestClient(app) as client:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            assert client.request(method, "/own").text == f"{method} of its own"
        assert client.head("/bare").headers["x-head"] == "yes"
        assert [client.request(method, "/both").text for method in ("GET", "POST")] == ["GET", "POST"]
        assert client.head("/both").content == b""
        assert client.put("/both").status_code == 405


def test_misses():
    app = Hypern()
    app.get("/a/:id")(lambda req: "got")
    app.post("/a/:name")(lambda req: "posted")
    with TestClient(app) as client:
        missing, wrong, options = client.get("/b"), client.put("/a/1"), client.options("/a/1")
    assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
    assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})
    assert wrong.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert (options.status_code, options.content) == (204, b"")
    assert options.headers["allow"] == "GET, HEAD, OPTIONS, POST"


def test_parameters_and_tails():
    app = Hypern()
    app.get("/users/:id")(lambda req: req.params)
    app.get("/users/me")(lambda: "me")
    app.get("/posts/{post}/comments/{comment}")(lambda req: req.params)
    app.get("/files/*path")(lambda req: req.param("path"))
    with TestClient(app) as client:
        assert client.get("/users/a%20b").json() == {"id": "a b"}
        assert client.get("/users/me").text == "me"
        assert client.get("/posts/1/comments/2").json() == {"post": "1", "comment": "2"}
        assert client.get("/files/a/b.txt").text == "a/b.txt"
        assert client.get("/users/1/").status_code == 404


def test_routers_nest_and_may_be_used_twice():
    leaf = Router("/leaf")
    leaf.get("")(lambda: "the leaf")
    leaf.get("/:id")(lambda req: f"leaf {req.param('id')}")
    branch = Router()
    branch.use("/branch", leaf)
    app = Hypern()
    app.use(branch)
    app.use("/api", branch)
    with TestClient(app) as client:
        assert client.get("/branch/leaf").text == "the leaf"
        assert client.get("/branch/leaf/1").text == "leaf 1"
        assert client.get("/api/branch/leaf/2").text == "leaf 2"
        assert client.get("/leaf").status_code == 404


@pytest.mark.parametrize("prefix", ["api", "/", "/api/"])
def test_a_prefix_is_a_path_without_its_last_slash(prefix):
    with pytest.raises(ValueError, match="must start with a slash and not end with one"):
        Router(prefix)
    with pytest.raises(ValueError, match="must start with a slash and not end with one"):
        Router().use(prefix, Router())


@pytest.mark.parametrize("register", [Router().get, Router().sse])
def test_a_path_starts_with_a_slash(register):
    with pytest.raises(ValueError, match="a path must start with a slash, got 'users'"):
        register("users")


def test_methods_are_several():
    with pytest.raises(TypeError, match=r"methods must be several: write methods=\('GET',\)"):
        Router().route("/", methods="GET")
    with pytest.raises(TypeError, match=r"methods must be several: write methods=\('GET',\)"):
        Router().sse("/", methods="GET")


def test_a_router_cannot_contain_itself():
    outer, inner = Router(), Router()
    outer.use(inner)
    with pytest.raises(ValueError, match="cannot contain itself"):
        inner.use("/again", outer)
    with pytest.raises(ValueError, match="cannot contain itself"):
        inner.use(inner)


def test_below_a_prefix_there_is_only_a_router():
    with pytest.raises(TypeError, match="give a router the middleware"):
        Router().use("/api", CorsMiddleware())
    with pytest.raises(TypeError, match="below a prefix there can only be a router"):
        Router().use("/api")


def test_a_conflict_ends_the_start():
    app = Hypern()
    app.get("/a")(lambda: None)
    app.get("/a")(lambda: None)
    with pytest.raises(ValueError, match="/a"), TestClient(app):
        pass


def generator():
    yield 1


async def async_generator():
    yield 1


@pytest.mark.parametrize("handler", [generator, async_generator])
def test_a_generator_is_no_handler(handler):
    with pytest.raises(TypeError, match="is a generator: register it with sse"):
        Router().get("/")(handler)


def test_a_decorated_async_handler_runs_though_its_decorator_is_not_async():
    async def handler(req):
        await asyncio.sleep(0)
        return {"loop": asyncio._get_running_loop() is not None}

    def blocking(function):
        @functools.wraps(function)
        def wrapper(*args):
            wrapper.loop = asyncio._get_running_loop()
            return function(*args)

        return wrapper

    def complete(function):
        @functools.wraps(function)
        def wrapper(*args):
            return asyncio.run(function(*args))

        return wrapper

    app = Hypern()
    decorated_handler = blocking(handler)
    app.get("/coroutine")(decorated_handler)
    app.get("/result")(complete(handler))
    with TestClient(app) as client:
        assert client.get("/coroutine").json() == {"loop": True}
        assert decorated_handler.loop is None
        assert client.get("/result").json() == {"loop": True}


def test_a_def_runs_on_a_thread_and_an_async_def_on_the_one_event_loop():
    app = Hypern()
    threads = {}

    @app.on_startup
    def note_loop():
        threads["loop"] = threading.get_ident()

    @app.get("/thread")
    def on_thread():
        return {"on loop": threading.get_ident() == threads["loop"]}

    @app.get("/loop")
    async def on_loop():
        return {"on loop": threading.get_ident() == threads["loop"]}

    with TestClient(app) as client:
        assert client.get("/thread").json() == {"on loop": False}
        assert client.get("/loop").json() == {"on loop": True}


def test_a_body_has_a_limit_for_the_app_and_for_a_route():
    app = Hypern(max_body_size=10)
    app.post("/small")(lambda req: f"{len(req.body())}")
    app.post("/large", max_body_size=100)(lambda req: f"{len(req.body())}")
    app.put("/large", max_body_size=100)(lambda req: f"{len(req.body())}")
    app.patch("/none", max_body_size=0)(lambda req: f"{len(req.body())}")
    with TestClient(app) as client:
        assert client.post("/small", content=b"x" * 10).text == "10"
        assert client.post("/small", content=b"x" * 11).status_code == 413
        assert client.post("/large", content=b"x" * 100).text == "100"
        assert client.put("/large", content=b"x" * 101).status_code == 413
        assert client.patch("/none", content=b"x").status_code == 413


def test_an_upload_may_be_read_while_it_arrives():
    app = Hypern()

    @app.post("/thread", stream_body=True)
    def on_thread(req):
        return {"bytes": sum(len(chunk) for chunk in req.stream())}

    @app.put("/loop", stream_body=True)
    async def on_loop(req):
        return {"bytes": sum([len(chunk) async for chunk in req.stream()])}

    with TestClient(app) as client:
        assert client.post("/thread", content=b"x" * 300_000).json() == {"bytes": 300_000}
        assert client.put("/loop", content=b"x" * 300_000).json() == {"bytes": 300_000}


def test_a_preflight_reaches_the_cors_of_a_router():
    router = Router("/api")
    router.use(CorsMiddleware(("https://app.example",)))
    router.get("/items/:id")(lambda: "item")
    router.delete("/items/:name")(lambda: "gone")
    router.get("/files/*path")(lambda: "file")
    router.options("/own")(lambda: "own")
    router.get("/own")(lambda: "own")
    app = Hypern()
    app.use(router)
    app.get("/outside")(lambda: "outside")
    preflight = {"origin": "https://app.example", "access-control-request-method": "DELETE"}
    with TestClient(app) as client:
        answered = client.options("/api/items/1", headers=preflight)
        plain = client.options("/api/items/1")
        tail = client.options("/api/files/a/b", headers=preflight)
        own = client.options("/api/own")
        outside = client.options("/outside", headers=preflight)
    assert answered.status_code == 204
    assert answered.headers["access-control-allow-origin"] == "https://app.example"
    assert (plain.status_code, plain.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS")
    assert tail.headers["access-control-allow-origin"] == "https://app.example"
    assert own.text == "own"
    assert "access-control-allow-origin" not in outside.headers
