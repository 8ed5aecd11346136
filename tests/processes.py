"""Programs that serve an app, run as users run them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 30
ANNOUNCEMENT = "Hypern is listening on "


@dataclasses.dataclass(frozen=True)
class Program:
    """A process, and the port that it listens on."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def running(*arguments: str, **environment: str) -> Iterator[Program]:
    """Run Python with these arguments until the block ends; it starts when the server has said where it listens."""
    command = [sys.executable, *arguments]
    environment = {**os.environ, **environment}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) as process:
        try:
            yield Program(process, _port(process))
        finally:
            process.terminate()
            try:
                process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _port(process: subprocess.Popen[str]) -> int:
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(ANNOUNCEMENT):
            return int(line.rpartition(":")[2])
    raise AssertionError("the program ended before it listened:\n" + "".join(said))
