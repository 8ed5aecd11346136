"""A conforming parser of event streams: WHATWG HTML, 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting"."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ParsedEvent:
    """One event as a browser dispatches it."""

    data: str
    type: str
    last_event_id: str


@dataclass
class ParsedStream:
    """What a whole stream of bytes means to a client."""

    events: list[ParsedEvent] = field(default_factory=list)
    last_event_id: str = ""
    reconnection_time: int | None = None
    comments: list[str] = field(default_factory=list)


@dataclass
class _Buffers:
    data: str = ""
    type: str = ""
    last_event_id: str = ""


def parse(stream: bytes) -> ParsedStream:
    """Parse a stream that has ended; an event without its blank line is dropped, as the specification says."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    parsed, buffers = ParsedStream(), _Buffers()
    # The last part is either empty or a line that never ended.
    for line in re.split("\r\n|\r|\n", text)[:-1]:
        if line:
            _process(line, buffers, parsed)
        else:
            _dispatch(buffers, parsed)
    return parsed


def _process(line: str, buffers: _Buffers, parsed: ParsedStream) -> None:
    name, colon, value = line.partition(":")
    if colon and not name:
        parsed.comments.append(value.removeprefix(" "))
        return
    value = value.removeprefix(" ")
    if name == "event":
        buffers.type = value
    elif name == "data":
        buffers.data += value + "\n"
    elif name == "id" and "\0" not in value:
        buffers.last_event_id = value
    elif name == "retry" and re.fullmatch("[0-9]+", value):
        parsed.reconnection_time = int(value)


def _dispatch(buffers: _Buffers, parsed: ParsedStream) -> None:
    parsed.last_event_id = buffers.last_event_id
    if buffers.data:
        event = ParsedEvent(buffers.data.removesuffix("\n"), buffers.type or "message", parsed.last_event_id)
        parsed.events.append(event)
    buffers.data = buffers.type = ""
