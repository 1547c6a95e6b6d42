"""Mathematical equivalence by math-verify, in a process of its own that a hanging comparison cannot outlive.

math-verify bounds its time by signals, which work in the main thread alone, and no signal stops one huge
multiplication inside sympy. So expressions are compared in a worker process that is killed when its time is up.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path

from nodes.latex import normal_latex
from nodes.numerals import bare_number, number_value

__all__ = ["same_expression"]

_WORKER = Path(__file__).with_name("math_worker.py")
_LONGEST = 1000
"""Characters; longer answers are prose or a loop, and parsing them would cost seconds."""


def same_expression(a: str, b: str, timeout_s: float = 5.0) -> bool | None:
    """Say whether two mathematical answers are equal; None where that could not be decided within the time.

    Numbers and equal normal forms are decided at once, everything else by math-verify. Can be called from any thread;
    calls within one process follow one another. The first call waits about a second for sympy to be loaded.
    """
    x, y = normal_latex(a), normal_latex(b)
    if x == y:
        return True
    if not x or not y:
        return False
    p, q = bare_number(x), bare_number(y)
    if p is not None and q is not None:
        return p == q or (number_value(p) is not None and number_value(p) == number_value(q))
    if max(len(x), len(y)) > _LONGEST:
        return None
    return _compared(a.strip(), b.strip(), timeout_s)


@lru_cache(maxsize=4096)
def _compared(a: str, b: str, timeout_s: float) -> bool | None:
    return _process().compare(a, b, timeout_s)


class _Worker:
    """The worker process, started on first use and again after it was killed or the program forked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._pid = os.getpid()
        atexit.register(self.close)

    def compare(self, a: str, b: str, timeout_s: float) -> bool | None:
        with self._lock:
            process = self._alive()
            assert process.stdin is not None  # both are pipes, which the type does not say
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps({"a": a, "b": b, "timeout_s": timeout_s}) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except BrokenPipeError:
                line = ""
            if not line:
                self._drop()
                return None
            verdict = json.loads(line)
            return verdict if isinstance(verdict, bool) else None

    def close(self) -> None:
        """Let the process end; a forked child leaves its parent's alone."""
        if self._pid == os.getpid():
            self._drop()

    def _alive(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._drop()
            # -P keeps the folder of the script off the path, so that no file of `nodes` hides a library.
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        return self._process

    def _drop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        process.kill()
        process.wait()


def _process() -> _Worker:
    return _worker_of(os.getpid())


@lru_cache(maxsize=1)
def _worker_of(pid: int) -> _Worker:
    """A forked child must not talk into its parent's pipes, so the worker belongs to a process id."""
    del pid
    return _Worker()
