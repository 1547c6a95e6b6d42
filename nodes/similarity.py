"""How much of one text is in another: token F1, ROUGE-L and chrF, each in 0..1, 1 for a text and itself.

The first argument is the text that is judged, the second the one that it is held against.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

__all__ = ["METRICS", "Metric", "chrf", "rouge_l", "token_f1"]

Metric = Literal["token_f1", "rouge_l", "chrf"]

_WORD = re.compile(r"\w+")
_SPACE = re.compile(r"\s+")
_ORDER = 6
_BETA = 2.0


def token_f1(text: str, other: str) -> float:
    """Return the F1 of the words that two texts share, each as often as it occurs in both; case does not count."""
    words, others = _words(text), _words(other)
    if not words or not others:
        return float(text.strip() == other.strip())
    shared = (Counter(words) & Counter(others)).total()
    return 2 * shared / (len(words) + len(others))


def rouge_l(text: str, other: str) -> float:
    """Return the F1 of the longest common subsequence of words (ROUGE-L, Lin 2004); case does not count."""
    words, others = _words(text), _words(other)
    if not words or not others:
        return float(text.strip() == other.strip())
    return 2 * _common_subsequence(words, others) / (len(words) + len(others))


def chrf(text: str, other: str) -> float:
    """Return the F2 of character n-grams, n from 1 to 6, white space left out (chrF, Popović 2015).

    Precision and recall are averaged over the orders that both texts are long enough for.
    """
    grams, others = _grams(text), _grams(other)
    precision = recall = 0.0
    orders = 0
    for mine, theirs in zip(grams, others, strict=True):
        if not mine or not theirs:
            break
        shared = (mine & theirs).total()
        precision += shared / mine.total()
        recall += shared / theirs.total()
        orders += 1
    if not orders:
        return float(text.strip() == other.strip())
    precision, recall = precision / orders, recall / orders
    total = _BETA**2 * precision + recall
    return (1 + _BETA**2) * precision * recall / total if total else 0.0


METRICS: Mapping[Metric, Callable[[str, str], float]] = {"token_f1": token_f1, "rouge_l": rouge_l, "chrf": chrf}


@lru_cache(maxsize=256)
def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.casefold()))


@lru_cache(maxsize=256)
def _grams(text: str) -> tuple[Counter[str], ...]:
    text = _SPACE.sub("", text)
    return tuple(Counter(text[i : i + n] for i in range(len(text) - n + 1)) for n in range(1, _ORDER + 1))


def _common_subsequence(words: Sequence[str], others: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, a whole row at a time in the bits of an integer."""
    places: dict[str, int] = {}
    for place, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(words)) - 1
    row = full
    for word in others:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & full
    return (row ^ full).bit_count()
