"""Laws of the buckets: no window sees more than is allowed, and nearly all of it is used."""

from __future__ import annotations

import asyncio
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.adaptive import LocalGovernor
from providers.errors import RateLimited
from providers.limits import Limiter
from providers.rates import Bucket, RateLimits, Rates, Usual, counts_what_is_asked
from providers.testing_window import Counting, Entry, RateWindow
from tests.providers.virtual_time import run_virtually


@settings(deadline=None)
@given(
    allowed=st.integers(1, 2000),
    window=st.floats(0.5, 100.0),
    pauses=st.lists(st.floats(0, 1), max_size=200),
)
def test_no_window_sees_more_requests_than_allowed(allowed: int, window: float, pauses: list[float]) -> None:
    bucket, now, sent = Bucket(allowed, window, least_burst=1.0), 5.0, list[float]()
    for pause in [*pauses, *[0.0] * min(3 * allowed, 600)]:
        now += pause * window / allowed * 3
        now += bucket.delay(now, 1.0)
        bucket.take(now, 1.0)
        sent.append(now)
    for first, start in enumerate(sent):
        assert sum(1 for moment in sent[first:] if moment < start + window * (1 - 1e-9)) <= allowed


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 300)), min_size=1, max_size=50))
def test_a_delay_is_the_least_that_suffices(steps: list[tuple[float, float]]) -> None:
    bucket, now = Bucket(1000, 60.0), 0.0
    for pause, amount in steps:
        now += pause
        delay = bucket.delay(now, amount)
        assert bucket.delay(now + delay + 1e-6, amount) == 0.0
        if delay > 1e-3:
            assert bucket.delay(now + delay - 1e-3, amount) > 0.0
        now += delay
        bucket.take(now, amount)


def test_what_is_given_back_can_be_taken_again() -> None:
    bucket = Bucket(6000, 60.0)
    bucket.take(0.0, 1000.0)
    before = bucket.delay(0.0, 100.0)
    bucket.correct(-500.0)
    assert bucket.delay(0.0, 100.0) == pytest.approx(before - 500 / 95)


def test_the_usual_part_is_learnt() -> None:
    usual = Usual()
    assert usual.of(400) == 400.0
    for _ in range(50):
        usual.learn(400, 100)
    assert usual.of(400) == pytest.approx(100.0)
    assert usual.of(1) == 1.0
    for _ in range(500):
        usual.learn(400, 200)
    assert usual.of(400) == pytest.approx(200.0, rel=0.01)


@pytest.mark.parametrize(
    ("used", "asked", "counts", "verdict"),
    [
        (500, 1000, False, True),
        (950, 1000, False, None),
        (500, 2000, False, None),
        (100, 500, False, None),
        (100, 500, True, False),
        (100, 950, True, None),
    ],
)
def test_a_refusal_tells_how_the_server_counts(used: float, asked: float, counts: bool, verdict: bool | None) -> None:
    assert counts_what_is_asked(1000, used=used, asked=asked, counts_asked=counts) is verdict


def test_a_request_that_failed_counts_no_tokens() -> None:
    rates = Rates(RateLimits(tokens=1000, window_s=10.0))
    charge = rates.take(0.0, 500)
    assert rates.delay(0.0, 500) > 4
    rates.settle(charge, 0)
    assert rates.delay(0.0, 500) == pytest.approx(0.0)
    kept = rates.take(0.0, 500)
    rates.settle(kept, None)
    assert rates.delay(0.0, 500) > 4


def test_requests_alone_need_no_tokens() -> None:
    rates = Rates(RateLimits(requests=60))
    for _ in range(2):
        rates.settle(rates.take(0.0, 100), 50)
    rates.refused(0.0, 100)
    assert rates.delay(0.0, 100) == pytest.approx(1.8 / 0.95)


class Outcome:
    """What a server of rates saw."""

    def __init__(self) -> None:
        self.answered = self.refused = self.late_refused = self.late_requests = self.late_tokens = 0


def drive(
    window: RateWindow, limits: RateLimits, *, latency: float, most: int, minutes: float, at_once: int, seed: int
) -> Outcome:
    """Ask a server for some minutes, with answers of random length up to `most`; late: after the first window."""
    outcome, drawn, span = Outcome(), random.Random(seed), limits.window_s

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        window._clock = clock
        began = clock()
        limiter = Limiter(LocalGovernor(1024, rates=limits))

        async def ask() -> None:
            worst = 20 + most
            used = 20 + round(most * min(1.0, drawn.expovariate(5.0)))
            async with limiter.permit(tokens=worst) as permit:
                await asyncio.sleep(drawn.uniform(0, 0.2))
                late = span < clock() - began < (1 + minutes) * span
                entry = window.enter(worst)
                if not isinstance(entry, Entry):
                    outcome.refused += 1
                    outcome.late_refused += late
                    raise RateLimited("slow down", retry_after=entry)
                await asyncio.sleep(latency * drawn.uniform(0.5, 1.5))
                window.settle(entry, used)
                permit.settle(used)
                outcome.answered += 1
                outcome.late_requests += late
                outcome.late_tokens += late * (worst if window.counting == "asked" else used)

        async def worker() -> None:
            while clock() - began < (1 + minutes) * span:
                try:
                    await ask()
                except RateLimited:
                    await asyncio.sleep(drawn.uniform(0, 0.5))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(worker())

    run_virtually(main)
    return outcome


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("latency", [0.1, 8.0])
def test_nearly_all_requests_that_are_allowed_are_made_and_none_is_refused(fixed: bool, latency: float) -> None:
    outcome = drive(
        RateWindow(300, 60_000, fixed=fixed),
        RateLimits(requests=300, tokens=60_000),
        latency=latency,
        most=100,
        minutes=3,
        at_once=200,
        seed=1,
    )
    assert outcome.refused == 0
    assert outcome.late_requests >= 0.9 * 300 * 3


@pytest.mark.parametrize(
    ("counting", "latency", "most", "least"),
    [
        ("used", 0.1, 2000, 0.9),
        ("used", 8.0, 2000, 0.9),
        ("asked", 0.1, 2000, 0.9),
        ("asked", 8.0, 2000, 0.9),
        ("held", 0.1, 800, 0.9),
        # What is under way counts in full, which nothing foretells; cuts of the limit find what fits.
        ("held", 8.0, 800, 0.4),
    ],
)
@pytest.mark.parametrize("fixed", [False, True])
def test_nearly_all_tokens_are_used_however_the_server_counts(
    counting: Counting, latency: float, most: int, least: float, fixed: bool
) -> None:
    outcome = drive(
        RateWindow(600, 60_000, fixed=fixed, counting=counting),
        RateLimits(requests=600, tokens=60_000),
        latency=latency,
        most=most,
        minutes=4,
        at_once=150,
        seed=2,
    )
    asked = outcome.answered + outcome.refused
    assert outcome.late_tokens >= least * 60_000 * 4
    assert outcome.late_refused <= (0.01 if least == 0.9 else 0.06) * asked


@settings(max_examples=20, deadline=None)
@given(
    requests=st.integers(5, 400),
    at_once=st.integers(1, 50),
    latency=st.floats(0.01, 3.0),
    fixed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_no_schedule_meets_a_refusal(requests: int, at_once: int, latency: float, fixed: bool, seed: int) -> None:
    limits = RateLimits(requests=requests)
    outcome = drive(
        RateWindow(requests, fixed=fixed), limits, latency=latency, most=10, minutes=1, at_once=at_once, seed=seed
    )
    assert outcome.refused == 0
    possible = min(0.9 * requests - 1, 0.9 * at_once * 60 / (latency * 1.5 + 0.2))
    assert outcome.late_requests >= math.floor(possible)
