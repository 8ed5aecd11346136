"""What a stream is made of on Python's side: comments, and a stream as a return value."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from hypern._hypern import SSEEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SSEComment", "SSEEvent", "StreamingResponse"]

Chunk: TypeAlias = "bytes | bytearray | memoryview | str"

# The only line breaks of the format; str.splitlines knows eight more.
LINE_BREAK = re.compile(r"\r\n|\r|\n")
PREFIX = ": "


class SSEComment(str):
    r"""A comment of an event stream: clients ignore it, proxies see traffic.

    It is the wire text itself (``": text\n\n"``, each line of the text prefixed), so it can be concatenated into a
    body, and yielded into a stream, where it stays a comment. Source: the HTML standard, section 9.2.5.

    :param text: what to say; line breaks start another comment line.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> SSEComment:  # noqa: PYI034, Self needs Python 3.11
        """Write the comment's wire text."""
        lines = "".join(f"{PREFIX}{line}\n" for line in LINE_BREAK.split(text))
        return super().__new__(cls, f"{lines}\n")

    @property
    def text(self) -> str:
        r"""What the comment says, with ``\n`` for every line break."""
        return "\n".join(line[len(PREFIX) :] for line in self[:-2].split("\n"))

    def __getnewargs__(self) -> tuple[str]:
        # Copies and pickles are made from the text; from the wire text they would be prefixed twice.
        return (self.text,)


class StreamingResponse:
    """A streamed body as a handler's return value; ``res.stream`` is the same without it.

    :param content: any sync or async iterable of bytes, bytearray, memoryview or str (sent as UTF-8); a single bytes or
        str is one chunk.
    :param content_type: the content type of the body.
    :param status: the status code, 200 to 599.
    :param headers: headers to set on the response.
    :raises TypeError: if the content is not iterable.
    """

    __slots__ = ("content", "content_type", "headers", "status")

    def __init__(
        self,
        content: Iterable[Chunk] | AsyncIterable[Chunk],
        content_type: str = "application/octet-stream",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(content, Iterable | AsyncIterable):
            message = f"content must be a sync or async iterable of bytes or str, got {type(content).__name__}"
            raise TypeError(message)
        self.content = content
        self.content_type = content_type
        self.status = status
        self.headers = dict(headers or {})
