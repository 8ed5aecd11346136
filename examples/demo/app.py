"""The demo: one page that shows every kind of stream at work.

Run it with ``make demo``, or with ``PORT=8000 python examples/demo/app.py``.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypern import Hypern, SSEEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from hypern import Request, Response

HERE = Path(__file__).parent
TICK_SECONDS = 0.5
RETRY_MILLISECONDS = 2000
BLOCK_BYTES = 64 * 1024
BLOCKS = 384

app = Hypern()


class Journal:
    """What happened in this server, numbered, so that a page that was away can ask for what it missed.

    Everything but ``write`` runs on the event loop, so no lock is needed.
    """

    def __init__(self, size: int) -> None:
        """Remember the last ``size`` events."""
        self.number = 0
        self.entries: deque[tuple[int, SSEEvent]] = deque(maxlen=size)
        self.changed = asyncio.Event()
        self.cut_off: set[str] = set()
        self.loop: asyncio.AbstractEventLoop | None = None

    def write(self, event: str, data: dict[str, Any]) -> None:
        """Add an event, from any thread."""
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self._append, event, data)

    def _append(self, event: str, data: dict[str, Any]) -> None:
        self.number += 1
        self.entries.append((self.number, SSEEvent(data, event=event, id=str(self.number))))
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def cut(self, page: str) -> None:
        """End the stream of one page; the event that says so is among those that it misses."""
        self.cut_off.add(page)
        self._append("cut", {"by": "the server"})

    async def follow(self, page: str, last_event_id: str | None) -> AsyncIterator[SSEEvent]:
        """Yield what came after ``last_event_id``, then whatever comes."""
        seen = self.number
        if last_event_id is not None and last_event_id.isdecimal() and int(last_event_id) <= seen:
            seen = int(last_event_id)
            # No id of its own: the browser's Last-Event-ID must stay that of the journal.
            yield SSEEvent({"after": seen, "missed": len(self.after(seen))}, event="resumed")
        while page not in self.cut_off:
            changed = self.changed
            for number, entry in self.after(seen):
                yield entry
                seen = number
            await changed.wait()
        self.cut_off.discard(page)

    def after(self, number: int) -> list[tuple[int, SSEEvent]]:
        """Give the remembered events with a higher number."""
        return [entry for entry in self.entries if entry[0] > number]


journal = Journal(size=500)
clocks: set[asyncio.Task[None]] = set()


def narrated(path: str, source: Iterable[Any]) -> Iterator[Any]:
    """Pass a stream through, and write into the journal when it begins and how it ends."""
    journal.write("opened", {"path": path})
    sent = 0
    ending = "client left"
    try:
        for item in source:
            yield item
            sent += 1
        ending = "finished"
    finally:
        journal.write("closed", {"path": path, "ending": ending, "sent": sent})


@app.on_startup
async def start_clock() -> None:
    """Write a tick into the journal, twice a second, for as long as the server runs."""
    journal.loop = asyncio.get_running_loop()
    began = time.monotonic()

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            journal.write("tick", {"uptime": round(time.monotonic() - began, 1)})

    clocks.add(asyncio.create_task(tick()))


@app.on_shutdown
async def stop_clock() -> None:
    """End the ticks."""
    for clock in clocks:
        clock.cancel()


@app.get("/")
def page(res: Response) -> None:
    """Send the page."""
    res.file(HERE / "index.html")


@app.get("/style.css")
def style(res: Response) -> None:
    """Send its style sheet."""
    res.file(HERE / "style.css")


@app.get("/app.js")
def script(res: Response) -> None:
    """Send its script."""
    res.file(HERE / "app.js")


@app.get("/feed")
async def feed(req: Request, res: Response) -> None:
    """Stream without end, from after the last id that the browser saw."""
    events = journal.follow(req.query("page", ""), req.last_event_id)
    res.sse_stream(events, retry=RETRY_MILLISECONDS)


@app.post("/cut")
async def cut(req: Request, res: Response) -> None:
    """Close the feed of the page that asks; its EventSource comes back by itself."""
    journal.cut(req.query("page", ""))
    res.status(204)


@app.get("/events")
def events(res: Response) -> None:
    """Send three named events, all known beforehand, as one whole body."""
    res.sse(
        [
            SSEEvent("Connected", event="connect"),
            SSEEvent("Two lines\nin one event", event="message", id="1"),
            SSEEvent("That was all", event="close", id="2"),
        ]
    )


@app.get("/live-data")
def live_data(res: Response) -> None:
    """Sleep in a plain generator: it has a thread of its own and holds up nobody."""

    def readings() -> Iterator[SSEEvent]:
        for number in range(100):
            swell = 3.2 * math.sin(number / 9) + 0.9 * math.sin(number / 2.3)
            reading = {"timestamp": time.time(), "value": round(21 + swell, 2), "sensor": "temp-1"}
            yield SSEEvent(reading, event="sensor_reading", id=str(number))
            time.sleep(0.1)

    res.sse_stream(narrated("/live-data", readings()))


@app.get("/stream")
def counter(res: Response) -> None:
    """Send a thousand events, as fast as the client takes them."""
    numbers = (SSEEvent(f"Event {number}", event="counter", id=str(number)) for number in range(1000))
    res.sse_stream(narrated("/stream", numbers))


@app.get("/flexible-stream")
def flexible_stream(res: Response) -> None:
    """Yield everything that a stream accepts."""

    class CustomEvent:
        data = "From any object"
        event = "custom"

    def anything() -> Iterator[Any]:
        yield SSEEvent("From an SSEEvent", event="type1")
        yield {"data": "From a mapping", "event": "type2", "id": "2"}
        yield "From a str"
        yield CustomEvent()
        yield [1, 2, {"three": 3}]
        yield SSEEvent.comment("seen by proxies, not by scripts")
        yield None
        yield SSEEvent("", event="end")

    res.sse_stream(anything())


@app.get("/custom-stream")
def custom_stream(res: Response) -> None:
    """Put a body together by hand."""
    body: str = SSEEvent.comment("keepalive")
    body += SSEEvent("Starting...", event="start").format()
    body += SSEEvent("Done!", event="end", retry=5000).format()
    res.sse_headers().send(body)


@app.get("/download")
def download(res: Response) -> None:
    """Send 24 MiB that exist nowhere: each block is made when there is room for it."""

    def blocks() -> Iterator[bytes]:
        for number in range(BLOCKS):
            yield number.to_bytes(4, "big") * (BLOCK_BYTES // 4)
            time.sleep(0.005)  # so that there is something to see: without it loopback is done at once

    res.header("content-length", str(BLOCKS * BLOCK_BYTES))
    res.header("content-disposition", 'attachment; filename="generated.bin"')
    res.stream(narrated("/download", blocks()), content_type="application/octet-stream")


STREAMS = {
    "/feed": feed,
    "/events": events,
    "/live-data": live_data,
    "/stream": counter,
    "/flexible-stream": flexible_stream,
    "/custom-stream": custom_stream,
    "/download": download,
}


@app.get("/source")
def source() -> dict[str, str]:
    """Give the handlers' own code, so that what the page shows is what runs."""
    return {path: inspect.getsource(handler) for path, handler in STREAMS.items()}


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "5000"))
    print(f"The demo is at http://localhost:{port} (Ctrl+C ends it)", flush=True)
    app.listen(port=port)
