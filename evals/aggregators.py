"""Which model puts answers together best: trials of one right answer among two wrong ones.

An aggregator that follows the majority fails every such trial, one that reasons can pass it. Symbolic
Mixture-of-Experts (arXiv 2503.05641) chooses its aggregator so. `make_trials` makes the trials from recorded answers,
`best_aggregator` reads what became of them.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from db.errors import DataError
from evals.stats import Interval, wilson

__all__ = ["Aggregated", "AggregatorChoice", "Recorded", "Trial", "best_aggregator", "make_trials"]


class Recorded(NamedTuple):
    """One recorded response to a question."""

    text: str
    correct: bool


class Trial(NamedTuple):
    """A question with three responses, one of them right."""

    question: str
    responses: tuple[str, str, str]
    right: int
    """Place of the right one, from 0."""


class Aggregated(NamedTuple):
    """What an aggregator made of a trial."""

    aggregator: str
    question: str
    correct: bool


class AggregatorChoice(NamedTuple):
    """The aggregator that was right most often."""

    best: str
    accuracies: Mapping[str, float]
    """On the questions that all have tried, by aggregator, in order of appearance."""
    interval: Interval
    """Of the best one's accuracy, 95 %; optimistic by the choice among several."""
    questions: int


def make_trials(recorded: Mapping[str, Sequence[Recorded]], *, seed: int = 0) -> list[Trial]:
    """Make a trial of each question that has a right response and two different wrong ones.

    Which ones, and in which order they stand, follows from the question and the seed.
    """
    trials = []
    for question, responses in recorded.items():
        right = list(dict.fromkeys(one.text for one in responses if one.correct))
        wrong = [text for text in dict.fromkeys(one.text for one in responses if not one.correct) if text not in right]
        if not right or len(wrong) < 2:
            continue
        chance = random.Random(int.from_bytes(hashlib.sha256(f"{seed}\n{question}".encode()).digest()[:8], "big"))
        chosen = chance.choice(right)
        first, second, third = chance.sample([chosen, *chance.sample(wrong, 2)], 3)
        trials.append(Trial(question, (first, second, third), (first, second, third).index(chosen)))
    return trials


def best_aggregator(outcomes: Iterable[Aggregated]) -> AggregatorChoice:
    """Return which aggregator was right most often, on the questions that all of them have tried.

    Several outcomes of one on one question are averaged. Of equals the one that appears first is taken, so put the
    cheapest first. Raises `DataError` where there is no question that all have tried.
    """
    tried: dict[str, dict[str, list[bool]]] = {}
    for outcome in outcomes:
        tried.setdefault(outcome.aggregator, defaultdict(list))[outcome.question].append(outcome.correct)
    shared = set.intersection(*(set(questions) for questions in tried.values())) if tried else set()
    if not shared:
        raise DataError(f"There is no question that all of {len(tried)} aggregators have tried; give all the same.")
    accuracies = {
        name: sum(sum(questions[one]) / len(questions[one]) for one in sorted(shared)) / len(shared)
        for name, questions in tried.items()
    }
    best = max(accuracies, key=lambda name: accuracies[name])
    right = round(accuracies[best] * len(shared))
    return AggregatorChoice(best, accuracies, wilson(right, len(shared)), len(shared))
