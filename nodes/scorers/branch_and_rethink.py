"""Branch and rethink: a judge that first finds out what the judgement hangs on, and looks again only at that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from pydantic import Field

from nodes.base import CallPlan, Candidate, Context, Estimator, Note, Range, Score, Shape, State
from nodes.calls import failure_notes, together
from nodes.ordinals import ordinals
from nodes.parsing import read_critiques, read_score
from nodes.planning import listing
from nodes.scorers.base import OneModelScorer, Scored
from nodes.scorers.registry import scorer
from nodes.shown import blanks, quoted, shown

__all__ = ["BranchAndRethink"]

_DIMENSIONS = 3


class _Marks(NamedTuple):
    values: tuple[float | None, ...]
    notes: list[Note]


@scorer("branch_and_rethink")
class BranchAndRethink(OneModelScorer):
    """Judge in two turns: pick the few dimensions that decide and suspect faults in them, then check those and mark.

    Turn 1 reads question and candidate and writes up to `dimensions` dimensions that matter for this very case, with
    what might be wrong there and where the evidence would stand. Turn 2 reads all of it and goes through the candidate
    again only to test these suspicions, then gives a mark from 1 to 10. With `listwise` both turns see all candidates
    at once: two calls, and marks that were given side by side. The paper trains its model for the two turns; this is
    the prompt alone, so its figures do not carry over. The embedded models cannot play this role.

    When to use it: where a plain judge spreads its attention over everything and misses the one fault that counts; with
        a strong model.
    Calls: 2·n; 2 with `listwise`.
    Paper: Think Twice: Branch-and-Rethink Reasoning Reward Model (arXiv 2510.23596).
    Symbols: n is the number of candidates.
    Example:
        ```yaml
        name: rethought
        layers:
          - generate: {model: fast, samples: 4, temperature: 0.8}
          - score: {scorer: {use: branch_and_rethink, model: strong}, keep: 1}
        ```
    """

    bounds: ClassVar[tuple[float, float] | None] = (1.0, 10.0)
    example_replies: ClassVar[Mapping[str, str | Callable[[Mapping[str, object]], str]]] = MappingProxyType(
        {
            "branch": "1. The product: 3 times 4 may be miscounted.",
            "rethink": lambda variables: _example(variables["candidates"]),
        }
    )

    dimensions: int = Field(default=_DIMENSIONS, ge=1, le=10, description="Most dimensions that turn 1 picks.")
    listwise: bool = Field(default=False, description="Show all candidates in one prompt, in two calls altogether.")

    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Judge all candidates at once."""
        groups = [tuple(candidates)] if self.listwise else [(candidate,) for candidate in candidates]
        numbers = ordinals([candidate.text for candidate in candidates])
        judged = await together(
            self._judge(quoted(state.question), group, number, context)
            for group, number in zip(groups, numbers, strict=False)
        )
        values = [value for marks in judged for value in marks.values]
        scores: tuple[Score | None, ...] = tuple(None if value is None else self.given(value) for value in values)
        return Scored(scores, [note for marks in judged for note in marks.notes])

    async def _judge(self, question: str, group: Sequence[Candidate], number: int, context: Context) -> _Marks:
        variables: dict[str, object] = {
            "question": question,
            "candidates": shown(group, critiques=False),
            "dimensions": self.dimensions,
        }
        names = ", ".join(candidate.id for candidate in group)
        silent = (None,) * len(group)
        branched = await context.ask(self.model, "branch", variables, sampling=self.sampling())
        notes = failure_notes(context.node, branched.failures, f"first look at {names}")
        if not branched.samples:
            return _Marks(silent, notes)
        variables["reasoning"] = quoted(branched.samples[0].completion.text)
        # Second turns start in the order in which first ones end, so their sample index must not depend on it.
        asked = await context.ask(self.model, "rethink", variables, sampling=self.sampling(), first=number)
        notes += failure_notes(context.node, asked.failures, f"second look at {names}")
        if not asked.samples:
            return _Marks(silent, notes)
        values = _read(asked.samples[0].completion.text, len(group))
        unread = [candidate.id for candidate, value in zip(group, values, strict=True) if value is None]
        if unread:
            notes.append(Note(context.node, "unparsed", f"no score from 1 to 10 for {', '.join(unread)}"))
        return _Marks(values, notes)

    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell two calls for each candidate, or two for all."""
        if self.listwise:
            blank, inserted = listing(shape, critiques=False)
            calls = Range(*(min(1, count) for count in shape.candidates))
        else:
            blank, inserted, calls = blanks(1), shape.question.plus(shape.candidate_tokens), shape.candidates
        variables: dict[str, object] = {"question": "", "candidates": blank, "dimensions": self.dimensions}
        first = estimator.call(
            self.model, "branch", variables, inserted=inserted, calls=calls, sampling=self.sampling()
        )
        second = estimator.call(
            self.model,
            "rethink",
            {**variables, "reasoning": ""},
            inserted=inserted.plus(first.completion_tokens),
            calls=calls,
            sampling=self.sampling(),
        )
        return (first, second)


def _read(text: str, count: int) -> tuple[float | None, ...]:
    if count == 1:
        return (read_score(text),)
    sections = read_critiques(text, count) or (None,) * count
    return tuple(None if section is None else read_score(section) for section in sections)


def _example(candidates: object) -> str:
    count = len(candidates) if isinstance(candidates, list) else 1
    return "\n".join(f"[{number}] Sound.\nScore: {number}" for number in range(1, count + 1))
