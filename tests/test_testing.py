"""The test client itself."""

import importlib.util
import sys

import pytest

from hypern import Hypern, SSEEvent
from hypern.testing import TestClient


def echo_app():
    app = Hypern()

    @app.route("/", methods=("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
    def echo(req, res):
        res.header("x-method", req.method).json({"version": req.version, "body": req.text()})

    return app


def test_every_method():
    with TestClient(echo_app()) as client:
        for method in ("get", "head", "options", "post", "put", "patch", "delete"):
            response = getattr(client, method)("/")
            assert response.headers["x-method"] == method.upper()
        assert client.request("POST", "/", content="body").json()["body"] == "body"


def test_it_is_a_real_server():
    with TestClient(echo_app()) as client:
        assert client.base_url == f"http://127.0.0.1:{client.port}"
        assert client.port > 0
        assert client.get("/").json()["version"] == "1.1"


def test_http2():
    with TestClient(echo_app(), http2=True) as client:
        response = client.get("/")
    assert response.http_version == "HTTP/2"
    assert response.json()["version"] == "2"
    assert "connection" not in response.headers


def test_streams():
    app = Hypern()

    @app.sse("/", methods=("GET", "POST"))
    async def events(req):
        yield SSEEvent(req.method, event="method", id="1")

    with TestClient(app) as client:
        with client.stream("GET", "/") as response:
            assert response.read() == b"id: 1\nevent: method\ndata: GET\n\n"
        with client.sse("/") as source:
            assert [(event.event, event.data, event.id) for event in source.iter_sse()] == [("method", "GET", "1")]
        with client.sse("/", method="POST") as source:
            assert [event.data for event in source.iter_sse()] == ["POST"]


def test_cookies_are_kept():
    app = Hypern()
    app.get("/set")(lambda res: res.cookie("name", "value").text("set"))
    app.get("/get")(lambda req: req.cookies)
    with TestClient(app) as client:
        client.get("/set")
        assert client.get("/get").json() == {"name": "value"}


def test_a_failed_startup_is_raised():
    app = Hypern()

    @app.on_startup
    def fail():
        message = "no database"
        raise ConnectionError(message)

    with pytest.raises(ConnectionError, match="no database"), TestClient(app):
        pass


def test_a_failed_shutdown_is_raised():
    app = Hypern()

    @app.on_shutdown
    def fail():
        message = "not closed"
        raise ConnectionError(message)

    with pytest.raises(ConnectionError, match="not closed"), TestClient(app) as client:
        assert client.get("/").status_code == 404


def test_a_server_that_has_ended_by_itself_says_why():
    app = Hypern()
    client = TestClient(app)
    client.__enter__()

    def interrupt():
        raise KeyboardInterrupt

    client._loop.call_soon_threadsafe(interrupt)
    client._thread.join()
    with pytest.raises(KeyboardInterrupt):
        client.__exit__(None, None, None)


@pytest.mark.parametrize("missing", ["httpx", "httpx_sse"])
def test_it_says_what_to_install(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    spec = importlib.util.find_spec("hypern.testing")
    with pytest.raises(ImportError, match=r"pip install 'hypern\[testing\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
