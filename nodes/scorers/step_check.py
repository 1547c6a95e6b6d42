"""Step check: a response judged step by step, each step with all that stands before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from nodes.base import CallPlan, Candidate, Context, Estimator, Measured, Note, Range, Shape, State
from nodes.calls import together
from nodes.measuring import Measurement, NamedModelScorer, failed_measurement
from nodes.scorers.base import Scored
from nodes.scorers.registry import scorer
from nodes.shown import quoted

__all__ = ["StepCheck", "prefixes"]

_STEP_TOKENS = 20
"""Tokens of a step, as a guess for plans."""


@scorer("step_check")
class StepCheck(NamedModelScorer):
    """Cut a candidate into steps, ask after each whether all is right so far, and aggregate the probabilities.

    A step is a line that is not empty. The score of a step is p(yes) / (p(yes) + p(no)) of the next token (template
    `score`), given the question and the candidate up to the end of that step. `min` is the weakest step, `product` and
    `mean` weigh all of them, and `last` asks only once, about the whole. Where a candidate has more than `max_steps`
    lines, neighbouring ones are taken together, so that none is left out. A step whose call failed does not count; a
    candidate without any step that could be scored has no score.

    When to use it: where responses are worked out line by line and one wrong line spoils the rest; with a model that
        was trained to judge steps (as the embedded judge was) or a good judge. It reads a candidate once a step.
    Calls: the sum of the steps of all candidates, at most n·max_steps; n for `last`.
    Paper: Let's Verify Step by Step (arXiv 2305.20050), with `product` and `min`; Can 1B LLM Surpass 405B LLM?
        Rethinking Compute-Optimal Test-Time Scaling (arXiv 2502.06703), which compares `min`, `last` and `mean`.
    Symbols: n is the number of candidates.
    Example:
        ```yaml
        name: step-checked
        layers:
          - generate: {model: fast, samples: 4, temperature: 0.8}
          - score: {scorer: {use: step_check, model: strong, aggregate: min}, keep: 1}
        ```
    """

    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    is_probability: ClassVar[bool] = True

    aggregate: Literal["last", "mean", "min", "product"] = Field(
        default="min", description="How the scores of the steps become one."
    )
    max_steps: int = Field(default=16, ge=1, le=256, description="Most calls for one candidate.")

    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Score all steps of all candidates at once."""
        question = quoted(state.question)
        parts = [self._prefixes(candidate.text) for candidate in candidates]
        found = iter(
            await together(self.measured(context, _asked(question, prefix)) for of_one in parts for prefix in of_one)
        )
        notes: list[Note] = []
        scores = []
        for candidate, of_one in zip(candidates, parts, strict=True):
            steps = [next(found) for _ in of_one]
            notes += _notes(context.node, candidate, steps)
            values = [step.value for step in steps if step.value is not None]
            scores.append(self.given(self.aggregated(values)) if values else None)
        return Scored(tuple(scores), notes)

    def aggregated(self, values: Sequence[float]) -> float:
        """Return the score of a candidate from those of its steps, in their order; raises `ValueError` for none."""
        if not values:
            raise ValueError("There are no steps to aggregate.")
        match self.aggregate:
            case "last":
                return values[-1]
            case "mean":
                return math.fsum(values) / len(values)
            case "min":
                return min(values)
            case "product":
                return math.prod(values)

    def _prefixes(self, text: str) -> tuple[str, ...]:
        found = prefixes(text, self.max_steps)
        return found[-1:] if self.aggregate == "last" else found

    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell one call per step, of which every candidate has at least one and at most `max_steps`."""
        tokens = shape.candidate_tokens
        most = 1 if self.aggregate == "last" else self.max_steps
        steps = Range(1 if tokens.low else 0, max(1, min(most, round(tokens.likely / _STEP_TOKENS))), most)
        whole = shape.question.plus(tokens)
        shown = whole if self.aggregate == "last" else Range(shape.question.low, whole.likely, whole.high)
        calls = shape.candidates.times(steps)
        return (estimator.score(self.model, "score", {"question": "", "partial": ""}, inserted=shown, calls=calls),)


def prefixes(text: str, most: int) -> tuple[str, ...]:
    """Return a text up to the end of each of its steps: lines that are not empty, taken together where over `most`."""
    lines = [line.rstrip() for line in text.strip().splitlines() if line.strip()]
    count = min(len(lines), most)
    ends = [(number * len(lines)) // count for number in range(1, count + 1)]
    return tuple("\n".join(lines[:end]) for end in ends)


def _asked(question: str, prefix: str) -> Measurement:
    return Measurement("yes", "score", {"question": question, "partial": quoted(prefix)})


def _notes(node: str, candidate: Candidate, steps: Sequence[Measured]) -> list[Note]:
    if not steps:
        return [Note(node, "unparsed", f"there is no step in {candidate.id}")]
    return [
        note
        for number, step in enumerate(steps, 1)
        for note in failed_measurement(node, step, f"step {number} of {candidate.id}")
    ]
