"""HTTP/1.1 on a bare socket: what the server really sent, and when."""

from __future__ import annotations

import dataclasses
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOST = "127.0.0.1"
SECONDS = 30.0
READ = 64 * 1024


@dataclasses.dataclass
class Head:
    """A status line and the headers, in order and without the date."""

    status: int
    headers: list[tuple[str, str]]

    def get(self, name):
        values = [value for each, value in self.headers if each == name]
        assert len(values) < 2, f"{name} was sent {len(values)} times"
        return values[0] if values else None


class Connection:
    """One connection; used as a context manager."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=SECONDS)
        self._read = b""

    def __enter__(self) -> Connection:  # noqa: PYI034, Self needs Python 3.11
        return self

    def __exit__(self, *_details: object) -> None:
        self._socket.close()

    def send(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Head:
        """Send a request and read the head of its response."""
        self.begin(path, method, headers)
        return self.head()

    def begin(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> None:
        """Send a request and wait for nothing."""
        lines = [f"{method} {path} HTTP/1.1", "host: localhost", *(f"{k}: {v}" for k, v in (headers or {}).items())]
        self._socket.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1"))

    def head(self) -> Head:
        """Read the head of a response."""
        status_line, *fields = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        version, status, _reason = status_line.split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = [tuple(field.split(": ", 1)) for field in fields]
        return Head(int(status), [(name, value) for name, value in pairs if name != "date"])

    def chunks(self) -> Iterator[bytes]:
        """Yield the chunks of a body with chunked coding as they come, up to its proper end."""
        while size := int(self._until(b"\r\n"), 16):
            yield self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        assert self._exactly(2) == b"\r\n"

    def body(self, head: Head) -> bytes:
        """Read a whole body, which must end properly."""
        length = head.get("content-length")
        if head.get("transfer-encoding") == "chunked":
            assert length is None
            return b"".join(self.chunks())
        return self._exactly(int(length or 0))

    def until(self, mark: bytes) -> bytes:
        """Read raw bytes up to a mark and with it."""
        return self._until(mark)

    def rest(self) -> bytes:
        """Read raw bytes until the server closes the connection."""
        while self._more():
            pass
        return self._take(len(self._read))

    def is_silent(self) -> bool:
        """Whether nothing has come that was not read yet."""
        if not self._read:
            self._socket.settimeout(0)
            try:
                self._more()
            except BlockingIOError:
                return True
            finally:
                self._socket.settimeout(SECONDS)
        return not self._read

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._read:
            assert self._more(), f"the connection ended before {mark!r}, after {self._read!r}"
        return self._take(self._read.index(mark) + len(mark))

    def _exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            assert self._more(), f"the connection ended {size - len(self._read)} bytes early"
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken, self._read = self._read[:size], self._read[size:]
        return taken

    def _more(self) -> bool:
        received = self._socket.recv(READ)
        self._read += received
        return bool(received)


def fetch(port: int, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> tuple[Head, bytes]:
    """Make one request and read its whole response."""
    with Connection(port) as connection:
        head = connection.send(path, method, headers)
        return head, b"" if method == "HEAD" else connection.body(head)
