"""Litestar on uvicorn, with its ServerSentEvent response."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator

from litestar import Litestar, MediaType, get
from litestar.config.compression import CompressionConfig
from litestar.response import ServerSentEvent, ServerSentEventMessage, Stream

EVENTS = 100_000
SIZE = 1_073_741_824
CHUNK = bytes(65_536)


@get("/burst-sync", sync_to_thread=True)
def burst_sync(count: int = EVENTS) -> ServerSentEvent:
    def events() -> Iterator[ServerSentEventMessage]:
        for i in range(count):
            yield ServerSentEventMessage(f"Event {i}", event="counter", id=str(i))

    return ServerSentEvent(events())


@get("/burst-async")
async def burst_async(count: int = EVENTS) -> ServerSentEvent:
    async def events() -> AsyncIterator[ServerSentEventMessage]:
        for i in range(count):
            yield ServerSentEventMessage(f"Event {i}", event="counter", id=str(i))

    return ServerSentEvent(events())


@get("/paced-sync", sync_to_thread=True)
def paced_sync(rate: float = 10) -> ServerSentEvent:
    def events() -> Iterator[ServerSentEventMessage]:
        while True:
            yield ServerSentEventMessage(str(time.time()))
            time.sleep(1 / rate)

    return ServerSentEvent(events())


@get("/paced-async")
async def paced_async(rate: float = 10) -> ServerSentEvent:
    async def events() -> AsyncIterator[ServerSentEventMessage]:
        while True:
            yield ServerSentEventMessage(str(time.time()))
            await asyncio.sleep(1 / rate)

    return ServerSentEvent(events())


@get("/idle-sync", sync_to_thread=True)
def idle_sync() -> ServerSentEvent:
    def events() -> Iterator[ServerSentEventMessage]:
        yield ServerSentEventMessage("open")
        time.sleep(3600)

    return ServerSentEvent(events())


@get("/idle-async")
async def idle_async() -> ServerSentEvent:
    async def events() -> AsyncIterator[ServerSentEventMessage]:
        yield ServerSentEventMessage("open")
        await asyncio.sleep(3600)

    return ServerSentEvent(events())


@get("/download-sync", sync_to_thread=True)
def download_sync(size: int = SIZE) -> Stream:
    def chunks() -> Iterator[bytes]:
        for _ in range(size // len(CHUNK)):
            yield CHUNK

    return Stream(chunks(), media_type="application/octet-stream")


@get("/download-async")
async def download_async(size: int = SIZE) -> Stream:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size // len(CHUNK)):
            yield CHUNK

    return Stream(chunks(), media_type="application/octet-stream")


@get("/hello-sync", media_type=MediaType.TEXT, sync_to_thread=True)
def hello_sync() -> str:
    return "Hello, world!"


@get("/hello-async", media_type=MediaType.TEXT)
async def hello_async() -> str:
    return "Hello, world!"


@get("/json-sync", sync_to_thread=True)
def json_sync() -> dict[str, str]:
    return {"message": "Hello, world!"}


@get("/json-async")
async def json_async() -> dict[str, str]:
    return {"message": "Hello, world!"}


app = Litestar(
    [
        burst_sync,
        burst_async,
        paced_sync,
        paced_async,
        idle_sync,
        idle_async,
        download_sync,
        download_async,
        hello_sync,
        hello_async,
        json_sync,
        json_async,
    ],
    compression_config=CompressionConfig(backend="gzip") if os.environ.get("COMPRESSION") else None,
)
