"""Unit-test evaluation: candidates judged by the test statements, best first."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from nodes.base import Candidate, Context, Estimator, NodePlan, Note, Range, Shape, State
from nodes.calls import failure_notes, needed, together
from nodes.choosing import OnNone, passing, surviving
from nodes.parsing import read_test_results
from nodes.planning import kept
from nodes.registry import technique
from nodes.settings import OneModel
from nodes.shown import quoted
from providers.base import Asked

__all__ = ["UnitTestEvaluate"]


class _Evaluated(NamedTuple):
    candidate: Candidate
    notes: list[Note]


@technique("unit_test_evaluate")
class UnitTestEvaluate(OneModel):
    """Judge each candidate by the unit tests of the state, put those that pass most first, and keep the best.

    One call per candidate shows all statements and asks for a result on each. The score is the share of tests passed; a
    result that cannot be read, or whose call failed, is None, counts as not passed, and is noted. What is said of one
    candidate never moves to another. `keep: all_passed` hands on those that pass every test; where none does, `on_none`
    says what goes on: the `best`, `all` in order, or nothing (`fail`). Without tests nothing is asked, and the
    candidates go on as they came, the first ones where `keep` is a number.

    When to use it: behind a unit_test_generate. A model's results on its own statements are a filter for gross errors,
        not a proof; for code that can be run, run it.
    Calls: n; 0 without tests.
    Paper: Archon (arXiv 2409.15254), component "unit test evaluator".
    Symbols: n is the number of candidates that come in; `tests_passed` = share of the tests that the best one passes.
    Example:
        ```yaml
        name: tested-first
        layers:
          - unit_test_generate: {model: strong, count: 5}
          - generate: {model: fast, samples: 5, temperature: 0.8}
          - unit_test_evaluate: {model: strong, keep: all_passed}
          - fuse: {model: strong}
        ```
    """

    needs = frozenset({"candidates", "tests"})
    gives = frozenset({"scores"})
    measures = frozenset({"tests_passed"})

    keep: Literal["all", "all_passed"] | Annotated[int, Field(ge=1)] = Field(
        default="all_passed", description="Those that pass every test, or a number of the best, or all in order."
    )
    on_none: OnNone = Field(default="best", description="With `all_passed`: what goes on where none passes every test.")

    async def run(self, state: State, context: Context) -> State:
        """Evaluate all candidates at once; raises `InsufficientCandidates` where nothing came in, or by `on_none`."""
        candidates = needed(state, context.node)
        if not state.tests:
            first = self.keep if isinstance(self.keep, int) else None
            untested = tuple(candidate.scored(context.node, 0.0) for candidate in candidates[:first])
            skipped = Note(context.node, "skipped", "there are no unit tests; the candidates go on as they came")
            return replace(state, candidates=untested).measured(tests_passed=0.0).noted(skipped)
        variables = {"question": quoted(state.question), "tests": [quoted(test) for test in state.tests]}
        asked = await together(
            self.ask(context, "unit_test_evaluate", {**variables, "candidate": quoted(candidate.text)})
            for candidate in candidates
        )
        evaluated = [
            _evaluate(candidate, batch, len(state.tests), context.node)
            for candidate, batch in zip(candidates, asked, strict=True)
        ]
        ordered = sorted((c for c, _ in evaluated), key=lambda candidate: -candidate.scores[context.node])
        notes = [note for _, found in evaluated for note in found]
        chosen, notes = self._choose(ordered, context.node, notes)
        share = ordered[0].scores[context.node]
        return replace(state, candidates=chosen).measured(tests_passed=share).noted(*notes)

    def _choose(
        self, ordered: list[Candidate], node: str, notes: list[Note]
    ) -> tuple[tuple[Candidate, ...], list[Note]]:
        if self.keep == "all_passed":
            passed = [all(result is True for result in candidate.tests_passed) for candidate in ordered]
            return passing(ordered, passed, on_none=self.on_none, node=node, what="passes every test", notes=notes)
        return tuple(ordered if self.keep == "all" else ordered[: self.keep]), notes

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one call per candidate, or none where there may be no tests."""
        tests = max(1, round(shape.tests.likely))
        variables = {"question": "", "candidate": "", "tests": [""] * tests}
        inserted = shape.question.plus(shape.candidate_tokens).plus(shape.tests.times(shape.test_tokens))
        calls = shape.candidates
        if shape.tests.low < 1:
            calls = Range(0, calls.likely if shape.tests.likely else 0, calls.high if shape.tests.high else 0)
        call = self.foretell(estimator, "unit_test_evaluate", variables, inserted, calls)
        if self.keep == "all_passed":
            return NodePlan((call,), shape._replace(candidates=surviving(shape.candidates)))
        return NodePlan((call,), kept(shape, None if self.keep == "all" else self.keep))


def _evaluate(candidate: Candidate, asked: Asked, count: int, node: str) -> _Evaluated:
    notes = failure_notes(node, asked.failures, f"unit tests on {candidate.id}")
    results: tuple[bool | None, ...] = (None,) * count
    if asked.samples:
        results = read_test_results(asked.samples[0].completion.text, count)
        unread = [str(number) for number, result in enumerate(results, 1) if result is None]
        if unread:
            notes.append(Note(node, "unparsed", f"no result of test {', '.join(unread)} for {candidate.id}"))
    passed = sum(result is True for result in results)
    return _Evaluated(replace(candidate, tests_passed=results).scored(node, passed / count), notes)
