"""Responses over HTTP/1.1 as they were sent: every header in its order, every chunk by itself."""

from __future__ import annotations

import dataclasses

import wire


@dataclasses.dataclass
class Head:
    """A status and the headers, in order and without the date."""

    status: int
    headers: list[tuple[str, str]]

    def get(self, name):
        values = [value for each, value in self.headers if each == name]
        assert len(values) < 2, f"{name} was sent {len(values)} times"
        return values[0] if values else None


class Connection(wire.Connection):
    """A connection that takes a response apart without a loss."""

    def begin(self, path, method="GET", headers=None):
        """Send a request, and wait for nothing."""
        self.request(path, *(f"{name}: {value}" for name, value in (headers or {}).items()), method=method)

    def send(self, path, method="GET", headers=None):
        """Send a request, and return the head of its response."""
        self.begin(path, method, headers)
        status_line, *fields = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        version, status, _reason = status_line.split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = [tuple(field.split(": ", 1)) for field in fields]
        return Head(int(status), [(name, value) for name, value in pairs if name != "date"])

    def chunks(self):
        """Yield the chunks of a body with chunked coding as they come, up to its proper end."""
        while size := int(self.read_until(b"\r\n"), 16):
            yield self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        assert self._exactly(2) == b"\r\n"

    def body(self, head):
        """Return a whole body, which must end properly."""
        length = head.get("content-length")
        if head.get("transfer-encoding") == "chunked":
            assert length is None
            return b"".join(self.chunks())
        return self._exactly(int(length or 0))

    def _exactly(self, size):
        while len(self.received) < size:
            data = self.socket.recv(64 * 1024)
            assert data, f"the connection ended {size - len(self.received)} bytes early"
            self.received += data
        taken, self.received = self.received[:size], self.received[size:]
        return taken


def fetch(port, path, method="GET", headers=None):
    """Make one request, and return the head and the whole body of its response."""
    with Connection(port) as connection:
        head = connection.send(path, method, headers)
        return head, b"" if method == "HEAD" else connection.body(head)
