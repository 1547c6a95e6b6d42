"""How the states of several nodes become the one state that the next node receives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from nodes.base import Candidate, State

__all__ = ["join"]


def join(states: Sequence[State]) -> State:
    """Merge states of one question, in their order; the order decides which candidate comes first.

    Candidates are concatenated; one that comes along several ways stands once, at its first place, with what each way
    said of it: all scores, and of critique, verdict, answer and test results the first that is there. Unit tests and
    notes are concatenated without repetition; of a measure that several ways took, the last counts.
    """
    if len(states) == 1:
        return states[0]
    candidates: dict[str, Candidate] = {}
    measures: dict[str, float] = {}
    for state in states:
        measures.update(state.measures)
        for candidate in state.candidates:
            known = candidates.get(candidate.id)
            candidates[candidate.id] = candidate if known is None or known is candidate else _both(known, candidate)
    return State(
        question=states[0].question,
        candidates=tuple(candidates.values()),
        tests=tuple(dict.fromkeys(test for state in states for test in state.tests)),
        measures=MappingProxyType(measures),
        notes=tuple(dict.fromkeys(note for state in states for note in state.notes)),
    )


def _both(first: Candidate, second: Candidate) -> Candidate:
    return replace(
        first,
        scores=MappingProxyType({**first.scores, **second.scores}),
        sources=MappingProxyType({**first.sources, **second.sources}),
        critique=first.critique if first.critique is not None else second.critique,
        verdict=first.verdict if first.verdict is not None else second.verdict,
        verdict_reason=first.verdict_reason if first.verdict_reason is not None else second.verdict_reason,
        tests_passed=first.tests_passed or second.tests_passed,
        answer=first.answer if first.answer is not None else second.answer,
        mean_logprob=first.mean_logprob if first.mean_logprob is not None else second.mean_logprob,
    )
