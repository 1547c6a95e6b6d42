"""Ends what tests started and left, once their process is gone, however it went.

Runs as a process beside the tests, whose death closes its stdin. What they started carries the session's mark in its
environment: Prefect's servers, model servers, demonstrations, which get the time to clean up after themselves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

__all__ = ["MARK", "marked", "watch_over"]

MARK = "TESTS_OF_COLONNADE"
_PATIENCE_S = 90.0


def watch_over() -> subprocess.Popen[bytes]:
    """Mark what this process will start and start the reaper; it acts when its stdin, which is returned, is closed."""
    os.environ[MARK] = mark = uuid.uuid4().hex
    # Not among those that it ends, and no child of a terminal that is interrupted.
    return subprocess.Popen(
        [sys.executable, "-S", __file__, mark],
        stdin=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != MARK},
        start_new_session=True,
    )


def marked(mark: str) -> set[int]:
    """Return the processes that carry a mark; none where the system does not tell."""
    wanted, found = f"{MARK}={mark}".encode(), set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes().split(b"\0"):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def _end(mark: str, number: signal.Signals) -> None:
    for pid in marked(mark):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def main(mark: str) -> None:
    """Wait for the end of stdin, then end what is left: gently, and after a while not."""
    sys.stdin.buffer.read()
    until = time.monotonic() + _PATIENCE_S
    _end(mark, signal.SIGTERM)
    while marked(mark) and time.monotonic() < until:
        time.sleep(0.2)
    _end(mark, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
