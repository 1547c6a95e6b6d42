"""A trained router's predictions by the formula, and its thresholds; files and training are tested with `evals`."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import ConfigError
from nodes.routing_model import RoutingModel, hashed_words, log_length

PLACES = 64
MODEL = RoutingModel(
    weights=np.linspace(-1, 1, PLACES, dtype=np.float32),
    bias=0.3,
    length_weight=0.5,
    length_mean=2.0,
    length_sd=1.5,
    quantiles=(0.1, 0.2, 0.6, 0.9),
)


def test_a_prediction_is_the_logistic_of_the_weighted_sum() -> None:
    text = "Two cups"
    parts = ["two", "cups", "two cups"]
    places = [zlib.crc32(part.encode()) % PLACES for part in parts]
    assert len(set(places)) == 3
    total = 0.3 + 0.5 * (math.log1p(8) - 2) / 1.5
    total += sum(float(MODEL.weights[place]) for place in places) / math.sqrt(3)
    assert MODEL.predict(text) == pytest.approx(1 / (1 + math.exp(-total)))
    assert MODEL.gain(text) == pytest.approx(2 * MODEL.predict(text) - 1)


def test_a_count_weighs_one_and_its_logarithm() -> None:
    _, values = hashed_words("a a", 1_000_003)
    assert sorted(values) == pytest.approx([v / math.hypot(1, 1 + math.log(2)) for v in (1, 1 + math.log(2))])
    assert hashed_words("", 10) == ([], [])
    assert log_length("abc") == math.log(4)


def test_far_sums_overflow_nothing() -> None:
    for bias, expected in ((1e6, 1.0), (-1e6, 0.0)):
        model = RoutingModel(
            weights=MODEL.weights, bias=bias, length_weight=0, length_mean=0, length_sd=1, quantiles=(0, 1)
        )
        assert model.predict("x") == expected


@given(st.floats(0, 1))
def test_a_threshold_lies_between_the_quantiles_of_its_share(share: float) -> None:
    expected = float(np.interp(1 - share, [0, 1 / 3, 2 / 3, 1], MODEL.quantiles))
    assert MODEL.threshold(share) == pytest.approx(expected)


def test_a_share_outside_0_1_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lies between 0 and 1, not at 1\.5"):
        MODEL.threshold(1.5)
