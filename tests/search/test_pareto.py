"""The laws of fronts and volumes."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search.pareto import crowding, dominates, fronts, hypervolume, pareto_front, ranked, scalarised

Values = list[tuple[int, int]]
values = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=25)


@given(values)
def test_a_front_is_what_nothing_dominates(points: Values) -> None:
    front = {*pareto_front(points)}
    for place, point in enumerate(points):
        assert (place in front) == (not any(dominates(other, point) for other in points))


@given(values)
def test_fronts_part_the_points_and_each_is_dominated_by_the_one_before(points: Values) -> None:
    found = fronts(points)
    assert sorted(place for front in found for place in front) == list(range(len(points)))
    for before, front in pairwise(found):
        assert all(any(dominates(points[b], points[place]) for b in before) for place in front)


@given(values)
def test_ranks_go_front_by_front_with_the_ends_first(points: Values) -> None:
    order = ranked(points)
    assert [*map(sorted, fronts(points))] == [
        sorted(order[sum(map(len, fronts(points)[:n])) :][: len(front)]) for n, front in enumerate(fronts(points))
    ]
    first = [points[place] for place in pareto_front(points)]
    assert points[order[0]] in (min(first), max(first))
    single = [(value,) for value, _ in points]
    assert [single[place] for place in ranked(single)] == sorted(single, reverse=True)


@given(values)
def test_hypervolume_counts_the_cells_that_are_dominated(points: Values) -> None:
    cells = sum(any(a > x and b > y for a, b in points) for x, y in product(range(8), range(8)))
    assert hypervolume(points, (0, 0)) == cells


@given(values, st.randoms(use_true_random=False))
def test_the_order_of_points_does_not_matter(points: Values, random: np.random.Generator) -> None:
    mixed = list(points)
    random.shuffle(mixed)
    assert sorted(points[i] for i in pareto_front(points)) == sorted(mixed[i] for i in pareto_front(mixed))


def test_nothing_has_no_front() -> None:
    assert pareto_front([]) == ()
    assert fronts([]) == ()
    assert hypervolume([(0, 5)], (1, 1)) == 0


def test_ends_of_a_front_are_the_most_lonely() -> None:
    assert crowding([(0, 4), (1, 3), (3, 1), (4, 0)]) == (math.inf, 1.5, 1.5, math.inf)
    assert crowding([(1,), (1,), (1,)])[1] == 0


@given(values, st.integers(0, 100))
def test_the_best_by_random_weights_is_on_the_front(points: Values, seed: int) -> None:
    best = int(scalarised(points, np.random.default_rng(seed)).argmax())
    assert best in pareto_front(points)
    single = [(first,) for first, _ in points]
    assert list(scalarised(single, np.random.default_rng(seed))) == [first for (first,) in single]
