"""Robyn, with its SSEResponse and StreamingResponse."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator

from robyn import Request, Robyn, SSEMessage, SSEResponse, StreamingResponse

EVENTS = 100_000
SIZE = 1_073_741_824
CHUNK = bytes(65_536)

app = Robyn(__file__)


def parameter(request: Request, name: str, default: float) -> float:
    return float(request.query_params.get(name, str(default)))


@app.get("/burst-sync")
def burst_sync(request: Request) -> StreamingResponse:
    def events() -> Iterator[str]:
        for i in range(int(parameter(request, "count", EVENTS))):
            yield SSEMessage(f"Event {i}", event="counter", id=str(i))

    return SSEResponse(events())


@app.get("/burst-async")
async def burst_async(request: Request) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        for i in range(int(parameter(request, "count", EVENTS))):
            yield SSEMessage(f"Event {i}", event="counter", id=str(i))

    return SSEResponse(events())


@app.get("/paced-sync")
def paced_sync(request: Request) -> StreamingResponse:
    rate = parameter(request, "rate", 10)

    def events() -> Iterator[str]:
        while True:
            yield SSEMessage(str(time.time()))
            time.sleep(1 / rate)

    return SSEResponse(events())


@app.get("/paced-async")
async def paced_async(request: Request) -> StreamingResponse:
    rate = parameter(request, "rate", 10)

    async def events() -> AsyncIterator[str]:
        while True:
            yield SSEMessage(str(time.time()))
            await asyncio.sleep(1 / rate)

    return SSEResponse(events())


@app.get("/idle-sync")
def idle_sync(request: Request) -> StreamingResponse:
    def events() -> Iterator[str]:
        yield SSEMessage("open")
        time.sleep(3600)

    return SSEResponse(events())


@app.get("/idle-async")
async def idle_async(request: Request) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        yield SSEMessage("open")
        await asyncio.sleep(3600)

    return SSEResponse(events())


@app.get("/download-sync")
def download_sync(request: Request) -> StreamingResponse:
    def chunks() -> Iterator[bytes]:
        for _ in range(int(parameter(request, "size", SIZE)) // len(CHUNK)):
            yield CHUNK

    return StreamingResponse(chunks(), media_type="application/octet-stream")


@app.get("/download-async")
async def download_async(request: Request) -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(int(parameter(request, "size", SIZE)) // len(CHUNK)):
            yield CHUNK

    return StreamingResponse(chunks(), media_type="application/octet-stream")


@app.get("/hello-sync")
def hello_sync(request: Request) -> str:
    return "Hello, world!"


@app.get("/hello-async")
async def hello_async(request: Request) -> str:
    return "Hello, world!"


@app.get("/json-sync")
def json_sync(request: Request) -> dict[str, str]:
    return {"message": "Hello, world!"}


@app.get("/json-async")
async def json_async(request: Request) -> dict[str, str]:
    return {"message": "Hello, world!"}


if __name__ == "__main__":
    app.start(host="127.0.0.1", port=int(os.environ["PORT"]))
