"""Keep NumPy's OpenBLAS to one thread while an engine runs: at these sizes more threads cost more than they give.

Where `OPENBLAS_NUM_THREADS` or `OMP_NUM_THREADS` is set, or NumPy uses another BLAS, nothing is touched.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["hold_single_thread", "release_single_thread"]

_NAMES = ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads")


class _Setting(NamedTuple):
    get: Callable[[], int]
    set: Callable[[int], object]


_lock = threading.Lock()
_held = 0
_before = 0


def hold_single_thread() -> None:
    """Set OpenBLAS to one thread for the whole process until every holder has let go."""
    global _held, _before
    setting = _openblas()
    if setting is None:
        return
    with _lock:
        if _held == 0:
            _before = setting.get()
            setting.set(1)
        _held += 1


def release_single_thread() -> None:
    """Let go; the last holder restores the number of threads that was set before."""
    global _held
    setting = _openblas()
    if setting is None:
        return
    with _lock:
        _held -= 1
        if _held == 0:
            setting.set(_before)


@cache
def _openblas() -> _Setting | None:
    """Find the library inside NumPy's wheel, which is loaded already."""
    if "OPENBLAS_NUM_THREADS" in os.environ or "OMP_NUM_THREADS" in os.environ:
        return None
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(path))
            for name in _NAMES:
                if hasattr(library, name.format("set")):
                    return _Setting(getattr(library, name.format("get")), getattr(library, name.format("set")))
    return None
