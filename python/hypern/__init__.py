"""Hypern: Server-Sent Events and streaming responses that just work, on a Rust core."""

from hypern._hypern import Context, Request, Response, SSEEvent
from hypern.app import Hypern
from hypern.errors import HTTPException, HypernError
from hypern.routing import Router
from hypern.sse import SSEComment, StreamingResponse

__all__ = [
    "Context",
    "HTTPException",
    "Hypern",
    "HypernError",
    "Request",
    "Response",
    "Router",
    "SSEComment",
    "SSEEvent",
    "StreamingResponse",
]
