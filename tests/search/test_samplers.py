"""Every sampler keeps the contract, and those that learn find the best sooner than chance."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest

from db.errors import ConfigError, UserError
from search import Domain, Sampler, StudyState, make_sampler, sampler_names
from search.samplers._nsga2 import Nsga2
from search.samplers._random import Random
from search.testing import SAMPLER_CHECKS, MakeSampler, grid_domain, true_value

NAMES = ("exhaustive", "gp", "greedy", "itas", "nsga2", "random", "tpe")


def test_all_samplers_are_bound_here() -> None:
    assert set(NAMES) <= set(sampler_names())


@pytest.mark.parametrize("check", SAMPLER_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str, check: Callable[[MakeSampler], None]) -> None:
    check(lambda domain: make_sampler(name, domain))


class Stuck(Random):
    """Proposes one point over and over."""

    name = "stuck"

    def propose(self, state: StudyState, n: int, *rest: object) -> list[int]:
        return [0] * n


def test_the_contract_bites() -> None:
    with pytest.raises(ValueError, match="'stuck' proposed a point twice"):
        SAMPLER_CHECKS[0](Stuck)


def test_third_party_sampler_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = EntryPoint("mine", "tests.search.test_samplers:Mine", "colonnade.samplers")
    wrong = EntryPoint("wrong", "json:dumps", "colonnade.samplers")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: EntryPoints((mine, wrong)))
    assert {"mine", "random"} <= set(sampler_names())
    for check in SAMPLER_CHECKS:
        check(lambda domain: make_sampler("mine", domain))
    with pytest.raises(ConfigError, match="'wrong' is no subclass"):
        make_sampler("wrong", grid_domain(2, 2))


class Mine(Random):
    """A sampler of another package."""

    name = "mine"


def test_unknown_names_and_options() -> None:
    with pytest.raises(UserError, match=r"There is no sampler 'rnadom'\. Did you mean 'random'"):
        make_sampler("rnadom", grid_domain(2, 2))
    with pytest.raises(UserError, match="does not take these options: speed"):
        make_sampler("gp", grid_domain(2, 2), speed=3)


@pytest.mark.parametrize(("name", "option"), [("gp", "candidates"), ("itas", "starts"), ("nsga2", "population")])
def test_counts_may_be_written_as_floats(name: str, option: str) -> None:
    """As a job keeps them."""
    domain = grid_domain(5, 4, 3)
    first, second = (make_sampler(name, domain, **{option: count}) for count in (8, 8.0))
    states = [sampler.start(1) for sampler in (first, second)]
    for _ in range(20):
        for place, sampler in enumerate((first, second)):
            states[place], (trial,) = sampler.ask_batch(states[place], 1)
            states[place] = sampler.tell(states[place], trial.id, true_value(domain, trial.point))
    assert states[0] == states[1]


@pytest.mark.parametrize("count", [0, -1, 2.5, float("nan")])
@pytest.mark.parametrize(
    ("name", "option"),
    [("gp", "starts"), ("gp", "candidates"), ("itas", "starts"), ("nsga2", "population"), ("tpe", "starts")],
)
def test_refuses_counts_that_are_none(name: str, option: str, count: float) -> None:
    with pytest.raises(UserError, match=f"option '{option}' is a whole number from 1 up, not {count}"):
        make_sampler(name, grid_domain(2, 2), **{option: count})


def trials_until_best(name: str, domain: Domain, seed: int) -> int:
    sampler = make_sampler(name, domain, **({"population": 8} if name == "nsga2" else {}))
    best = max(range(len(domain)), key=lambda point: true_value(domain, point))
    state = sampler.start(seed)
    while best not in state.points:
        state, trials = sampler.ask_batch(state, 1)
        for trial in trials:
            state = sampler.tell(state, trial.id, true_value(domain, trial.point))
    return len(state.trials)


@pytest.mark.parametrize("name", ["gp", "greedy", "itas", "nsga2", "tpe"])
def test_learners_find_the_best_sooner_than_chance(name: str) -> None:
    domain = grid_domain(7, 6, 5)
    needed = [trials_until_best(name, domain, seed) for seed in range(4)]
    assert np.mean(needed) < 0.35 * len(domain)


def test_gp_per_cost_prefers_cheap_points() -> None:
    domain = grid_domain(6, 5, 5)
    costs = np.where(np.arange(len(domain)) % 2, 100.0, 1.0)
    plain, saving = make_sampler("gp", domain, starts=5), make_sampler("gp", domain, starts=5, per_cost=True)
    state, chosen = plain.start(3), list[tuple[float, float]]()
    for _ in range(25):
        asked, (trial,) = plain.ask_batch(state, 1, costs=costs)
        cheap = saving.ask_batch(state, 1, costs=costs).trials[0]
        chosen.append((costs[cheap.point], costs[trial.point]))
        state = plain.tell(asked, trial.id, true_value(domain, trial.point))
    # Whatever has the most gain per cost costs no more than what has the most gain.
    assert all(cheap <= other for cheap, other in chosen)
    assert any(cheap < other for cheap, other in chosen)


def test_gp_takes_a_share_of_a_large_domain() -> None:
    domain = grid_domain(12, 12, 12)
    sampler = make_sampler("gp", domain, candidates=200)
    state = sampler.start(0)
    for _ in range(26):
        state, trials = sampler.ask_batch(state, 9)
        for trial in trials:
            state = sampler.tell(state, trial.id, true_value(domain, trial.point), variance=1e-6)
    values = [true_value(domain, point) for point in range(len(domain))]
    found = max(values[point] for point in state.points)
    assert found >= float(np.quantile(values, 0.999))


def test_itas_ranks_first_then_draws() -> None:
    domain = grid_domain(9, 6, 5)
    sampler = make_sampler("itas", domain, starts=4)
    _, trials = sampler.ask_batch(sampler.start(5), 7)
    assert [trial.point for trial in trials[:3]] == list(domain.singles["role"])
    assert len(trials) == 7


def test_itas_ranks_after_a_queue_too() -> None:
    domain = grid_domain(9, 6, 5)
    sampler = make_sampler("itas", domain, starts=4)
    queue = tuple(range(50, 60))
    state, trials = sampler.ask_batch(sampler.start(5), 10, first=queue)
    for trial in trials:
        state = sampler.tell(state, trial.id, true_value(domain, trial.point))
    _, trials = sampler.ask_batch(state, 3, first=queue)
    assert tuple(trial.point for trial in trials) == domain.singles["role"]


def test_nsga2_keeps_the_front() -> None:
    domain = grid_domain(6, 5, 4)
    sampler = Nsga2(domain, population=8)
    state = sampler.start(1)
    while len(state.trials) < 90:
        state, trials = sampler.ask_batch(state, 3)
        for trial in trials:
            row = domain.features[trial.point]
            state = sampler.tell(state, trial.id, (float(row[0]), float(1 - row[0] - 0.1 * row[1] - 0.1 * row[2])))
    firsts = {
        round(state.told[trial.id].values[0], 3) for trial in state.trials if domain.features[trial.point][1] == 0
    }
    assert len(firsts) >= 5


class TestAsk:
    def test_a_batch_has_at_least_one(self) -> None:
        sampler = make_sampler("random", grid_domain(2, 2))
        with pytest.raises(ValueError, match="at least one"):
            sampler.ask_batch(sampler.start(0), 0)

    def test_what_comes_first_is_in_the_domain(self) -> None:
        sampler = make_sampler("random", grid_domain(2, 2))
        for point in (-1, len(sampler.domain)):
            with pytest.raises(ValueError, match="not all among the 3"):
                sampler.ask_batch(sampler.start(0), 1, first=(point,))

    def test_a_state_belongs_to_its_domain(self) -> None:
        sampler: Sampler = make_sampler("random", grid_domain(2, 2))
        with pytest.raises(ValueError, match="another domain"):
            sampler.ask_batch(make_sampler("random", grid_domain(2, 3)).start(0), 1)


class TestTell:
    def asked(self) -> StudyState:
        return StudyState.begin(grid_domain(3, 3), 0).asked([4, 2])[0]

    def test_more_items_stand_in_the_place_of_fewer_in_any_order(self) -> None:
        few, many = {"values": 0.5, "items": 10}, {"values": 0.6, "items": 30}
        state = self.asked()
        one = state.tell(0, 0.5, items=10).tell(0, 0.6, items=30)
        assert one == state.tell(0, 0.6, items=30).tell(0, 0.5, items=10)
        assert one.told[0].values == (many["values"],)
        assert few["items"] < one.told[0].items

    @pytest.mark.parametrize(
        ("trial", "values", "says"),
        [(2, 0.1, "no trial 2"), (0, float("nan"), "finite"), (1, (0.1, 0.2), "another number"), (0, 0.4, "was told")],
    )
    def test_refuses(self, trial: int, values: float | tuple[float, ...], says: str) -> None:
        state = self.asked().tell(0, 0.5)
        with pytest.raises(ValueError, match=says):
            state.tell(trial, values)

    def test_a_changed_space_is_refused(self) -> None:
        with pytest.raises(UserError, match="another space, set of models or caps"):
            StudyState.resume(self.asked().data(), grid_domain(3, 4))
        with pytest.raises(UserError, match="malformed"):
            StudyState.resume({**self.asked().data(), "seed": "x"}, grid_domain(3, 3))


class TestDomain:
    def test_refuses_what_does_not_fit(self) -> None:
        good = grid_domain(2, 2)
        with pytest.raises(ValueError, match="at least one point"):
            Domain(axes=(), levels=good.levels[:0], features=good.features[:0], costs=good.costs[:0], keys=[])
        with pytest.raises(ValueError, match="a row for each"):
            Domain(axes=("a",), levels=good.levels, features=good.features, costs=good.costs, keys=good.keys)
        with pytest.raises(ValueError, match="finite and above 0"):
            Domain(axes=good.axes, levels=good.levels, features=good.features, costs=good.costs * 0, keys=good.keys)
        with pytest.raises(ValueError, match="same levels"):
            Domain(axes=good.axes, levels=good.levels * 0, features=good.features, costs=good.costs, keys=good.keys)

    def test_nearest_is_none_where_nothing_is_allowed(self) -> None:
        domain = grid_domain(2, 2)
        assert domain.nearest(domain.levels[0], np.zeros(len(domain), dtype=np.bool_)) is None
