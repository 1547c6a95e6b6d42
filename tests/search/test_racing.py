"""The race: what grows, what is dropped and with which error, and what is said where nothing differs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from db.errors import UserError
from search import Domain, Job, Race, RaceState, conclude, default_race, make_sampler, rungs_for
from search.dropping import beaten, level_of_one_test
from search.pareto import hypervolume, pareto_front
from search.testing import grid_domain

ITEMS = 240


class World(NamedTuple):
    """Every point's score on every item."""

    domain: Domain
    scores: NDArray[np.float64]


def world(seed: int, spread: float, *sizes: int, items: int = ITEMS) -> World:
    """Points whose chances differ by as much as `spread`, on items of common difficulty."""
    domain = grid_domain(*sizes)
    rng = np.random.default_rng(seed)
    quality = spread * domain.features.mean(axis=1)
    hardness = rng.normal(size=items)
    chances = 1 / (1 + np.exp(-(0.4 + 4 * (quality - quality.mean()))[:, None] - hardness[None, :]))
    return World(domain, (rng.random(chances.shape) < chances).astype(float))


def run(race: Race, scores: NDArray[np.float64], seed: int, *, budget: int, batch: int = 4) -> RaceState:
    state = race.start(seed)
    while state.items < budget:
        state, jobs = race.ask_batch(state, batch)
        if not jobs:
            break
        for job in reversed(jobs):
            state = race.tell(state, job, list(scores[job.point, job.first : job.last]))
    return state


def test_rungs_grow_to_all_items() -> None:
    assert rungs_for(1000, first=30, eta=3) == (37, 111, 333, 1000)
    assert rungs_for(5) == (5,)
    with pytest.raises(ValueError, match="growth"):
        rungs_for(10, eta=1)
    with pytest.raises(UserError, match="growing numbers"):
        Race(make_sampler("random", grid_domain(2, 2)), (10, 10))


def test_a_race_finds_a_good_point_for_a_fraction_of_the_items() -> None:
    found = []
    for seed in range(4):
        domain, scores = world(seed, 1.0, 6, 5, 4)
        race = default_race(domain, ITEMS)
        state = run(race, scores, seed, budget=len(domain) * ITEMS // 8)
        leader = race.leader(state)
        assert leader is not None
        means = scores.mean(axis=1)
        found.append((means[state.study.trials[leader].point] - means.mean()) / (means.max() - means.mean()))
    assert np.mean(found) > 0.85


def test_jobs_cover_rungs_without_a_gap_and_only_survivors_grow() -> None:
    domain, scores = world(0, 2.0, 5, 4)
    race = Race(make_sampler("random", domain), (30, 80, 240), eta=2)
    state, seen = race.start(0), list[Job]()
    while True:
        out = race.dropped(state)
        state, jobs = race.ask_batch(state, 3)
        if not jobs:
            break
        assert not {job.trial for job in jobs if job.rung} & out
        seen += jobs
        for job in jobs:
            state = race.tell(state, job, list(scores[job.point, job.first : job.last]))
    ends: dict[int, int] = {}
    for job in seen:
        assert job.first == ends.get(job.trial, 0)
        ends[job.trial] = job.last
    assert len(ends) == len(domain)
    alive = set(ends) - race.dropped(state)
    assert all(ends[trial] == 240 for trial in alive)
    assert race.dropped(state)
    assert race.standing(state)[0] == race.leader(state)
    assert state.items == sum(ends.values())
    assert race.observations(state)[race.standing(state)[0]].items == 240


def test_tells_in_any_order_lead_to_the_same_state() -> None:
    domain, scores = world(1, 1.0, 5, 4)
    race = default_race(domain, ITEMS)
    state = run(race, scores, 0, budget=2000)
    state, jobs = race.ask_batch(state, 5)
    assert race.pending(state) == tuple(sorted(jobs))
    ends = []
    for order in (jobs, jobs[::-1], (*jobs, *jobs)):
        end = state
        for job in order:
            end = race.tell(end, job, list(scores[job.point, job.first : job.last]))
        ends.append((end, race.ask_batch(end, 3).jobs))
    assert ends[0] == ends[1] == ends[2]


def test_given_points_are_the_first_trials() -> None:
    race = Race(make_sampler("random", grid_domain(5, 4)), (2, 4), eta=2)
    state, jobs = race.ask_batch(race.start(0), 2, first=(9, 3, 5))
    assert [job.point for job in jobs] == [9, 3]
    for job in jobs:
        state = race.tell(state, job, [1, 1])
    _, jobs = race.ask_batch(state, 3, first=(9, 3, 5))
    # A promotion goes before what is new.
    assert [(job.point, job.rung) for job in jobs[:2]] == [(9, 1), (5, 0)]
    assert jobs[2].point not in (9, 3, 5)


def test_refuses_scores_that_do_not_fit() -> None:
    race = Race(make_sampler("random", grid_domain(2, 2)), (2, 4))
    assert race.leader(race.start(0)) is None
    state, (job, *_) = race.ask_batch(race.start(0), 1)
    with pytest.raises(ValueError, match="never asked"):
        race.tell(state, job._replace(rung=1), [1, 1])
    with pytest.raises(ValueError, match="has 2 items"):
        race.tell(state, job, [1])
    state = race.tell(state, job, [1, 0])
    with pytest.raises(ValueError, match="other scores"):
        race.tell(state, job, [1, 1])


def test_no_more_new_trials_than_wanted_and_then_finals() -> None:
    domain, scores = world(3, 1.0, 5, 4)
    race = Race(make_sampler("random", domain), (10, 30, 240), eta=3)
    state = race.start(0)
    while True:
        state, jobs = race.ask_batch(state, 4, new=6 - len(state.study.trials))
        if not jobs:
            state, jobs = race.ask_finals(state, 2, 4)
            assert race.ask_finals(state, 2, 4).jobs == ()
        if not jobs:
            break
        for job in jobs:
            state = race.tell(state, job, list(scores[job.point, job.first : job.last]))
    assert len(state.study.trials) == 6
    finals = {trial for trial, rung in state.scores if rung == 2}
    assert finals >= {*race.standing(state)[:2]}
    assert len(finals) <= 3


class TestObjectives:
    """Several objectives, and one that is no mean over items."""

    RUNGS = (20, 60, ITEMS)

    def front(self, sampler: str) -> tuple[Race, RaceState, World, NDArray[np.float64]]:
        here = world(2, 1.0, 5, 4, 4)
        costs = here.domain.costs / here.domain.costs.max()
        race = Race(make_sampler(sampler, here.domain), self.RUNGS)
        state = race.start(1)
        while state.items < 0.4 * here.scores.size:
            state, jobs = race.ask_batch(state, 4)
            for job in reversed(jobs):
                block = here.scores[job.point, job.first : job.last]
                state = race.tell(state, job, list(block), (block.mean(), -costs[job.point]))
        return race, state, here, costs

    @pytest.mark.parametrize("sampler", ["gp", "nsga2"])
    def test_the_front_is_found_for_a_fraction_of_the_items(self, sampler: str) -> None:
        race, state, here, costs = self.front(sampler)
        assert race.dropped(state) == frozenset()
        top = [trial for trial, rung in state.scores if rung == 2]
        every = list(zip(here.scores.mean(axis=1), -costs, strict=True))
        found = [every[state.study.trials[trial].point] for trial in top]
        assert hypervolume(found, (0, -1)) > 0.95 * hypervolume(every, (0, -1))
        standing = race.standing(state)
        front = {top[place] for place in pareto_front(found)}
        assert {*standing[: len(front)]} == front
        assert race.leader(state) == standing[0]
        assert every[state.study.trials[standing[0]].point][0] == max(value for value, _ in found)

    def test_what_is_told_are_means_over_the_rungs(self) -> None:
        race, state, here, costs = self.front("random")
        told = race.observations(state)
        for trial, observation in told.items():
            point = state.study.trials[trial].point
            assert observation.values[1] == pytest.approx(-costs[point])
            if observation.items == ITEMS:
                assert observation.values[0] == pytest.approx(here.scores[point].mean())

    def test_rows_in_any_order_make_the_state_again(self) -> None:
        race, state, _, _ = self.front("random")
        again = RaceState(
            study=state.study,
            rungs=state.rungs,
            asked=dict(reversed([*state.asked.items()])),
            scores=dict(reversed([*state.scores.items()])),
            values=dict(reversed([*state.values.items()])),
        )
        assert again == state
        assert race.standing(again) == race.standing(state)
        assert race.ask_batch(again, 3) == race.ask_batch(state, 3)

    def test_a_value_stands_in_the_place_of_the_mean_in_one_rung(self) -> None:
        race = Race(make_sampler("random", grid_domain(3, 3)), (30,))
        state, jobs = race.ask_batch(race.start(0), 3)
        for job, worth in zip(jobs, (-3.0, -1.0, -2.0), strict=True):
            state = race.tell(state, job, [float(worth == -2.0)] * 30, (worth,))
        assert race.standing(state) == (1, 2, 0)
        assert race.dropped(state) == frozenset()
        assert race.observations(state)[0] == ((-3.0,), 30, 0.0)

    def test_refuses_values_that_do_not_fit(self) -> None:
        race = Race(make_sampler("random", grid_domain(3, 3)), (2, 4))
        state, (first, second) = race.ask_batch(race.start(0), 2)
        with pytest.raises(UserError, match="cannot be raced by rungs"):
            race.tell(state, first, [1, 0], (-0.7,))
        for bad in ((), (0.5, float("inf"))):
            with pytest.raises(ValueError, match="all finite"):
                race.tell(state, first, [1, 0], bad)
        state = race.tell(state, first, [1, 0], (0.5, -1))
        assert race.tell(state, first, [1, 0], (0.5, -1)) == state
        with pytest.raises(ValueError, match="other scores"):
            race.tell(state, first, [1, 0], (0.5, -2))
        with pytest.raises(ValueError, match="as many values as other trials"):
            race.tell(state, second, [1, 0])


def test_nothing_is_dropped_by_scores_without_a_bound() -> None:
    """Seconds: whoever is the best in the long run is behind as long as the others have had no slow item yet."""
    domain = grid_domain(3, 3)
    scores = np.full((len(domain), 200), -1.0)
    scores[0] = -3.0
    for span, dropped in ((1.0, {0}), (None, set())):
        race = Race(make_sampler("exhaustive", domain), (200,), span=span)
        state = run(race, scores, 0, budget=scores.size)
        assert {state.study.trials[trial].point for trial in race.dropped(state)} == dropped


class TestDropping:
    def test_level_is_split_over_all_tests(self) -> None:
        assert level_of_one_test(0.05, 11, 5) == pytest.approx(0.001)
        with pytest.raises(ValueError, match="between 0 and 1"):
            level_of_one_test(0, 3, 2)

    def test_the_exact_test_at_its_edge(self) -> None:
        # Ten unequal pairs that all go one way have a chance of 1/1024.
        scores = np.zeros((2, 30))
        scores[1, :10] = 1
        assert list(beaten(scores, 1 / 1000)) == [True, False]
        assert list(beaten(scores, 1 / 1025)) == [False, False]
        assert list(beaten(scores[:1], 0.1)) == [False]

    def test_scores_between_0_and_1(self) -> None:
        rng = np.random.default_rng(0)
        scores = np.stack([rng.uniform(0.0, 0.5, 400), rng.uniform(0.4, 0.9, 400), rng.uniform(0.4, 0.9, 400)])
        assert list(beaten(scores, 1e-4)) == [True, False, False]
        assert not beaten(scores[:, :1], 1e-4).any()
        assert not beaten(scores, 1e-4, span=100).any()

    @pytest.mark.parametrize("binary", [True, False])
    def test_the_best_is_dropped_no_more_often_than_stated(self, binary: bool) -> None:
        """All equal in truth: each row is a best one, and losing the first is the error that alpha bounds."""
        rng, lost, runs = np.random.default_rng(5), 0, 400
        for _ in range(runs):
            scores = rng.random((12, 160))
            scores = (scores < 0.6).astype(float) if binary else scores
            level = level_of_one_test(0.2, 12, 2)
            lost += bool(beaten(scores[:, :60], level)[0] or beaten(scores, level)[0])
        assert lost <= 0.2 * runs + 2 * np.sqrt(0.2 * 0.8 * runs)


class TestNullSpace:
    """All points are equal in truth: the report must cover the truth, and find nothing."""

    def test_intervals_cover_and_no_difference_is_found(self) -> None:
        runs, held, truth = 200, 300, 0.6
        covered = nothing = 0
        for seed in range(runs):
            rng = np.random.default_rng((seed, 99))
            domain = grid_domain(4, 3)
            scores = (rng.random((len(domain), 90)) < truth).astype(float)
            race = Race(make_sampler("random", domain), (10, 30, 90))
            leader = race.leader(run(race, scores, seed, budget=500))
            assert leader is not None
            fresh = (rng.random((4, held)) < truth).astype(float)
            baselines = {name: list(row) for name, row in zip(("single", "vote", "runner-up"), fresh[1:], strict=True)}
            said = conclude("winner", list(fresh[0]), baselines)
            covered += said.interval.low <= truth <= said.interval.high
            nothing += not said.difference_found and "no difference" in said.sentence
        assert covered >= 0.9 * runs
        assert nothing >= 0.9 * runs


def test_a_real_difference_is_found_and_named() -> None:
    rng = np.random.default_rng(1)
    weak, strong = (rng.random(300) < 0.5).astype(float), (rng.random(300) < 0.8).astype(float)
    said = conclude("vote", list(strong), {"single": list(weak), "twin": list(strong)})
    assert said.difference_found
    assert said.sentence.endswith("better than single; no difference from twin.")
    assert conclude("vote", list(strong), {"single": list(weak)}).sentence.endswith("better than single.")
    beaten = conclude("vote", list(weak), {"judge": list(strong), "twin": list(weak)})
    assert beaten.difference_found
    assert beaten.sentence.endswith("; worse than judge; no difference from twin.")
    assert conclude("vote", list(weak), {"judge": list(strong)}).against[0][3:] == (False, True)
    parts = conclude("judge", [0.25, 0.5, 0.75], {})
    assert parts.interval.low <= 0.5 <= parts.interval.high
    assert parts.sentence.endswith("no difference from anything was found.")
    with pytest.raises(ValueError, match="held-out items"):
        conclude("nobody", [], {})
