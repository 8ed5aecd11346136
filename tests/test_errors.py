"""Errors, and the responses they become."""

import asyncio
import logging
import pickle

import pytest

from hypern import HTTPException, Hypern, HypernError
from hypern.testing import TestClient


class OutOfStockError(Exception):
    pass


class SoldOutForeverError(OutOfStockError):
    pass


def app_that_raises(error):
    app = Hypern()

    @app.get("/thread")
    def on_thread(res):
        res.header("x-kept", "yes").header("etag", '"1"').text("half an answer")
        raise error

    @app.get("/loop")
    async def on_loop():
        raise error

    @app.get("/suspended")
    async def suspended():
        await asyncio.sleep(0)
        raise error

    @app.get("/stream")
    def stream(res):
        def source():
            yield from ()
            raise error

        res.sse_stream(source())

    return app


EVERYWHERE = pytest.mark.parametrize("path", ["/thread", "/loop", "/suspended", "/stream"])


def test_an_exception_has_the_phrase_of_its_status_as_detail():
    error = HTTPException(404)
    assert (error.status, error.detail, error.headers) == (404, "Not Found", {})
    assert str(error) == "404 Not Found"
    assert HTTPException(599).detail == "Error"
    assert isinstance(error, HypernError)


def test_an_exception_survives_pickling():
    error = pickle.loads(pickle.dumps(HTTPException(400, ["why"], {"x-a": "b"})))
    assert (error.status, error.detail, error.headers) == (400, ["why"], {"x-a": "b"})


@pytest.mark.parametrize("status", [200, 302, 399, 600])
def test_an_exception_is_an_error_status(status):
    with pytest.raises(ValueError, match=f"400 to 599, got {status}"):
        HTTPException(status)


@EVERYWHERE
def test_an_http_exception_becomes_json(path, caplog):
    app = app_that_raises(HTTPException(402, {"missing": 5}, {"x-reason": "poor"}))
    with TestClient(app) as client:
        response = client.get(path)
    assert response.status_code == 402
    assert response.content == b'{"detail":{"missing":5}}'
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-reason"] == "poor"
    assert caplog.records == []


def test_headers_that_do_not_describe_the_failed_body_are_kept():
    with TestClient(app_that_raises(HTTPException(400))) as client:
        headers = client.get("/thread").headers
    assert headers["x-kept"] == "yes"
    assert "etag" not in headers


@EVERYWHERE
def test_an_unexpected_error_is_logged_once_and_says_nothing(path, caplog):
    with TestClient(app_that_raises(RuntimeError("the password is 1234"))) as client:
        response = client.get(path)
    assert response.status_code == 500
    assert response.content == b'{"detail":"Internal Server Error"}'
    [record] = [record for record in caplog.records if record.name == "hypern"]
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith(f"a handler failed: GET '{path}' (request ")
    assert str(record.exc_info[1]) == "the password is 1234"
    assert record.exc_info[2] is not None


def test_a_line_break_in_a_path_cannot_forge_a_line_of_the_log(caplog):
    app = Hypern()

    @app.get("/*tail")
    def handler():
        raise RuntimeError

    with TestClient(app) as client:
        client.get("/a%0AERROR%20forged")
    [record] = caplog.records
    assert "\n" not in record.getMessage()


@EVERYWHERE
def test_a_handler_for_a_class_takes_its_subclasses(path, caplog):
    app = app_that_raises(SoldOutForeverError("tea"))

    @app.error_handler(OutOfStockError)
    def out_of_stock(error, res):
        res.status(409).json({"sold out": str(error)})

    with TestClient(app) as client:
        response = client.get(path)
    assert (response.status_code, response.json()) == (409, {"sold out": "tea"})
    assert caplog.records == []


@EVERYWHERE
def test_an_async_handler_may_wait(path):
    app = app_that_raises(OutOfStockError())

    @app.error_handler(OutOfStockError)
    async def out_of_stock(req, ctx):
        await asyncio.sleep(0.001)
        assert len(ctx.request_id) == 32
        return {"path": req.path}

    with TestClient(app) as client:
        response = client.get(path)
    assert (response.status_code, response.json()) == (500, {"path": path})


@EVERYWHERE
def test_a_blocking_handler_does_not_run_on_the_event_loop(path):
    app = app_that_raises(OutOfStockError())

    @app.error_handler(OutOfStockError)
    def out_of_stock():
        return {"loop": asyncio._get_running_loop() is not None}

    with TestClient(app) as client:
        assert client.get(path).json() == {"loop": False}


def test_the_most_specific_handler_wins():
    app = app_that_raises(SoldOutForeverError())
    app.error_handler(Exception)(lambda: "any")
    app.error_handler(SoldOutForeverError)(lambda: "forever")
    app.error_handler(OutOfStockError)(lambda: "stock")
    with TestClient(app) as client:
        assert client.get("/thread").text == "forever"


def test_a_status_has_a_handler():
    app = app_that_raises(HTTPException(404, "no tea", {"x-kept": "too"}))

    @app.error_handler(404)
    def missing(error):
        return f"sorry: {error.detail}"

    with TestClient(app) as client:
        raised, missed = client.get("/thread"), client.get("/nowhere")
    assert (raised.status_code, raised.text, raised.headers["x-kept"]) == (404, "sorry: no tea", "too")
    assert (missed.status_code, missed.text) == (404, "sorry: Not Found")


def test_a_handler_of_http_exceptions_takes_every_status_without_one():
    app = app_that_raises(HTTPException(418))
    app.error_handler(404)(lambda: "by status")
    app.error_handler(HTTPException)(lambda error: f"by class {error.status}")
    with TestClient(app) as client:
        assert client.get("/loop").text == "by class 418"
        assert client.get("/nowhere").text == "by status"
        wrong_method = client.post("/loop")
    assert wrong_method.text == "by class 405"
    assert wrong_method.headers["allow"] == "GET, HEAD, OPTIONS"


def test_a_handler_of_exception_leaves_http_exceptions_alone():
    app = app_that_raises(HTTPException(418))
    app.error_handler(Exception)(lambda: "any")
    with TestClient(app) as client:
        assert client.get("/thread").json() == {"detail": "I'm a Teapot"}


@EVERYWHERE
def test_a_handler_of_500_answers_what_is_logged_all_the_same(path, caplog):
    app = app_that_raises(RuntimeError("secret"))
    app.error_handler(500)(lambda: "oops")
    with TestClient(app) as client:
        response = client.get(path)
    assert (response.status_code, response.text) == (500, "oops")
    assert [str(record.exc_info[1]) for record in caplog.records] == ["secret"]


@EVERYWHERE
def test_a_handler_may_raise_an_http_exception(path):
    app = app_that_raises(KeyError("tea"))

    @app.error_handler(KeyError)
    def missing(error):
        raise HTTPException(404, f"no {error.args[0]}") from error

    with TestClient(app) as client:
        response = client.get(path)
    assert (response.status_code, response.json()) == (404, {"detail": "no tea"})


@EVERYWHERE
def test_a_handler_that_fails_is_an_unexpected_error(path, caplog):
    app = app_that_raises(OutOfStockError())

    @app.error_handler(OutOfStockError)
    def broken(res):
        res.text("half")
        raise RuntimeError("in the handler")

    with TestClient(app) as client:
        response = client.get(path)
    assert (response.status_code, response.json()) == (500, {"detail": "Internal Server Error"})
    assert [str(record.exc_info[1]) for record in caplog.records] == ["in the handler"]


@pytest.mark.parametrize("error", [HTTPException(400, object()), HTTPException(400, None, {"x-bad": "a\r\nb: c"})])
def test_an_http_exception_that_cannot_be_sent_is_an_unexpected_error(error, caplog):
    with TestClient(app_that_raises(error)) as client:
        response = client.get("/thread")
    assert (response.status_code, response.json()) == (500, {"detail": "Internal Server Error"})
    assert "b" not in response.headers
    assert len(caplog.records) == 1


def test_even_what_is_no_exception_is_answered(caplog):
    with TestClient(app_that_raises(SystemExit(3))) as client:
        assert client.get("/thread").status_code == 500
        assert client.get("/thread").status_code == 500
    assert len(caplog.records) == 2


def test_a_value_that_cannot_be_sent_is_an_unexpected_error(caplog):
    app = Hypern()

    @app.get("/")
    def handler():
        return object()

    with TestClient(app) as client:
        assert client.get("/").status_code == 500
    assert "object" in str(caplog.records[0].exc_info[1])


@pytest.mark.parametrize("key", ["404", None, int, TypeError("x")])
def test_a_handler_is_for_a_class_or_a_status(key):
    with pytest.raises(TypeError, match="an exception class or a status, not for"):
        Hypern().error_handler(key)(lambda: None)


def test_a_handler_is_for_an_error_status():
    with pytest.raises(ValueError, match="400 to 599, got 200"):
        Hypern().error_handler(200)(lambda: None)


def test_a_handler_that_needs_something_else_is_refused():
    with pytest.raises(TypeError, match="needs a parameter 'exception'; it may take req, res, ctx, error"):
        Hypern().error_handler(404)(lambda exception: None)
