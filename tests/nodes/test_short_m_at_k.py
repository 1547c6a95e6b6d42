"""Short-m@k: the race, what is cancelled, what is kept from before, and the vote."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from db.errors import BudgetExceeded, ColonnadeError, InsufficientCandidates, SpecError
from nodes.base import State
from nodes.racing import race
from nodes.short_m_at_k import ShortMAtK
from nodes.testing import Prompt, ScriptedContext, Tried
from providers.base import Asked, Sampling
from providers.errors import Overloaded

STATE = State(question="How many?")


class Track(ScriptedContext):
    """A context in which sample i takes as long as its text, and some samples are kept from before."""

    def __init__(self, replies: list[str | ColonnadeError], kept: frozenset[int] = frozenset()) -> None:
        super().__init__(lambda prompt, index: replies[index], node="here", answer_kind="numeric")
        self.kept = kept
        self.started: list[int] = []
        self.ended: list[int] = []
        self._replies = replies

    async def stored(self, model: str, template: str, variables: Mapping[str, object], **more: Any) -> frozenset[int]:
        return self.kept

    async def ask(
        self,
        model: str,
        template: str,
        variables: Mapping[str, object],
        *,
        n: int = 1,
        sampling: Sampling | None = None,
        first: int | None = None,
        system: str | None = None,
        prefix: str | None = None,
        cancellable: bool = False,
    ) -> Asked:
        assert cancellable
        assert n == 1
        assert first is not None
        self.started.append(first)
        if first not in self.kept:
            for _ in range(2 * len(str(self._replies[first]))):
                await asyncio.sleep(0)
        self.ended.append(first)
        return await super().ask(model, template, variables, sampling=sampling, first=first, system=system)


def run(replies: list[str | ColonnadeError], kept: frozenset[int] = frozenset(), **settings: object) -> Tried:
    technique = ShortMAtK.model_validate({"model": "a", "k": len(replies), **settings})
    context = Track(replies, kept)
    return Tried(asyncio.run(technique.run(STATE, context)), context)


def track(tried: Tried) -> Track:
    assert isinstance(tried.context, Track)
    return tried.context


def test_the_first_m_vote_and_the_others_are_cancelled() -> None:
    long = "a very long way round. " * 4 + "Answer: 9"
    tried = run([long, "x Answer: 2", long, "xx Answer: 2", "xxx Answer: 3", long], m=3)
    assert track(tried).started == [0, 1, 2, 3, 4, 5]
    assert track(tried).ended == [1, 3, 4]
    assert tried.texts == ["x Answer: 2"]
    assert tried.state.measures == {"agreement": 2 / 3, "answers": 3, "cancelled": 3, "finished": 3}


def test_with_m_of_one_the_shortest_wins() -> None:
    assert run(["xxxx Answer: 1", "x Answer: 2", "xxx Answer: 1"], m=1).texts == ["x Answer: 2"]


def test_a_tie_goes_to_the_shorter_answer() -> None:
    assert run(["xxxx Answer: 1", "x Answer: 2"], m=2).texts == ["x Answer: 2"]


def test_a_racer_that_fails_drops_out_and_the_race_goes_on() -> None:
    tried = run([Overloaded("x"), "xx Answer: 2", "xxxx Answer: 3", "x" * 90], m=2)
    assert tried.texts == ["xx Answer: 2"]
    assert tried.notes == [("call_failed", "generate with a: overloaded: x")]
    assert tried.state.measures == {"agreement": 0.5, "answers": 2, "cancelled": 1, "finished": 2}
    with pytest.raises(InsufficientCandidates, match="2 calls failed"):
        run([Overloaded("x"), Overloaded("y")], m=1)


def test_where_enough_is_kept_no_other_is_started_and_the_shortest_count() -> None:
    replies: list[str | ColonnadeError] = ["x", "xxxxx Answer: 1", "xx Answer: 2", "xxx Answer: 2", "x"]
    tried = run(replies, frozenset({1, 2, 3}), m=2)
    assert track(tried).started == [1, 2, 3]
    assert tried.texts == ["xx Answer: 2"]
    assert tried.state.measures["cancelled"] == 3


def test_where_too_few_are_kept_the_others_race_for_the_rest() -> None:
    replies: list[str | ColonnadeError] = ["x Answer: 4", "x" * 60 + " Answer: 1", "y Answer: 1", "x" * 99]
    tried = run(replies, frozenset({1}), m=2)
    assert track(tried).started == [1, 0, 2, 3]
    assert track(tried).ended == [1, 0, 2]  # the two of equal length finish in one moment; the shorter two count
    assert tried.state.measures["finished"] == 2


def test_a_repeated_run_ends_as_it_did_whoever_of_equal_length_was_first() -> None:
    class LastFirst(Track):
        async def ask(self, *args: Any, first: int | None = None, **more: Any) -> Asked:
            if not self.kept and first == 0:
                for _ in range(100):
                    await asyncio.sleep(0)
            return await super().ask(*args, first=first, **more)

    replies: list[str | ColonnadeError] = ["x Answer: 1", "x Answer: 2"]
    technique = ShortMAtK(model="a", k=2, m=2)
    fresh, again = LastFirst(replies), LastFirst(replies, frozenset({0, 1}))
    found = asyncio.run(technique.run(STATE, fresh))
    assert fresh.ended == [1, 0]
    assert asyncio.run(technique.run(STATE, again)).candidates == found.candidates


def test_without_an_answer_the_shortest_goes_on() -> None:
    tried = run(["xxx", "xx"], m=2)
    assert tried.texts == ["xx"]
    assert [kind for kind, _ in tried.notes] == ["unparsed", "fallback"]


def test_more_waited_for_than_started_is_refused() -> None:
    with pytest.raises(ValidationError, match="m is 4, but only k = 3 responses are started"):
        ShortMAtK(model="a", k=3, m=4)


async def after(steps: int, result: int | Exception, log: list[str] | None = None) -> int:
    try:
        for _ in range(steps):
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        if log is not None:
            await asyncio.sleep(0)
            log.append("cleaned up")
        raise
    if isinstance(result, Exception):
        raise result
    return result


async def test_a_race_ends_with_enough_and_waits_for_whom_it_cancels() -> None:
    log: list[str] = []
    work = [after(50, 1, log), after(3, 2), after(9, 3), after(3, 4)]
    assert await race(work, lambda done: len(done) >= 2) == [2, 4]
    assert log == ["cleaned up"]


async def test_a_race_without_enough_runs_to_its_end() -> None:
    assert await race([after(4, 1), after(1, 2)], lambda done: False) == [2, 1]
    assert await race([], lambda done: False) == []


async def test_errors_of_ours_come_out_after_the_race_a_usage_mistake_first() -> None:
    work = [after(1, BudgetExceeded("spent")), after(2, SpecError("mistake")), after(5, 3)]
    with pytest.raises(SpecError, match="mistake"):
        await race(work, lambda done: len(done) == 1)
    with pytest.raises(BudgetExceeded):
        await race([after(1, BudgetExceeded("spent")), after(2, 1)], lambda done: len(done) == 1)


async def test_a_bug_comes_out_bare() -> None:
    with pytest.raises(ZeroDivisionError):
        await race([after(1, ZeroDivisionError()), after(3, 1)], lambda done: len(done) == 1)


def test_every_racer_asks_for_the_sample_that_generate_would_draw() -> None:
    seen: list[tuple[str, int]] = []

    def script(prompt: Prompt, index: int) -> str:
        seen.append((prompt.template, index))
        return "Answer: 1"

    technique = ShortMAtK(model="a", k=3, m=3)
    asyncio.run(technique.run(STATE, ScriptedContext(script, answer_kind="numeric")))
    assert seen == [("generate", 0), ("generate", 1), ("generate", 2)]
