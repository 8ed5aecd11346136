"""Hypern, as its documentation writes it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator

from hypern import Hypern, Request, Response, SSEEvent
from hypern.middleware import CompressionMiddleware

EVENTS = 100_000
SIZE = 1_073_741_824
CHUNK = bytes(65_536)

# One thread for each sync stream: the largest job holds 10,000 of them.
app = Hypern(max_threads=12_000)
if os.environ.get("COMPRESSION"):
    app.use(CompressionMiddleware())


@app.get("/burst-sync")
def burst_sync(req: Request, res: Response) -> None:
    def events() -> Iterator[SSEEvent]:
        for i in range(int(req.query("count") or EVENTS)):
            yield SSEEvent(f"Event {i}", event="counter", id=str(i))

    res.sse_stream(events())


@app.get("/burst-async")
async def burst_async(req: Request, res: Response) -> None:
    async def events() -> AsyncIterator[SSEEvent]:
        for i in range(int(req.query("count") or EVENTS)):
            yield SSEEvent(f"Event {i}", event="counter", id=str(i))

    res.sse_stream(events())


@app.get("/paced-sync")
def paced_sync(req: Request, res: Response) -> None:
    rate = float(req.query("rate") or 10)

    def events() -> Iterator[SSEEvent]:
        while True:
            yield SSEEvent(str(time.time()))
            time.sleep(1 / rate)

    res.sse_stream(events())


@app.get("/paced-async")
async def paced_async(req: Request, res: Response) -> None:
    rate = float(req.query("rate") or 10)

    async def events() -> AsyncIterator[SSEEvent]:
        while True:
            yield SSEEvent(str(time.time()))
            await asyncio.sleep(1 / rate)

    res.sse_stream(events())


@app.get("/idle-sync")
def idle_sync(res: Response) -> None:
    def events() -> Iterator[SSEEvent]:
        yield SSEEvent("open")
        time.sleep(3600)

    res.sse_stream(events())


@app.get("/idle-async")
async def idle_async(res: Response) -> None:
    async def events() -> AsyncIterator[SSEEvent]:
        yield SSEEvent("open")
        await asyncio.sleep(3600)

    res.sse_stream(events())


@app.get("/download-sync")
def download_sync(req: Request, res: Response) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(int(req.query("size") or SIZE) // len(CHUNK)):
            yield CHUNK

    res.stream(chunks())


@app.get("/download-async")
async def download_async(req: Request, res: Response) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(int(req.query("size") or SIZE) // len(CHUNK)):
            yield CHUNK

    res.stream(chunks())


@app.get("/hello-sync")
def hello_sync(res: Response) -> None:
    res.text("Hello, world!")


@app.get("/hello-async")
async def hello_async(res: Response) -> None:
    res.text("Hello, world!")


@app.get("/json-sync")
def json_sync(res: Response) -> None:
    res.json({"message": "Hello, world!"})


@app.get("/json-async")
async def json_async(res: Response) -> None:
    res.json({"message": "Hello, world!"})


if __name__ == "__main__":
    app.listen(port=int(os.environ["PORT"]), host="127.0.0.1")
