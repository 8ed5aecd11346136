"""The older project of the same name, 1.1.4. It has no way to stream bytes, so there is no download."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from hypern import CompressionMiddleware, Hypern, SSEEvent

EVENTS = 100_000

app = Hypern()
if os.environ.get("COMPRESSION"):
    app.use(CompressionMiddleware())


@app.get("/burst-sync")
def burst_sync(req: Any, res: Any, ctx: Any) -> None:
    def events() -> Iterator[SSEEvent]:
        for i in range(int(req.query("count") or EVENTS)):
            yield SSEEvent(f"Event {i}", event="counter", id=str(i))

    res.sse_stream(events())


@app.get("/burst-async")
async def burst_async(req: Any, res: Any, ctx: Any) -> None:
    async def events() -> AsyncIterator[SSEEvent]:
        for i in range(int(req.query("count") or EVENTS)):
            yield SSEEvent(f"Event {i}", event="counter", id=str(i))

    res.sse_stream(events())


@app.get("/paced-sync")
def paced_sync(req: Any, res: Any, ctx: Any) -> None:
    rate = float(req.query("rate") or 10)

    def events() -> Iterator[SSEEvent]:
        while True:
            yield SSEEvent(str(time.time()))
            time.sleep(1 / rate)

    res.sse_stream(events())


@app.get("/paced-async")
async def paced_async(req: Any, res: Any, ctx: Any) -> None:
    rate = float(req.query("rate") or 10)

    async def events() -> AsyncIterator[SSEEvent]:
        while True:
            yield SSEEvent(str(time.time()))
            await asyncio.sleep(1 / rate)

    res.sse_stream(events())


@app.get("/idle-sync")
def idle_sync(req: Any, res: Any, ctx: Any) -> None:
    def events() -> Iterator[SSEEvent]:
        yield SSEEvent("open")
        time.sleep(3600)

    res.sse_stream(events())


@app.get("/idle-async")
async def idle_async(req: Any, res: Any, ctx: Any) -> None:
    async def events() -> AsyncIterator[SSEEvent]:
        yield SSEEvent("open")
        await asyncio.sleep(3600)

    res.sse_stream(events())


@app.get("/hello-sync")
def hello_sync(req: Any, res: Any, ctx: Any) -> None:
    res.text("Hello, world!")


@app.get("/hello-async")
async def hello_async(req: Any, res: Any, ctx: Any) -> None:
    res.text("Hello, world!")


@app.get("/json-sync")
def json_sync(req: Any, res: Any, ctx: Any) -> None:
    res.json({"message": "Hello, world!"})


@app.get("/json-async")
async def json_async(req: Any, res: Any, ctx: Any) -> None:
    res.json({"message": "Hello, world!"})


if __name__ == "__main__":
    app.listen(port=int(os.environ["PORT"]), host="127.0.0.1")
