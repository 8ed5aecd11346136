"""Each example, started as its first lines say, on a free port."""

from pathlib import Path

import httpx
import pytest

from processes import running

EXAMPLES = Path(__file__).parents[1] / "examples"
DEMO = EXAMPLES / "demo" / "app.py"
# An example listens where its reader expects it; here it must not matter what else runs on that port.
ON_A_FREE_PORT = """
import runpy, sys
from hypern import Hypern

listen = Hypern.listen
Hypern.listen = lambda self, port=5000, host="0.0.0.0": listen(self, 0, "127.0.0.1")
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.fixture
def serve():
    programs = []

    def start(example):
        context = running("-c", ON_A_FREE_PORT, str(example))
        program = context.__enter__()
        client = httpx.Client(base_url=program.url, trust_env=False, timeout=30)
        programs.append((context, client, program))
        return client

    yield start
    for context, client, program in programs:
        client.close()
        context.__exit__(None, None, None)
        assert program.process.returncode == 0


def events_of(response):
    return response.text.removesuffix("\n\n").split("\n\n")


def test_hello(serve):
    client = serve(EXAMPLES / "hello.py")
    assert client.get("/").text == "Hello from a thread"
    assert client.get("/books/1").json() == {"title": "Emma"}
    assert client.get("/books/9").status_code == 404
    added = client.post("/books", json={"title": "Sanditon"})
    assert (added.status_code, added.headers["location"]) == (201, "/books/3")
    assert client.get("/books/3").json() == {"title": "Sanditon"}
    assert events_of(client.get("/ticks")) == [f'id: {n}\nevent: tick\ndata: {{"tick":{n}}}' for n in (1, 2, 3)]
    resumed = client.get("/ticks", headers={"last-event-id": "2"})
    assert events_of(resumed)[0] == 'id: 3\nevent: tick\ndata: {"tick":3}'


def test_middleware(serve):
    client = serve(EXAMPLES / "middleware.py")
    greeting = client.get("/greet/de", headers={"origin": "https://app.example"})
    assert greeting.text == "Hallo"
    assert greeting.headers["access-control-allow-origin"] == "https://app.example"
    assert greeting.headers["server-timing"].startswith("app;dur=")
    assert client.get("/greet/xx").json() == {"detail": "No greeting in xx"}
    assert client.get("/api/private/me").status_code == 401
    assert client.get("/api/private/me", headers={"authorization": "Bearer secret"}).json() == {"user": "ada"}


def test_demo(serve):
    client = serve(DEMO)
    for path, kind in (("/", "text/html"), ("/style.css", "text/css"), ("/app.js", "text/javascript")):
        response = client.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(kind)
    assert client.get("/events").text.count("\n\n") == 3
    assert len(events_of(client.get("/stream"))) == 1000
    assert client.get("/custom-stream").text.startswith(": keepalive\n\nevent: start\n")
    assert client.get("/flexible-stream").text.endswith("event: end\ndata: \n\n")
    assert set(client.get("/source").json()) >= {"/feed", "/events", "/live-data", "/download"}
    with client.stream("GET", "/live-data") as response:
        assert next(response.iter_raw()).startswith(b"id: 0\nevent: sensor_reading\n")
    with client.stream("GET", "/download") as response:
        assert response.headers["content-length"] == str(384 * 64 * 1024)
        assert sum(map(len, response.iter_raw())) == 384 * 64 * 1024


def test_the_demo_feeds_whom_it_has_cut_off(serve):
    client = serve(DEMO)
    with client.stream("GET", "/feed?page=one") as response:
        chunks = response.iter_raw()
        first = next(chunks)
        while b"id: " not in first:
            first += next(chunks)
        client.post("/cut?page=one")
        seen = (first + b"".join(chunks)).decode()
    last = int(seen.rpartition("id: ")[2].partition("\n")[0])
    with client.stream("GET", "/feed?page=one", headers={"last-event-id": str(last)}) as response:
        text = ""
        for chunk in response.iter_text():
            text += chunk
            if "event: cut" in text:
                break
    assert text.startswith(f'retry: 2000\nevent: resumed\ndata: {{"after":{last},')
    assert f"id: {last + 1}\n" in text
