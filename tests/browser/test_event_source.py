"""Chromium's own EventSource and fetch, on streams that do what streams may do."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest

from hypern import HTTPException, Hypern, SSEEvent
from hypern.middleware import CompressionMiddleware, CorsMiddleware
from hypern.testing import TestClient

SECONDS = 30
PAGE = "<!doctype html><meta charset=utf-8><title>A page</title><link rel=icon href=data:,>"

# Follows a stream and returns what happened, in order, once `done` says that this is enough.
FOLLOW = """
const follow = (url, { names = [], done, onOpen = () => {}, init = {} }) => new Promise((resolve) => {
  const source = new EventSource(url, init);
  const happened = [];
  const note = (what) => {
    happened.push(what);
    if (!done(happened, what)) return;
    source.close();
    resolve(happened);
  };
  source.onopen = () => { note({ type: "open" }); onOpen(); };
  source.onerror = () => note({ type: "error", state: source.readyState });
  for (const name of ["message", ...names]) {
    source.addEventListener(name, (event) => note({ type: name, data: event.data, id: event.lastEventId }));
  }
});
"""
CONNECTING, CLOSED = 0, 2


class Site:
    """An app in a server, and a browser that has one of its pages open."""

    def __init__(self, browser):
        self.app = Hypern()
        self.app.get("/")(lambda res: res.html(PAGE) and None)
        self.browser = browser
        self.client = TestClient(self.app, timeout=SECONDS)

    def __enter__(self):
        self.client.__enter__()
        self.browser.get(self.client.base_url)
        return self

    def __exit__(self, *details):
        # A page that stays would keep its streams, and come back to the next server on this port.
        self.browser.get("about:blank")
        self.client.__exit__(*details)

    def run(self, script):
        """Run JavaScript in the page: the value of an async function's body."""
        wrapped = f"{FOLLOW} const body = async () => {{ {script} }};"
        returned = self.browser.execute_async_script(
            f"{wrapped} const end = arguments[0];"
            "body().then((value) => end({ value }), (error) => end({ error: `${error.name}: ${error.message}` }));"
        )
        assert "error" not in returned, returned["error"]
        return returned["value"]


@pytest.fixture
def site(browser):
    return Site(browser)


def message(data, identifier="", name="message"):
    return {"type": name, "data": data, "id": identifier}


OPEN = {"type": "open"}


def test_named_events(site):
    @site.app.get("/events")
    def events(res):
        res.sse(
            [
                SSEEvent("Connected!", event="connect"),
                SSEEvent("Hello World", event="message", id="1"),
                SSEEvent("nobody listens", event="unknown"),
                SSEEvent("Goodbye", event="close", id="2"),
            ]
        )

    with site:
        happened = site.run("""
            const done = (all, last) => last.type === "close";
            return follow("/events", { names: ["connect", "close"], done });
        """)
    assert happened == [
        OPEN,
        message("Connected!", name="connect"),
        message("Hello World", "1"),
        message("Goodbye", "2", "close"),
    ]


def test_a_stream_that_is_silent_at_first_opens(site):
    opened = threading.Event()

    @site.app.sse("/silent")
    def silent():
        opened.wait(SECONDS)
        yield "at last"

    @site.app.post("/opened")
    def note():
        opened.set()

    with site:
        # The first event is made only after the page has seen the stream open.
        happened = site.run("""
            const onOpen = () => fetch("/opened", { method: "POST" });
            return follow("/silent", { onOpen, done: (all) => all.length === 2 });
        """)
    assert happened == [OPEN, message("at last")]


@pytest.mark.parametrize("compressed", [False, True])
def test_each_event_arrives_before_the_next_is_made(site, compressed):
    seen = threading.Semaphore(0)
    accepted = []
    if compressed:
        site.app.use(CompressionMiddleware())

    @site.app.sse("/steps")
    def steps(req):
        accepted.append(req.header("accept-encoding"))
        for number in range(5):
            yield SSEEvent(number, id=str(number))
            assert seen.acquire(timeout=SECONDS)

    @site.app.post("/seen")
    def note():
        seen.release()

    with site:
        happened = site.run("""
            const done = (all, last) => {
              if (last.type === "message") fetch("/seen", { method: "POST" });
              return all.length === 6;
            };
            return follow("/steps", { done });
        """)
        encoding = site.run("""
            const answer = await fetch("/steps", { method: "HEAD" });
            return answer.headers.get("content-encoding");
        """)
    assert happened == [OPEN, *(message(str(number), str(number)) for number in range(5))]
    assert encoding in accepted[0].split(", ") if compressed else encoding is None


TEXTS = [
    "",
    " led by a space",
    "one\ntwo\n\nfour",
    "one\rtwo\r\nthree",
    "\n",
    ": no comment",
    "data: no field\nid: 99",
    "Grüße, 世界, 🎈, \ufeff, e\u0301",
    "no\u2028break\u2029in\x85here\x0b\x0c\x00",
    "x" * 300_000,
]


def test_text_arrives_as_it_was_sent(site):
    @site.app.sse("/texts")
    def texts():
        for number, text in enumerate(TEXTS):
            yield SSEEvent(text, id=f"№ {number}", event="Überschrift")
        yield SSEEvent({"ключ": [1.5, None, "ä\n"]}, event="Überschrift")

    with site:
        happened = site.run(f"""
            const done = (all) => all.length === {len(TEXTS) + 2};
            return follow("/texts", {{ names: ["Überschrift"], done }});
        """)
    expected = [text.replace("\r\n", "\n").replace("\r", "\n") for text in TEXTS]
    assert [event["data"] for event in happened[1:-1]] == expected
    assert [event["id"] for event in happened[1:-1]] == [f"№ {number}" for number in range(len(TEXTS))]
    assert happened[-1]["data"] == '{"ключ":[1.5,null,"ä\\n"]}'


def test_comments_and_keep_alives_are_invisible(site):
    @site.app.sse("/comments", ping=0.02)
    def comments(ctx):
        yield SSEEvent("one", id="1")
        yield SSEEvent.comment("nobody\nsees this")
        ctx.sleep(0.3)
        yield None
        yield "two"

    with site:
        happened = site.run("return follow('/comments', { done: (all) => all.length === 3 });")
        text = site.run("return (await fetch('/comments')).text();")
    assert happened == [OPEN, message("one", "1"), message("two", "1")]
    assert ": nobody\n: sees this\n\n" in text
    assert text.count(": keepalive\n") > 1


@pytest.mark.parametrize("ending", ["ends", "fails"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_lost_stream_is_resumed_without_a_hole_or_a_double(site, ending, is_async):
    last_ids = []

    def numbers(req):
        last_ids.append(req.last_event_id)
        first = int(req.last_event_id or 0) + 1
        for number in range(first, first + 4):
            yield SSEEvent(number, id=str(number))
        if ending == "fails":
            raise ConnectionError

    async def async_numbers(req):
        for event in numbers(req):
            yield event

    site.app.sse("/numbers", retry=1)(async_numbers if is_async else numbers)
    with site:
        happened = site.run("""
            return follow("/numbers", { done: (all, last) => last.data === "12" });
        """)
    messages = [message(str(number), str(number)) for number in range(1, 13)]
    lost = {"type": "error", "state": CONNECTING}
    assert happened == [OPEN, *messages[:4], lost, OPEN, *messages[4:8], lost, OPEN, *messages[8:]]
    assert last_ids == [None, "4", "8"]


def test_a_client_may_come_back_by_the_query(site):
    last_ids = []

    @site.app.sse("/events")
    def events(req):
        last_ids.append(req.last_event_id)
        first = int(req.last_event_id or 0) + 1
        for number in range(first, first + 2):
            yield SSEEvent(number, id=str(number))

    with site:
        seen = site.run("""
            const seen = [];
            let lastEventId = null;
            const follow = (url, resolve) => {
              const source = new EventSource(url);
              source.onmessage = (event) => { lastEventId = event.lastEventId; seen.push(event.data); };
              source.onerror = () => {
                source.close();
                if (seen.length >= 6) resolve();
                else follow(`/events?lastEventId=${lastEventId}`, resolve);
              };
            };
            await new Promise((resolve) => follow("/events", resolve));
            return seen;
        """)
    assert seen == ["1", "2", "3", "4", "5", "6"]
    assert last_ids == [None, "2", "4"]


def test_retry_says_how_long_to_wait(site):
    arrivals = []
    wait = 0.6  # seconds; Chromium's own are three

    @site.app.sse("/short", retry=1)
    def short():
        arrivals.append(time.monotonic())
        # Said by an event, from here on: that is what counts.
        yield SSEEvent("again", retry=int(wait * 1000) if len(arrivals) == 5 else None)

    with site:
        site.run("return follow('/short', { done: (all) => all.filter(({ type }) => type === 'open').length === 6 });")
    gaps = [after - before for before, after in pairwise(arrivals)]
    assert min(gaps[:4]) < wait
    assert gaps[4] >= wait


def test_what_makes_the_browser_give_up(site):
    tries = []

    @site.app.get("/:case")
    def refuse(req, res):
        tries.append(case := req.param("case"))
        if case == "raises":
            raise ValueError(case)
        if case == "missing":
            raise HTTPException(404)
        if case == "nothing":
            res.status(204)
        if case == "text":
            res.text("data: no stream\n\n")
        if case == "before-the-first":
            res.sse_stream(1 / 0 for _ in range(3))

    cases = ["raises", "missing", "nothing", "text", "before-the-first"]
    with site:
        for case in cases:
            happened = site.run(f"return follow('/{case}', {{ done: (all) => true }});")
            assert happened == [{"type": "error", "state": CLOSED}], case
    assert tries == cases


def test_a_page_of_another_origin(site, browser):
    other = Site(browser)

    @other.app.get("/events")
    def events(req, res):
        res.sse([SSEEvent(req.cookie("who", "nobody"))])

    @other.app.get("/cookie")
    def cookie(res):
        res.cookie("who", "ada").text("there you are")

    with site:
        origin = site.client.base_url
        other.app.use(CorsMiddleware((origin,), allow_credentials=True))
        with other.client as server:
            url = server.base_url
            happened = site.run(f"""
                await fetch("{url}/cookie", {{ credentials: "include" }});
                const init = {{ withCredentials: true }};
                return follow("{url}/events", {{ init, done: (all) => all.length === 2 }});
            """)
            resumed = site.run(f"""
                const headers = {{ "Last-Event-ID": "7" }};
                return (await fetch("{url}/events", {{ headers, credentials: "include" }})).text();
            """)
            browser.get("about:blank")
    assert happened == [OPEN, message("ada")]
    assert resumed == "data: ada\n\n"


def test_fetch_sees_the_progress_of_a_stream(site):
    seen = threading.Semaphore(0)
    block = bytes(range(256)) * 64

    @site.app.get("/download")
    def download(res):
        def blocks():
            for _ in range(4):
                yield block
                assert seen.acquire(timeout=SECONDS)

        res.header("content-length", str(4 * len(block))).stream(blocks())

    @site.app.post("/seen")
    def note():
        seen.release()

    with site:
        lengths, total = site.run(f"""
            const response = await fetch("/download");
            const total = Number(response.headers.get("content-length"));
            const reader = response.body.getReader();
            const lengths = [];
            let received = 0;
            for (let part = await reader.read(); !part.done; part = await reader.read()) {{
              received += part.value.length;
              if (received % {len(block)} === 0) {{
                lengths.push(received);
                await fetch("/seen", {{ method: "POST" }});
              }}
            }}
            return [lengths, total];
        """)
    assert lengths == [len(block), 2 * len(block), 3 * len(block), 4 * len(block)]
    assert total == 4 * len(block)


@pytest.mark.parametrize(("ending", "result"), [("ends", "whole"), ("fails", "TypeError")])
def test_fetch_tells_a_cut_stream_from_a_whole_one(site, ending, result):
    @site.app.get("/text")
    def text(res):
        def lines():
            yield "one\n"
            yield "two\n"
            if ending == "fails":
                raise OSError

        res.stream(lines(), content_type="text/plain; charset=utf-8")

    with site:
        received, ended = site.run("""
            const reader = (await fetch("/text")).body.pipeThrough(new TextDecoderStream()).getReader();
            let text = "";
            try {
              for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value;
            } catch (error) {
              return [text, error.name];
            }
            return [text, "whole"];
        """)
    assert ended == result
    # A browser may throw away what it had not handed over when the stream broke.
    assert received == "one\ntwo\n" if result == "whole" else "one\ntwo\n".startswith(received)


def test_a_closed_source_closes_its_generator(site):
    closed = threading.Event()

    @site.app.sse("/endless")
    async def endless(ctx):
        try:
            while True:
                yield "again"
                await ctx.sleep(0.01)
        finally:
            closed.set()

    with site:
        site.run("return follow('/endless', { done: (all) => all.length === 3 });")
        assert closed.wait(SECONDS)
