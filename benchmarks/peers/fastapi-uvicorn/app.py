"""FastAPI on uvicorn or granian: events written by hand into a plain StreamingResponse."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse

EVENTS = 100_000
SIZE = 1_073_741_824
CHUNK = bytes(65_536)

app = FastAPI()


@app.get("/burst-sync")
def burst_sync(count: int = EVENTS) -> StreamingResponse:
    def events() -> Iterator[str]:
        for i in range(count):
            yield f"id: {i}\nevent: counter\ndata: Event {i}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/burst-async")
async def burst_async(count: int = EVENTS) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        for i in range(count):
            yield f"id: {i}\nevent: counter\ndata: Event {i}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/paced-sync")
def paced_sync(rate: float = 10) -> StreamingResponse:
    def events() -> Iterator[str]:
        while True:
            yield f"data: {time.time()}\n\n"
            time.sleep(1 / rate)

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/paced-async")
async def paced_async(rate: float = 10) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        while True:
            yield f"data: {time.time()}\n\n"
            await asyncio.sleep(1 / rate)

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/idle-sync")
def idle_sync() -> StreamingResponse:
    def events() -> Iterator[str]:
        yield "data: open\n\n"
        time.sleep(3600)

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/idle-async")
async def idle_async() -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        yield "data: open\n\n"
        await asyncio.sleep(3600)

    return StreamingResponse(events(), media_type="text/event-stream")


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
