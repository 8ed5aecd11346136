"""The servers that are compared: how each is installed, started and ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".peers"
RUST_TARGET = HERE / ".target"
LOAD_GENERATOR = RUST_TARGET / "release" / "hypern-load"

_STREAMS = frozenset({"stream-sync", "stream-async", "handler-sync", "handler-async", "bytes"})
_UVICORN = ("{bin}/uvicorn", "app:app", "--host=127.0.0.1", "--port={port}", "--no-access-log", "--log-level=warning")
# By default Granian lets 1,024 requests in at a time, and the largest job holds 10,000.
_GRANIAN = ("--port={port}", "--workers=1", "--log-level=warning", "--backlog=16384", "--backpressure=16384")


@dataclass(frozen=True)
class Server:
    """A server and the words that jobs may need of it."""

    name: str
    title: str
    #: python, node, go or rust.
    language: str
    #: ``{bin}``, ``{python}`` and ``{port}`` are filled in.
    command: tuple[str, ...]
    features: frozenset[str] = _STREAMS
    #: The folder under ``peers/`` that the command runs in, if it is not the name.
    folder: str | None = None
    note: str = ""

    @property
    def directory(self) -> Path:
        """Where its app is."""
        return HERE / "limit" if self.name == "limit" else HERE / "peers" / (self.folder or self.name)

    @property
    def requirements(self) -> Path:
        """The versions that its environment is made of."""
        return HERE / "peers" / self.name / "requirements.txt"

    @property
    def environment(self) -> Path:
        """Its virtual environment; Hypern is measured where the benchmark itself runs."""
        return Path(sys.prefix) if self.name == "hypern" else ENVIRONMENTS / self.name


SERVERS: tuple[Server, ...] = (
    Server(
        "hypern",
        "Hypern",
        "python",
        ("{python}", "app.py"),
        _STREAMS | {"gzip", "zstd", "h2c"},
        note="max_threads=12000, since the largest sync job holds 10,000 streams",
    ),
    Server(
        "fastapi-uvicorn",
        "FastAPI + uvicorn",
        "python",
        _UVICORN,
        note="a plain StreamingResponse; sync generators share AnyIO's 40 threads, its default",
    ),
    Server(
        "fastapi-sse-starlette",
        "FastAPI + sse-starlette",
        "python",
        _UVICORN,
        note="on uvicorn; sync generators share AnyIO's 40 threads, its default",
    ),
    Server(
        "fastapi-sse",
        "FastAPI's own SSE",
        "python",
        _UVICORN,
        note="fastapi.sse on uvicorn; each event is a validated Pydantic model",
    ),
    Server(
        "fastapi-granian",
        "FastAPI + Granian",
        "python",
        ("{bin}/granian", "--interface=asgi", *_GRANIAN, "app:app"),
        _STREAMS | {"h2c"},
        folder="fastapi-uvicorn",
        note="the app of FastAPI + uvicorn; backlog and backpressure raised to 16,384",
    ),
    Server(
        "granian-rsgi",
        "Granian RSGI",
        "python",
        ("{bin}/granian", "--interface=rsgi", *_GRANIAN, "app:app"),
        frozenset({"stream-async", "handler-async", "bytes", "h2c"}),
        note="no framework; RSGI has async handlers only; backlog and backpressure raised to 16,384",
    ),
    Server("robyn", "Robyn", "python", ("{python}", "app.py", "--log-level=WARN", "--disable-openapi")),
    Server(
        "litestar",
        "Litestar + uvicorn",
        "python",
        _UVICORN,
        _STREAMS | {"gzip"},
        note="compresses with CompressionConfig(backend='gzip')",
    ),
    Server(
        "sanic",
        "Sanic",
        "python",
        ("{bin}/sanic", "app:app", "--host=127.0.0.1", "--port={port}", "--single-process", "--no-motd"),
        frozenset({"stream-async", "handler-sync", "handler-async", "bytes"}),
        note="streams from async handlers only",
    ),
    Server(
        "blacksheep",
        "BlackSheep + uvicorn",
        "python",
        _UVICORN,
        frozenset({"stream-async", "handler-sync", "handler-async", "bytes"}),
        note="streams from async generators only; its gzip leaves streams alone",
    ),
    Server(
        "hypern-1.1.4",
        "hypern 1.1.4",
        "python",
        ("{python}", "app.py"),
        frozenset({"stream-sync", "stream-async", "handler-sync", "handler-async", "gzip"}),
        note="the older project of that name; it cannot stream bytes",
    ),
    Server(
        "node",
        "Node http",
        "node",
        ("node", "app.mjs"),
        _STREAMS | {"gzip"},
        note="one way to wait, measured under both names",
    ),
    Server(
        "go",
        "Go net/http",
        "go",
        (str(RUST_TARGET / "go-peer"),),
        _STREAMS | {"gzip", "h2c"},
        note="one way to wait, measured under both names; it uses both cores",
    ),
    Server(
        "limit",
        "bare hyper (the limit)",
        "rust",
        (str(RUST_TARGET / "release" / "hypern-limit"), "{port}"),
        _STREAMS | {"gzip", "zstd", "h2c"},
        note="no Python: events are made in Rust, where hyper asks for them; it uses both cores",
    ),
)

QUICK = ("hypern", "fastapi-uvicorn", "fastapi-sse-starlette", "granian-rsgi", "limit")


class UnavailableError(Exception):
    """A server cannot be measured here; the text says why."""


def chosen(names: list[str], *, quick: bool) -> list[Server]:
    """The servers with these names, or all; of a quick run, those that belong to it.

    Raises:
        ValueError: Nothing has that name.
    """
    known = {server.name: server for server in SERVERS}
    for name in names:
        if name not in known:
            msg = f"no server is named {name!r}; there are {', '.join(known)}"
            raise ValueError(msg)
    return [known[name] for name in names or (QUICK if quick else known)]


def build_generator() -> None:
    """Builds the load generator.

    Raises:
        UnavailableError: There is no Rust here, or the build failed.
    """
    _build_rust("load")


def install(server: Server) -> None:
    """Makes what the server needs: an environment, a build or nothing.

    Raises:
        UnavailableError: It cannot be had here.
    """
    if server.name == "hypern":
        _run([sys.executable, "-c", "import hypern._hypern"], "hypern is not installed in this environment")
    elif server.language == "python":
        _make_environment(server)
    elif server.language == "rust":
        _build_rust("limit")
    elif server.language == "go":
        _find("go")
        _run(["go", "build", "-o", server.command[0], "."], "go build failed", server.directory)
    else:
        _find(server.command[0])


def versions(server: Server) -> list[str]:
    """The versions of all that the server consists of, as the tools themselves name them."""
    if server.name == "hypern":
        return [f"{name}=={metadata.version(name)}" for name in ("hypern", "msgspec", "multipart", "uvloop")]
    commands = {
        "python": [_executable(server), "-m", "pip", "freeze", "--disable-pip-version-check"],
        "node": ["node", "--version"],
        "go": ["go", "version"],
        "rust": ["cargo", "tree", "--depth=1", "--prefix=none", "--format={p}", "--manifest-path=Cargo.toml"],
    }
    done = subprocess.run(
        commands[server.language], cwd=server.directory, capture_output=True, text=True, timeout=60, check=False
    )
    # cargo prints the folder of a package that is not from a registry.
    return [line.split(" (")[0] for line in done.stdout.splitlines()]


@contextlib.contextmanager
def running(server: Server, log: Path, environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Runs the server on a free port of 127.0.0.1 and ends it, and what it started, afterwards.

    Args:
        server: What to run.
        log: A file that its output is appended to.
        environment: Variables for this run alone.

    Yields:
        The process id and the port.

    Raises:
        UnavailableError: It does not answer within 30 seconds.
    """
    port = _free_port()
    places = {"bin": str(server.environment / "bin"), "python": _executable(server), "port": str(port)}
    command = [part.format_map(places) for part in server.command]
    variables = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PORT": str(port), **environment}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=server.directory,
            env=variables | {"ROBYN_PORT": str(port), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, port)
        yield process.pid, port
    finally:
        _end(process)


def _make_environment(server: Server) -> None:
    marker = server.environment / "requirements.txt"
    wanted = server.requirements.read_text()
    if marker.exists() and marker.read_text() == wanted:
        return
    print(f"installing {server.name} …", file=sys.stderr, flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(server.environment)], "the environment cannot be made")
    install_command = [_executable(server), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*install_command, "-r", str(server.requirements)], "pip cannot install it")
    marker.write_text(wanted)


def _build_rust(folder: str) -> None:
    _find("cargo")
    environment = os.environ | {"CARGO_TARGET_DIR": str(RUST_TARGET)}
    _run(["cargo", "build", "--release", "--locked", "--quiet"], "cargo build failed", HERE / folder, environment)


def _find(program: str) -> None:
    if shutil.which(program) is None:
        msg = f"{program} is not installed"
        raise UnavailableError(msg)


def _run(command: list[str], problem: str, cwd: Path = HERE, environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(problem) from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        msg = f"{problem}: {last}"
        raise UnavailableError(msg)


def _executable(server: Server) -> str:
    return sys.executable if server.name == "hypern" else str(server.environment / "bin" / "python")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            msg = f"it ended at once, with status {process.returncode}"
            raise UnavailableError(msg)
        with (
            contextlib.suppress(OSError, urllib.error.URLError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/hello-async", timeout=1) as answer,
        ):
            if answer.read() == b"Hello, world!":
                return
        time.sleep(0.03)
    msg = "it did not answer within 30 seconds"
    raise UnavailableError(msg)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks politely; after two seconds ends the whole group, which holds nothing but what this process started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
