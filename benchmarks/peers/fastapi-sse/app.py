"""FastAPI on uvicorn, with the events that FastAPI itself has: the path operation is the generator."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

EVENTS = 100_000
SIZE = 1_073_741_824
CHUNK = bytes(65_536)

app = FastAPI()


@app.get("/burst-sync", response_class=EventSourceResponse)
def burst_sync(count: int = EVENTS) -> Iterator[ServerSentEvent]:
    for i in range(count):
        yield ServerSentEvent(raw_data=f"Event {i}", event="counter", id=str(i))


@app.get("/burst-async", response_class=EventSourceResponse)
async def burst_async(count: int = EVENTS) -> AsyncIterator[ServerSentEvent]:
    for i in range(count):
        yield ServerSentEvent(raw_data=f"Event {i}", event="counter", id=str(i))


@app.get("/paced-sync", response_class=EventSourceResponse)
def paced_sync(rate: float = 10) -> Iterator[ServerSentEvent]:
    while True:
        yield ServerSentEvent(data=time.time())
        time.sleep(1 / rate)


@app.get("/paced-async", response_class=EventSourceResponse)
async def paced_async(rate: float = 10) -> AsyncIterator[ServerSentEvent]:
    while True:
        yield ServerSentEvent(data=time.time())
        await asyncio.sleep(1 / rate)


@app.get("/idle-sync", response_class=EventSourceResponse)
def idle_sync() -> Iterator[ServerSentEvent]:
    yield ServerSentEvent(data="open")
    time.sleep(3600)


@app.get("/idle-async", response_class=EventSourceResponse)
async def idle_async() -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(data="open")
    await asyncio.sleep(3600)


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
