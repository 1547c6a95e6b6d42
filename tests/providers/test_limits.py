"""Laws of permits in one process, in virtual time: the limit, its cuts, pauses, turns, and that none is lost."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.adaptive import Adaptive, History, LocalGovernor
from providers.errors import CallTimeout, ConnectionFailed, Overloaded, ProviderError, RateLimited
from providers.limits import Limiter, Permit
from providers.rates import RateLimits
from tests.providers.virtual_time import run_virtually

Ending = Literal["429", "429-later", "500", "503-later", "answer", "bug", "cancel", "reset", "timeout"]


def failing(ending: Ending, pause: float) -> BaseException | None:
    """Return what a request ends with."""
    errors: dict[Ending, BaseException | None] = {
        "429": RateLimited("slow down"),
        "429-later": RateLimited("slow down", retry_after=pause),
        "500": Overloaded("broken"),
        "503-later": Overloaded("later", retry_after=pause),
        "answer": None,
        "bug": ValueError("ours"),
        "cancel": asyncio.CancelledError(),
        "reset": ConnectionFailed("reset"),
        "timeout": CallTimeout("late"),
    }
    return errors[ending]


@dataclass(frozen=True)
class Plan:
    """One request of a schedule."""

    begins: float
    lasts: float
    ending: Ending
    run: str
    tokens: int
    gives_up: float | None


PLANS = st.builds(
    Plan,
    begins=st.floats(0, 3),
    lasts=st.floats(0, 1),
    ending=st.sampled_from(("answer", "answer", "answer", "429", "429-later", "500", "503-later", "bug", "reset")),
    run=st.sampled_from("abc"),
    tokens=st.integers(0, 200),
    gives_up=st.one_of(st.none(), st.floats(0, 2)),
)


class Watched(Limiter):
    """Writes down what it gives: when, how many are out with it, and the limit; and the order of events."""

    def __init__(self, governor: LocalGovernor) -> None:
        super().__init__(governor)
        self.events = itertools.count()
        self.sent: dict[Permit, int] = {}
        self.given: list[tuple[float, int, int]] = []

    def _give(self, permit: Permit, now: float) -> None:
        super()._give(permit, now)
        self.sent[permit] = next(self.events)
        self.given.append((now, self.in_flight, self.limit))


@settings(max_examples=150, deadline=None)
@given(
    plans=st.lists(PLANS, min_size=1, max_size=60),
    ceiling=st.integers(1, 12),
    start=st.integers(1, 12),
    rates=st.one_of(st.none(), st.just(RateLimits(requests=100, tokens=10_000, window_s=5.0))),
)
def test_no_schedule_breaks_the_laws(plans: list[Plan], ceiling: int, start: int, rates: RateLimits | None) -> None:
    refused: list[tuple[int, int]] = []
    pauses: list[tuple[float, float]] = []
    limiter = Watched(LocalGovernor(ceiling, start=start, rates=rates))

    async def ask(plan: Plan) -> None:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(plan.begins)
        async with limiter.permit(run=plan.run, tokens=plan.tokens) as permit:
            await asyncio.sleep(plan.lasts)
            error = failing(plan.ending, plan.lasts)
            if plan.ending in ("429", "429-later"):
                refused.append((limiter.sent[permit], next(limiter.events)))
            if plan.ending.endswith("later") and plan.lasts:
                pauses.append((clock(), clock() + plan.lasts))
            if error is not None:
                raise error
            permit.settle(plan.tokens // 2)

    async def run(plan: Plan) -> None:
        task = asyncio.create_task(ask(plan))
        await asyncio.wait({task}, timeout=plan.gives_up)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and not isinstance(task.exception(), ProviderError | ValueError | None):
            raise AssertionError(task.exception())

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for plan in plans:
                tasks.create_task(run(plan))
        assert (limiter.in_flight, limiter.waiting) == (0, 0)
        async with limiter.permit(run="last", tokens=1):
            assert limiter.in_flight == 1
        await limiter.aclose()

    run_virtually(main)
    assert all(held <= limit <= ceiling for _, held, limit in limiter.given)
    assert all(not began < moment < ended - 1e-9 for began, ended in pauses for moment, _, _ in limiter.given)
    assert cuts_of(limiter) == episodes(refused)
    assert min(change.limit for change in limiter.history) >= 1


def cuts_of(limiter: Limiter) -> int:
    return sum(change.reason == "cut" for change in limiter.history)


def episodes(refused: list[tuple[int, int]]) -> int:
    """Count the refusals of requests that were sent after the last refusal that counted."""
    count, cut_at = 0, -1
    for sent, came in refused:
        if sent > cut_at:
            count, cut_at = count + 1, came
    return count


def test_the_limit_doubles_until_the_first_refusal_and_then_grows_by_one() -> None:
    adaptive = Adaptive(100, start=4)
    for expected in (8, 16, 32):
        for _ in range(adaptive.limit):
            adaptive.grow(0)
        assert adaptive.limit == expected
    assert adaptive.cut(0)
    assert (adaptive.limit, adaptive.epoch) == (25, 1)
    assert not adaptive.cut(0)
    assert not adaptive.grow(0)
    for _ in range(26):
        adaptive.grow(1)
    assert adaptive.limit == 26
    for epoch in range(1, 40):
        assert adaptive.cut(epoch)
    assert adaptive.limit == 1
    adaptive.confine(1)
    assert not adaptive.grow(40)


def test_it_grows_only_while_it_is_used_and_never_shrinks_for_a_broken_server() -> None:
    async def main() -> None:
        limiter = Limiter(LocalGovernor(64, start=8))
        for _ in range(100):
            async with limiter.permit():
                await asyncio.sleep(0.1)
        assert limiter.limit == 8
        for ending in ("500", "timeout", "reset"):
            error = failing(ending, 0)
            assert isinstance(error, ProviderError)
            with pytest.raises(type(error)):
                await end(limiter, 0, error)
        assert limiter.limit == 8

        async def one() -> None:
            async with limiter.permit():
                await asyncio.sleep(0.1)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(200):
                tasks.create_task(one())
        assert limiter.limit == 64
        assert [change.reason for change in limiter.history] == ["start", "growth"]

    run_virtually(main)


def test_a_refusal_cuts_once_and_the_requests_sent_before_it_do_not() -> None:
    async def main() -> None:
        limiter = Limiter(LocalGovernor(10))

        async def refused(after: float) -> None:
            with pytest.raises(RateLimited):
                await end(limiter, after, RateLimited("slow down"))

        async with asyncio.TaskGroup() as tasks:
            for number in range(10):
                tasks.create_task(refused(1 + number / 10))
        assert limiter.limit == 8
        await refused(0)
        assert limiter.limit == 6

    run_virtually(main)


def test_a_run_with_many_requests_does_not_keep_out_one_with_few() -> None:
    async def main() -> None:
        limiter, order = Limiter(LocalGovernor(4)), list[str]()

        async def one(run: str) -> None:
            async with limiter.permit(run=run):
                order.append(run)
                await asyncio.sleep(1)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(1000):
                tasks.create_task(one("many"))
            await asyncio.sleep(0.5)
            for _ in range(10):
                tasks.create_task(one("few"))
        assert order[:4] == ["many"] * 4
        assert order[4:24].count("few") == 10
        assert len(order) == 1010

    run_virtually(main)


def test_a_pause_is_kept_and_one_beyond_all_patience_is_an_error() -> None:
    async def main() -> None:
        clock = asyncio.get_running_loop().time
        limiter = Limiter(LocalGovernor(4), patience_s=100)

        async def refused(pause: float) -> float:
            with pytest.raises(RateLimited):
                await end(limiter, 0, RateLimited("later", retry_after=pause))
            return clock()

        at = await refused(20)
        assert 20 <= limiter.paused_s <= 21
        async with limiter.permit():
            assert 20 <= clock() - at <= 21
        assert limiter.paused_s == 0
        at = await refused(200)
        waiting = [asyncio.create_task(enter(limiter)) for _ in range(3)]
        for task in waiting:
            with pytest.raises(
                RateLimited, match=r"a pause of 20\d s, longer than patience_s allows \(100 s\)"
            ) as told:
                await task
            assert told.value.retry_after == pytest.approx(200, abs=1.5)
        assert clock() == at
        assert [change.reason for change in limiter.history] == ["start", "cut", "retry-after", "cut", "retry-after"]

    run_virtually(main)


async def enter(limiter: Limiter, tokens: int = 0) -> None:
    async with limiter.permit(tokens=tokens):
        pass


async def end(limiter: Limiter, after: float, error: Exception) -> None:
    async with limiter.permit():
        await asyncio.sleep(after)
        raise error


def test_one_that_gives_up_gives_back_what_it_was_just_given() -> None:
    async def main() -> None:
        limiter = Limiter(LocalGovernor(1, rates=RateLimits(tokens=1000, window_s=10.0)))
        async with limiter.permit(tokens=10):
            first, second = (asyncio.create_task(enter(limiter, tokens=10)) for _ in range(2))
            await asyncio.sleep(0)
        first.cancel()  # it was given the permit, and has not run since
        await second
        assert first.cancelled()
        assert (limiter.in_flight, limiter.waiting) == (0, 0)

    run_virtually(main)


def test_those_who_wait_fail_with_a_governor_that_cannot_go_on() -> None:
    async def main() -> None:
        limiter = Limiter(LocalGovernor(1))
        async with limiter.permit():
            tasks = [asyncio.create_task(enter(limiter)) for _ in range(2)]
            await asyncio.sleep(0)
            limiter.fail(lambda: RuntimeError("broken"))
            tasks[0].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert str(results[1]) == "broken"
        assert limiter.waiting == 0

    run_virtually(main)


def test_a_lower_ceiling_holds_at_once_and_history_is_bounded() -> None:
    async def main() -> None:
        limiter = Limiter(LocalGovernor(64))
        limiter.confine(3, RateLimits())
        assert not limiter.counts_tokens
        limiter.confine(8, RateLimits(tokens=1000))
        assert limiter.counts_tokens
        limiter.confine(8, RateLimits(requests=7, tokens=2000))
        assert limiter._governor.rates == RateLimits(requests=7, tokens=1000)
        assert limiter.limit == 3
        assert limiter.paused_s == 0

    run_virtually(main)
    history, drawn = History(), random.Random(0)
    for moment in range(1000):
        history.add(float(moment), drawn.randint(1, 64), "cut")
    assert len(history.read()) == 256
    assert history.read()[-1].at_s == 999.0
