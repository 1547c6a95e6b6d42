"""Predictions: what candidates say of each field, counted by value, in an order that theirs has no part in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from nodes.base import Candidate
from nodes.consistent_choice import Option, Picks
from nodes.structured import Entry, folded, normal, read_fields

__all__ = ["Prediction", "Read", "Slot", "read_predictions", "slots_of"]

Weigh = Callable[[str | None, str], float]
"""What a prediction of a model (None where it is not known) for a field weighs, at least 0."""


class Prediction(NamedTuple):
    """What one candidate says."""

    candidate: Candidate
    fields: Mapping[str, Entry]
    """By folded name; one at least."""

    def picks(self, slots: Mapping[str, Slot]) -> Picks:
        """Return the options that the candidate's own values are."""
        return {key: slots[key].places[normal(entry.value)] for key, entry in self.fields.items()}


class Slot(NamedTuple):
    """A field with the values that were predicted for it."""

    name: str
    """As most write it."""
    options: list[Option]
    """The heaviest first; each value as most write it."""
    places: Mapping[str, int]
    """The option of each value, by its normal form."""


class Read(NamedTuple):
    """The predictions, and the ids of the candidates without any."""

    predictions: list[Prediction]
    without: list[str]


def read_predictions(candidates: Iterable[Candidate], names: Iterable[str] = ()) -> Read:
    """Read the fields of candidates, or those of some names alone."""
    wanted = {folded(name) for name in names}
    found = Read([], [])
    for candidate in candidates:
        read = read_fields(candidate.text) or {}
        fields = {key: entry for key, entry in read.items() if not wanted or key in wanted}
        if fields:
            found.predictions.append(Prediction(candidate, fields))
        else:
            found.without.append(candidate.id)
    return found


def slots_of(predictions: Sequence[Prediction], weigh: Weigh, names: Iterable[str] = ()) -> dict[str, Slot]:
    """Return the fields in the order of `names`, or else as they mostly follow one another."""
    places: dict[str, list[int]] = {}
    for _, fields in predictions:
        for place, key in enumerate(fields):
            places.setdefault(key, []).append(place)
    mentioned = sorted(places, key=lambda key: (sum(places[key]) / len(places[key]), key))
    order = [key for key in dict.fromkeys(map(folded, names)) if key in places] or mentioned
    return {key: _slot(key, predictions, weigh) for key in order}


def _slot(key: str, predictions: Sequence[Prediction], weigh: Weigh) -> Slot:
    voters = [(p.candidate.model, p.fields[key]) for p in predictions if key in p.fields]
    values: dict[str, list[tuple[str, float]]] = {}
    for model, entry in voters:
        written = json.dumps(entry.value, ensure_ascii=False)
        values.setdefault(normal(entry.value), []).append((written, weigh(model, key)))
    weights = {value: math.fsum(weight for _, weight in votes) for value, votes in values.items()}
    ordered = sorted(values, key=lambda value: (-round(weights[value], 9), value))
    options = [Option(json.loads(_usual(form for form, _ in values[value])), weights[value]) for value in ordered]
    return Slot(_usual(entry.name for _, entry in voters), options, {value: at for at, value in enumerate(ordered)})


def _usual(written: Iterable[str]) -> str:
    """Return the most frequent of some texts, the first in alphabetical order of equals."""
    forms = sorted(written)
    return max(dict.fromkeys(forms), key=forms.count)
