"""Numbers for requests that are equal, where the order of arrival must not decide which sample each of them gets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = ["ordinals"]


def ordinals(texts: Sequence[str]) -> list[int]:
    """Number each text among those before it that are the same, from 0."""
    seen: Counter[str] = Counter()
    numbers = []
    for text in texts:
        numbers.append(seen[text])
        seen[text] += 1
    return numbers
