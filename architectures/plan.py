"""What an architecture will cost, foretold without a call: calls, requests, tokens, dollars and seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from architectures.estimator import BookEstimator, text_tokens
from architectures.planner import Line, Planner
from nodes.base import ZERO, Range, Shape, exactly

if TYPE_CHECKING:
    from architectures.planner import Speed, Steps
    from architectures.spec import ArchitectureSpec
    from nodes.base import CallPlan
    from providers.book import ModelBook

__all__ = ["ASSUMED_QUESTION", "CallForecast", "Dollars", "NodeForecast", "Plan", "Quantities", "plan", "quantities_of"]

ASSUMED_QUESTION: Final = Range(8, 100, 1000)
"""Tokens of a question of which nothing is known."""

_MILLION = Decimal(1_000_000)


class Dollars(NamedTuple):
    """A planned price in dollars."""

    low: Decimal
    likely: Decimal
    high: Decimal

    def plus(self, other: Dollars) -> Dollars:
        """Add two prices."""
        return Dollars(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def times(self, count: int) -> Dollars:
        """Multiply by a number of questions."""
        return Dollars(self.low * count, self.likely * count, self.high * count)


class Quantities(NamedTuple):
    """What is counted: each a range that holds the truth, failed calls and samples that are stored already aside."""

    calls: Range = ZERO
    requests: Range = ZERO
    prompt_tokens: Range = ZERO
    completion_tokens: Range = ZERO
    dollars: Dollars | None = Dollars(Decimal(0), Decimal(0), Decimal(0))
    """None where the price of a model that may be asked is unknown."""

    def plus(self, other: Quantities) -> Quantities:
        """Add; an unknown price makes the sum unknown."""
        known = self.dollars is not None and other.dollars is not None
        return Quantities(
            self.calls.plus(other.calls),
            self.requests.plus(other.requests),
            self.prompt_tokens.plus(other.prompt_tokens),
            self.completion_tokens.plus(other.completion_tokens),
            self.dollars.plus(other.dollars) if self.dollars and other.dollars and known else None,
        )

    def times(self, count: int) -> Quantities:
        """Multiply by a number of questions."""
        each = exactly(count)
        return Quantities(
            self.calls.times(each),
            self.requests.times(each),
            self.prompt_tokens.times(each),
            self.completion_tokens.times(each),
            self.dollars.times(count) if self.dollars else None,
        )


class CallForecast(NamedTuple):
    """The plan of a node's calls of one template to one model, for one question."""

    model: str
    template: str
    quantities: Quantities


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeForecast:
    """The plan of one node for one question."""

    id: str
    """Inside a loop or a nested architecture with the ids around it: `improve.critique`, all rounds together."""
    technique: str
    models: tuple[str, ...]
    runs: Range
    """How often it runs."""
    quantities: Quantities
    candidates: Range
    """How many candidates it hands on when it runs."""
    calls: tuple[CallForecast, ...]
    """What `quantities` are the sum of, in the order of the node's own plan, round after round in a loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one question will cost, by node and in total."""

    nodes: tuple[NodeForecast, ...]
    total: Quantities
    unpriced: tuple[str, ...]
    """Models whose price is unknown."""
    unbounded: tuple[str, ...]
    """Models whose replies no known limit bounds; give `max_tokens`."""
    seconds: Range | None
    """Wall time by the critical path; None where the speed of a model is unknown."""
    candidates: Range
    """How many candidates the output holds; the first is the answer."""
    answer: Range
    """Tokens of a candidate of the output."""
    assumptions: tuple[str, ...]

    @property
    def exact_calls(self) -> bool:
        """Whether the number of calls does not depend on what the models say."""
        return self.total.calls.low == self.total.calls.high


def plan(
    spec: ArchitectureSpec,
    book: ModelBook,
    question: float | Range | str | Sequence[str] | None = None,
    *,
    speeds: Mapping[str, Speed] | None = None,
) -> Plan:
    """Foretell one question's calls, tokens, dollars and (with `speeds`) seconds, without a call.

    `question` is its number of tokens (or their range), its text, or the texts of many questions, for which `low` is
    that of the cheapest, `likely` the mean and `high` that of the dearest. Raises `UserError` for an unknown model.
    """
    return Plans(book, question, speeds=speeds).of(spec)


class Plans:
    """Plans of many architectures for the same question, as `plan` makes one; what they share is worked out once."""

    def __init__(
        self,
        book: ModelBook,
        question: float | Range | str | Sequence[str] | None = None,
        *,
        speeds: Mapping[str, Speed] | None = None,
    ) -> None:
        self._book = book
        self._question = question
        self._speeds = speeds or {}
        self._estimator = BookEstimator(book)
        self._steps: Steps = {}
        self._sizes: dict[frozenset[str], tuple[Range, tuple[str, ...]]] = {}

    def of(self, spec: ArchitectureSpec) -> Plan:
        """Plan an architecture; raises `UserError` for a model that is not known."""
        models = spec.models()
        size, assumptions = self._size(models)
        mixed = _families(self._book, models) > 1
        planner = Planner(estimator=self._estimator, speeds=self._speeds, mixed=mixed, steps=self._steps)
        result, seconds = planner.architecture(spec, Shape(question=size))
        forecasts = tuple(_forecast(line, self._book) for line in planner.lines.values())
        total = Quantities()
        for forecast in forecasts:
            total = total.plus(forecast.quantities)
        calls = [call for line in planner.lines.values() for call in line.calls if call.calls.high]
        return Plan(
            nodes=forecasts,
            total=total,
            unpriced=tuple(sorted({call.model for call in calls if self._book.resolve(call.model).price is None})),
            unbounded=tuple(sorted({call.model for call in calls if call.completion_tokens.high == float("inf")})),
            seconds=seconds,
            candidates=result.candidates,
            answer=result.candidate_tokens,
            assumptions=assumptions,
        )

    def question(self, spec: ArchitectureSpec) -> Range:
        """Return the tokens that the question is taken to have for the models of an architecture."""
        return self._size(spec.models())[0]

    def _size(self, models: Sequence[str]) -> tuple[Range, tuple[str, ...]]:
        known = self._sizes.get(frozenset(models))
        if known is None:
            known = self._sizes[frozenset(models)] = _question(self._question, self._book, models)
        return known


def _families(book: ModelBook, models: Sequence[str]) -> int:
    """Count the tokenizers that take part, as far as can be known: the embedded models share one."""
    specs = [book.resolve(model) for model in models]
    return len({"embedded" if spec.transport == "embedded" else spec.identity or spec.name for spec in specs})


def _question(
    question: float | Range | str | Sequence[str] | None, book: ModelBook, models: Sequence[str]
) -> tuple[Range, tuple[str, ...]]:
    if isinstance(question, Range):
        return question, ()
    if question is None or (not isinstance(question, float | int | str) and not question):
        low, likely, high = ASSUMED_QUESTION
        return ASSUMED_QUESTION, (f"a question of {low:g} to {high:g} tokens, likely {likely:g}",)
    if isinstance(question, float | int):
        return exactly(question), ()
    specs = [book.resolve(model) for model in models]
    texts = [question] if isinstance(question, str) else list(question)
    return text_tokens(texts, specs), ()


def _forecast(line: Line, book: ModelBook) -> NodeForecast:
    calls = tuple(
        CallForecast(call.model, call.template, quantities_of(call, book) if call.calls.high else Quantities())
        for call in line.calls
    )
    quantities = Quantities()
    for call in calls:
        quantities = quantities.plus(call.quantities)
    return NodeForecast(
        id=line.id,
        technique=line.technique,
        models=line.models,
        runs=line.runs,
        quantities=quantities,
        candidates=line.candidates,
        calls=calls,
    )


def quantities_of(call: CallPlan, book: ModelBook) -> Quantities:
    """Price planned calls."""
    prompt = _product(call.requests, call.prompt_tokens)
    completion = _product(call.calls, call.completion_tokens)
    price = book.resolve(call.model).price
    dollars = None
    if price is not None:
        cached = price.prompt if price.cached_prompt is None else min(price.prompt, price.cached_prompt)
        rates = (cached, price.prompt, price.prompt)
        dollars = Dollars(
            *(
                (_priced(p, rate) + _priced(c, price.completion)) / _MILLION
                for p, c, rate in zip(prompt, completion, rates, strict=True)
            )
        )
    return Quantities(call.calls, call.requests, prompt, completion, dollars)


def _product(count: Range, each: Range) -> Range:
    # None of something without bound is none.
    return Range(*(a * b if a else 0.0 for a, b in zip(count, each, strict=True)))


def _priced(tokens: float, rate: Decimal) -> Decimal:
    # Tokens without bound are free of charge where the rate is nothing.
    return Decimal(repr(tokens)) * rate if rate else Decimal(0)
