"""A trained quality-cost router: the chance that the stronger of two models answers a question better.

The text becomes counts of its words and of pairs of neighbouring words, hashed into as many places as there are
weights; a logistic function of their weighted sum is the prediction. `evals.routing` trains it from recorded outcomes.
A model is a small JSON file, which a person can look into save for the weights.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from db.errors import ConfigError
from nodes.learned import LearnedFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ROUTING_FORM", "RoutingModel", "hashed_words", "log_length"]

ROUTING_FORM: Final = "colonnade-router-1"
"""Version of the form of the file."""

_FILE: Final = LearnedFile(ROUTING_FORM, "router's model", "evals.routing")

_WORD = re.compile(r"\d|[^\W\d]+|[^\w\s]")
_LONGEST = 50_000
"""Characters of a question that are read; the rest says nothing more of what it is about."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoutingModel:
    """A router that was trained from recorded outcomes of a weak and a strong model."""

    weights: NDArray[np.float32]
    """One weight for each place of the hash, shape (places,)."""
    bias: float
    length_weight: float
    """Of the standardised logarithm of the question's length."""
    length_mean: float
    length_sd: float
    quantiles: tuple[float, ...]
    """Evenly spaced quantiles, from the least to the greatest, of what was predicted for questions not trained on."""
    weak: str = ""
    """The weaker model's name, for people."""
    strong: str = ""
    trained_on: int = 0
    """Questions."""

    def predict(self, text: str) -> float:
        """Return the chance, 0..1, that the strong model answers better, where an equally good answer counts half.

        At 0.5 the strong model is no better; 2·p − 1 is what it is expected to gain in accuracy (`gain`). This is the
        win probability by which RouteLLM (arXiv 2406.18665) sends a question to the strong model.
        """
        places, values = hashed_words(text, len(self.weights))
        total = self.bias + self.length_weight * (log_length(text) - self.length_mean) / self.length_sd
        total += math.fsum(float(self.weights[place]) * value for place, value in zip(places, values, strict=True))
        # In two branches, since exp of a large number overflows.
        return 1 / (1 + math.exp(-total)) if total >= 0 else math.exp(total) / (1 + math.exp(total))

    def gain(self, text: str) -> float:
        """Return what the strong model is expected to gain on this question in accuracy, -1..1."""
        return 2 * self.predict(text) - 1

    def threshold(self, share: float) -> float:
        """Return the prediction from which on a share (0..1) of questions like those of the training goes to strong.

        Raises `ConfigError` for a share outside 0..1.
        """
        if not 0 <= share <= 1:
            raise ConfigError(f"The share of questions for the strong model lies between 0 and 1, not at {share}.")
        place = (1 - share) * (len(self.quantiles) - 1)
        below = min(math.floor(place), len(self.quantiles) - 2)
        low, high = self.quantiles[below : below + 2]
        return low + (high - low) * (place - below)

    def save(self, path: Path | str) -> None:
        """Write the model as a JSON file."""
        data = {
            "weak": self.weak,
            "strong": self.strong,
            "trained_on": self.trained_on,
            "bias": self.bias,
            "length_weight": self.length_weight,
            "length_mean": self.length_mean,
            "length_sd": self.length_sd,
            "quantiles": list(self.quantiles),
            "weights": base64.b64encode(self.weights.astype("<f4").tobytes()).decode(),
        }
        _FILE.write(path, data)

    @classmethod
    def load(cls, path: Path | str) -> RoutingModel:
        """Read a model from its file; raises `DataError` where there is none or it is no such file."""
        import numpy as np

        data = _FILE.read(path)
        try:
            weights = np.frombuffer(base64.b64decode(data["weights"], validate=True), dtype="<f4").astype(np.float32)
            model = cls(weights=weights, quantiles=_numbers(data["quantiles"]), **_scalars(data))
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise _FILE.broken(path, repr(error)) from None
        if not len(weights) or len(model.quantiles) < 2 or not model.length_sd > 0:
            raise _FILE.broken(path, "it lacks weights, quantiles or a spread")
        if not np.isfinite(weights).all():
            raise _FILE.broken(path, "a weight is not finite")
        return model


def hashed_words(text: str, places: int) -> tuple[Sequence[int], Sequence[float]]:
    """Return the places of a text's words and pairs of words, and what each counts; the counts have length 1 together.

    Digits stand alone, so that a number is seen by its length. A count c weighs 1 + ln c.
    """
    words = _WORD.findall(text[:_LONGEST].lower())
    pairs = (f"{first} {second}" for first, second in itertools.pairwise(words))
    # CRC-32 gives the same places in every process and on every machine, which Python's own hash does not.
    counts = Counter(zlib.crc32(part.encode("utf-8", "surrogatepass")) % places for part in (*words, *pairs))
    values = [1 + math.log(count) for count in counts.values()]
    norm = math.sqrt(math.fsum(value * value for value in values)) or 1.0
    return list(counts), [value / norm for value in values]


def log_length(text: str) -> float:
    """Return the natural logarithm of one plus the number of characters."""
    return math.log1p(len(text))


def _numbers(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _scalars(data: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: float(data[name]) for name in ("bias", "length_weight", "length_mean", "length_sd")}
    if not all(map(math.isfinite, numbers.values())):
        raise ValueError("a number that is not finite")
    return {**numbers, "weak": str(data["weak"]), "strong": str(data["strong"]), "trained_on": int(data["trained_on"])}
