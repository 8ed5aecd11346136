"""FastAPI on uvicorn, with the EventSourceResponse of sse-starlette."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse
from sse_starlette import EventSourceResponse, ServerSentEvent

EVENTS = 100_000
SIZE = 1_073_741_824
CHUNK = bytes(65_536)

app = FastAPI()


@app.get("/burst-sync")
def burst_sync(count: int = EVENTS) -> EventSourceResponse:
    def events() -> Iterator[ServerSentEvent]:
        for i in range(count):
            yield ServerSentEvent(f"Event {i}", event="counter", id=str(i))

    return EventSourceResponse(events())


@app.get("/burst-async")
async def burst_async(count: int = EVENTS) -> EventSourceResponse:
    async def events() -> AsyncIterator[ServerSentEvent]:
        for i in range(count):
            yield ServerSentEvent(f"Event {i}", event="counter", id=str(i))

    return EventSourceResponse(events())


@app.get("/paced-sync")
def paced_sync(rate: float = 10) -> EventSourceResponse:
    def events() -> Iterator[ServerSentEvent]:
        while True:
            yield ServerSentEvent(str(time.time()))
            time.sleep(1 / rate)

    return EventSourceResponse(events())


@app.get("/paced-async")
async def paced_async(rate: float = 10) -> EventSourceResponse:
    async def events() -> AsyncIterator[ServerSentEvent]:
        while True:
            yield ServerSentEvent(str(time.time()))
            await asyncio.sleep(1 / rate)

    return EventSourceResponse(events())


@app.get("/idle-sync")
def idle_sync() -> EventSourceResponse:
    def events() -> Iterator[ServerSentEvent]:
        yield ServerSentEvent("open")
        time.sleep(3600)

    return EventSourceResponse(events())


@app.get("/idle-async")
async def idle_async() -> EventSourceResponse:
    async def events() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent("open")
        await asyncio.sleep(3600)

    return EventSourceResponse(events())


@app.get("/download-sync")
def download_sync(size: int = SIZE) -> StreamingResponse:
    def chunks() -> Iterator[bytes]:
        for _ in range(size // len(CHUNK)):
            yield CHUNK

    return StreamingResponse(chunks(), media_type="application/octet-stream")


@app.get("/download-async")
async def download_async(size: int = SIZE) -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size // len(CHUNK)):
            yield CHUNK

    return StreamingResponse(chunks(), media_type="application/octet-stream")


@app.get("/hello-sync", response_class=PlainTextResponse)
def hello_sync() -> str:
    return "Hello, world!"


@app.get("/hello-async", response_class=PlainTextResponse)
async def hello_async() -> str:
    return "Hello, world!"


@app.get("/json-sync")
def json_sync() -> dict[str, str]:
    return {"message": "Hello, world!"}


@app.get("/json-async")
async def json_async() -> dict[str, str]:
    return {"message": "Hello, world!"}
