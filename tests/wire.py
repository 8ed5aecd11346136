"""Clients that see every byte: what is on the wire, and nothing made of it."""

import contextlib
import functools
import socket
import struct
import time
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import httpx

HOST = "127.0.0.1"
PATIENCE = 30.0  # seconds; how long anything may take on a slow and busy machine
TCP_REPAIR = 19  # linux/tcp.h; Python has no name for it


def eventually(condition, what="the condition"):
    """Wait until a condition is true, and return what it returned."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} seconds"
        time.sleep(0.002)
    return result


def within_the_first_moment(test):
    """Try a test up to five times, if it needs a source to fail or to give its first item within 50 ms.

    That is how long a response waits for it, and a machine may be too busy to get there in time.
    """

    @functools.wraps(test)
    def attempt(**arguments):
        for _ in range(4):
            with contextlib.suppress(AssertionError, httpx.RemoteProtocolError):
                return test(**arguments)
            if "caplog" in arguments:
                arguments["caplog"].clear()
        return test(**arguments)

    return attempt


def descriptors():
    """Return the file descriptors that this process has open."""
    return [int(path.name) for path in Path("/proc/self/fd").iterdir()]


class Connection:
    """One HTTP/1.1 connection."""

    def __init__(self, port, *, receive_buffer=None, host=HOST):
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.socket.connect((host, port))
        except OSError:
            self.socket.close()
            raise
        self.received = b""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()

    def request(self, path="/", *headers, method="GET", body=b""):
        lines = [f"{method} {path} HTTP/1.1", "host: test", *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode() + body)
        return self

    def read_until(self, marker):
        """Return what comes up to and with the marker."""
        while marker not in self.received:
            data = self.socket.recv(65536)
            assert data, f"the connection ended before {marker!r}: {self.received!r}"
            self.received += data
        end = self.received.index(marker) + len(marker)
        result, self.received = self.received[:end], self.received[end:]
        return result

    def read_head(self):
        """Return status and headers (lower case) of a response."""
        status, *lines = self.read_until(b"\r\n\r\n").decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        return int(status.split(" ")[1]), headers

    def read_whole(self):
        """Return status and body of a response with a content-length."""
        status, headers = self.read_head()
        length = int(headers["content-length"])
        while len(self.received) < length:
            data = self.socket.recv(65536)
            assert data, f"the connection ended early: {self.received!r}"
            self.received += data
        result, self.received = self.received[:length], self.received[length:]
        return status, result

    def read_rest(self):
        """Return everything up to the end of the connection, however it ends."""
        with contextlib.suppress(ConnectionResetError):
            while data := self.socket.recv(65536):
                self.received += data
        result, self.received = self.received, b""
        return result

    def close(self):
        self.socket.close()

    def reset(self):
        """Close with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def vanish(self):
        """End without a word, as a host does that loses its power. Without the right to that: with a RST."""
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except PermissionError:
            self.reset()
        else:
            self.socket.close()


def refuses(port):
    """Tell whether nobody listens on a port any more."""
    try:
        Connection(port).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        # It was in the queue of the listener when that was closed.
        return False
    return False


def unchunk(raw):
    """Return the bytes of a chunked body, and whether it has its terminator."""
    body = b""
    while raw:
        size, separator, rest = raw.partition(b"\r\n")
        length = int(size, 16) if separator else 0
        if not separator or len(rest) < length + 2:
            return body + rest[:length], False
        if length == 0:
            assert rest == b"\r\n", f"bytes after the end: {rest!r}"
            return body, True
        body += rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        raw = rest[length + 2 :]
    return body, False


class Http2Connection:
    """One HTTP/2 connection with prior knowledge."""

    def __init__(self, port):
        self.socket = socket.create_connection((HOST, port), timeout=PATIENCE)
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.state.initiate_connection()
        self.flush()
        self.data = {}
        self.ends = {}
        self.heads = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()

    def flush(self):
        self.socket.sendall(self.state.data_to_send())

    def request(self, path="/"):
        """Send a request, and return the id of its stream."""
        stream = self.state.get_next_available_stream_id()
        head = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "test")]
        self.state.send_headers(stream, head, end_stream=True)
        self.flush()
        self.data[stream] = b""
        return stream

    def reset(self, stream):
        self.state.reset_stream(stream)
        self.flush()

    def receive(self):
        """Take what comes next."""
        data = self.socket.recv(65536)
        assert data, "the connection ended"
        for event in self.state.receive_data(data):
            match event:
                case h2.events.ResponseReceived():
                    self.heads[event.stream_id] = dict(event.headers)
                case h2.events.DataReceived():
                    self.data[event.stream_id] += event.data
                    self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    self.ends[event.stream_id] = "complete"
                case h2.events.StreamReset():
                    self.ends[event.stream_id] = event.error_code
        self.flush()

    def read_until(self, stream, marker):
        while marker not in self.data[stream]:
            self.receive()

    def read_to_end(self, stream):
        """Return what a stream has brought, and "complete" or the code of the reset that ended it."""
        while stream not in self.ends:
            self.receive()
        return self.data[stream], self.ends[stream]
