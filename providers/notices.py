"""What the library warns of while it goes on: each thing once, not a thousand times."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from providers.errors import ProviderError

__all__ = ["Throttle", "log_retry"]

_LOG: Final = logging.getLogger("colonnade.providers")
_QUIET_S: Final = 30.0


class Throttle:
    """Lets a thing through once in a while, and counts what it held back."""

    def __init__(self, quiet_s: float = _QUIET_S, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet_s = quiet_s
        self._clock = clock
        self._last: dict[tuple[str, ...], tuple[float, int]] = {}

    def __call__(self, *thing: str) -> int | None:
        """Return how often the thing was held back since it was last let through; None: hold it back now."""
        now = self._clock()
        last, held = self._last.get(thing, (float("-inf"), 0))
        if now - last < self._quiet_s:
            self._last[thing] = (last, held + 1)
            return None
        self._last[thing] = (now, 0)
        return held


_retries = Throttle()


def log_retry(model: str, error: ProviderError, *, attempt: int, wait_s: float) -> None:
    """Log a failed attempt that will be repeated: a warning once in 30 s for a model and kind of error, else debug."""
    held = _retries(model, error.kind)
    _LOG.log(
        logging.DEBUG if held is None else logging.WARNING,
        "%s: attempt %d failed (%s), the next in %.1f s%s: %s",
        model,
        attempt,
        error.kind,
        wait_s,
        f", {held} like it since the last warning" if held else "",
        error,
        extra={"model": model, "kind": error.kind, "attempt": attempt, "wait_s": round(wait_s, 3)},
    )
