"""The contract of samplers as checks, for ours and for those of other packages.

A test file binds it to a sampler; `make` gets a domain and returns the sampler:

    @pytest.mark.parametrize("check", SAMPLER_CHECKS)
    def test_contract(check):
        check(lambda domain: MySampler(domain))

A check raises `AssertionError` that says what is broken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import product
from typing import Final, TypeAlias

import numpy as np

from search.domain import INACTIVE, Domain
from search.sampler import Sampler
from search.trials import StudyState, Trial

__all__ = ["SAMPLER_CHECKS", "MakeSampler", "grid_domain", "true_value"]

MakeSampler: TypeAlias = Callable[[Domain], Sampler]

_SEED = 11


def grid_domain(*sizes: int) -> Domain:
    """Make a domain that is a grid with a condition: where the first axis is 0 the last one does not exist."""
    every = product(*(range(size) for size in sizes))
    rows = sorted({(*row[:-1], row[-1] if row[0] else INACTIVE) for row in every})
    levels = np.asarray(rows, dtype=np.int16)
    spans = np.maximum(np.asarray(sizes) - 1, 1)
    return Domain(
        axes=tuple(f"axis{number}" for number in range(len(sizes))),
        levels=levels,
        features=(np.maximum(levels, 0) / spans).astype(np.float32),
        costs=1.0 + np.maximum(levels, 0).sum(axis=1).astype(float),
        keys=["/".join(map(str, row)) for row in rows],
        singles={"role": tuple(range(min(3, len(rows))))},
        members={"role": np.eye(len(rows), min(3, len(rows)), dtype=np.float32)},
    )


def true_value(domain: Domain, point: int) -> float:
    """Return a smooth value with its greatest at the far corner."""
    return float(domain.features[point].mean() - 0.1 * domain.features[point].std())


def _run(sampler: Sampler, state: StudyState, trials: int, batch: int = 1) -> StudyState:
    while len(state.trials) < trials:
        state, new = sampler.ask_batch(state, batch)
        if not new:
            break
        for trial in new:
            state = sampler.tell(state, trial.id, true_value(sampler.domain, trial.point))
    return state


def check_batches(make: MakeSampler) -> None:
    """A batch has at most as many trials as were asked, with ids that go on, and points never asked before."""
    sampler = make(grid_domain(4, 3, 3))
    state, asked = sampler.start(_SEED), list[Trial]()
    for size in (1, 3, 7, 2):
        before = state
        state, trials = sampler.ask_batch(state, size)
        assert len(trials) <= size, f"{len(trials)} trials came where {size} were asked"
        assert state.trials == (*before.trials, *trials), "the state does not hold what was asked"
        asked += trials
        for trial in trials:
            state = sampler.tell(state, trial.id, true_value(sampler.domain, trial.point))
    assert [trial.id for trial in asked] == list(range(len(asked))), "ids do not count up from 0"
    assert len({trial.point for trial in asked}) == len(asked), "a point was asked twice"


def check_seeds(make: MakeSampler) -> None:
    """The same seed and the same values lead to the same trials; nothing is kept in the sampler."""
    first, second = make(grid_domain(5, 4, 3)), make(grid_domain(5, 4, 3))
    state = _run(first, first.start(_SEED), 30)
    assert _run(second, second.start(_SEED), 30) == state, "the same seed led to other trials"
    _run(first, first.start(_SEED + 1), 5)
    assert _run(first, first.start(_SEED), 30) == state, "a study left something behind in the sampler"


def check_order(make: MakeSampler) -> None:
    """`tell` in any order, and twice, leads to the same state and so to the same next trials."""
    sampler = make(grid_domain(5, 4, 3))
    state = _run(sampler, sampler.start(_SEED), 26)
    state, trials = sampler.ask_batch(state, 4)
    orders: Sequence[Sequence[Trial]] = (trials, trials[::-1], (*trials, *trials))
    ends = [_tell_all(sampler, state, order) for order in orders]
    assert ends[1:] == ends[:-1], "the order of tells, or a tell made twice, changed the state"
    nexts = [sampler.ask_batch(end, 3).trials for end in ends]
    assert nexts[1:] == nexts[:-1], "the order of tells changed what is asked next"


def check_pending(make: MakeSampler) -> None:
    """Asks while trials are under way bring other points, or none where the sampler has to wait."""
    sampler = make(grid_domain(5, 4, 3))
    state = _run(sampler, sampler.start(_SEED), 25)
    for _ in range(4):
        state, _ = sampler.ask_batch(state, 2)
    assert len(set(state.points)) == len(state.points), "a point that was under way was asked again"


def check_exhaustion(make: MakeSampler) -> None:
    """Every point is reached in the end, and then no more are asked."""
    sampler = make(grid_domain(3, 2, 2))
    state = _run(sampler, sampler.start(_SEED), len(sampler.domain) + 1, batch=3)
    assert sorted(state.points) == list(range(len(sampler.domain))), "some points were never asked"
    assert sampler.ask_batch(state, 2).trials == (), "more trials came than there are points"


def check_resume(make: MakeSampler) -> None:
    """A state that went through JSON goes on as if it had not."""
    sampler = make(grid_domain(5, 4, 3))
    state, _ = sampler.ask_batch(_run(sampler, sampler.start(_SEED), 27), 1)
    again = StudyState.resume(json.loads(json.dumps(state.data())), sampler.domain)
    assert again == state, "the state changed on its way through JSON"
    assert sampler.ask_batch(again, 2) == sampler.ask_batch(state, 2), "a resumed study asks for other trials"


def check_queue(make: MakeSampler) -> None:
    """Points that are given come first, once each, whatever the size of the batches; then the sampler goes on."""
    sampler = make(grid_domain(5, 4, 3))
    queue, state, asked = (7, 30, 7, 2, 11, 0), sampler.start(_SEED), list[Trial]()
    for size in (2, 1, 6, 3):
        again = sampler.ask_batch(state, size, first=queue)
        assert sampler.ask_batch(state, size, first=queue) == again, "the same ask brought other trials"
        state, trials = again
        asked += trials
        for trial in trials:
            state = sampler.tell(state, trial.id, true_value(sampler.domain, trial.point))
    points = [trial.point for trial in asked]
    assert points[:5] == [7, 30, 2, 11, 0], "the points that were given did not come first, in their order"
    assert len({*points}) == len(points) > 5, "the sampler did not go on after the points that were given"


def check_objectives(make: MakeSampler) -> None:
    """Several objectives are taken."""
    sampler = make(grid_domain(5, 4, 3))
    state = sampler.start(_SEED)
    while len(state.trials) < 36:
        state, trials = sampler.ask_batch(state, 2)
        for trial in trials:
            values = (true_value(sampler.domain, trial.point), -float(sampler.domain.costs[trial.point]))
            state = sampler.tell(state, trial.id, values)
    assert len(state.told) == 36


def _tell_all(sampler: Sampler, state: StudyState, trials: Sequence[Trial]) -> StudyState:
    for trial in trials:
        state = sampler.tell(state, trial.id, true_value(sampler.domain, trial.point))
    return state


SAMPLER_CHECKS: Final[tuple[Callable[[MakeSampler], None], ...]] = (
    check_batches,
    check_exhaustion,
    check_objectives,
    check_order,
    check_pending,
    check_queue,
    check_resume,
    check_seeds,
)
