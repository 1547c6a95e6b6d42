"""Estimated rates of a verifier."""

from __future__ import annotations

import math
import random

import pytest

from evals.stats import wilson
from evals.verifier_rates import Judged, rates_by_kind, verifier_rates
from nodes.resample_cap import Rates, accuracy_limit


def test_the_shares_are_those_of_the_table() -> None:
    table = {(True, True): 40, (True, False): 10, (False, True): 20, (False, False): 30}
    found = verifier_rates(Judged(*cell) for cell, count in table.items() for _ in range(count))
    assert found.p_tp == (0.4, wilson(40, 100), 100)
    assert found.p_fp == (0.1, wilson(10, 100), 100)
    assert found.sensitivity == (40 / 60, wilson(40, 60), 60)
    assert found.false_positive_rate == (0.25, wilson(10, 40), 40)
    assert found.accuracy_limit == (0.8, wilson(40, 50), 50)
    assert accuracy_limit([found.rates]) == pytest.approx(0.8)


def test_nothing_to_count_is_not_a_number_and_knows_nothing() -> None:
    found = verifier_rates([Judged(False, True)])
    assert math.isnan(found.accuracy_limit.value)
    assert found.accuracy_limit.interval == (0, 1)
    with pytest.raises(ValueError, match="p_tp"):
        _ = verifier_rates([]).rates


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    lots = random.Random(3)
    held = 0
    for _ in range(400):
        draws = (lots.random() for _ in range(80))
        found = verifier_rates(Judged(lot < 0.4, lot < 0.3 or lot > 0.9) for lot in draws)
        held += found.p_tp.interval.low <= 0.3 <= found.p_tp.interval.high
    assert 0.92 <= held / 400 <= 0.98


def test_kinds_weigh_by_their_questions() -> None:
    easy = [("q1", Judged(True, True)), ("q1", Judged(False, False)), ("q2", Judged(True, True))]
    hard = [("q3", Judged(True, False)), ("q3", Judged(False, True))]
    found = rates_by_kind({"easy": easy, "hard": hard})
    assert found == (Rates(p_tp=2 / 3, p_fp=0, weight=2), Rates(p_tp=0, p_fp=0.5, weight=1))
    with pytest.raises(ValueError, match="'empty' has no responses"):
        rates_by_kind({"empty": []})
