"""Drawing: the distribution is the one asked for, the streams are independent and reproducible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from providers.embedded.sampling import draw, log_probabilities, stream_start, uniforms


def columns(rows: int, temperature: float, top_p: float) -> tuple[np.ndarray, np.ndarray]:
    return np.full(rows, temperature, np.float32), np.full(rows, top_p, np.float32)


def streams(rows: int, seed: int = 0) -> np.ndarray:
    return np.array([stream_start(seed + row) for row in range(rows)], np.uint64)


def test_uniforms_are_uniform_over_steps_and_over_neighbouring_seeds() -> None:
    steps = np.arange(20_000, dtype=np.uint64)
    along = uniforms(np.repeat(streams(1), 20_000), steps)
    across = uniforms(streams(20_000), np.zeros(20_000, np.uint64))
    assert kstest(along, "uniform").pvalue > 1e-3
    assert kstest(across, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(across[:-1], across[1:])[0, 1]) < 0.03


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_draws_follow_the_tempered_distribution(temperature: float) -> None:
    rows, logits = 20_000, np.array([1.0, 0.2, -0.5, -1.0, 0.9], np.float32)
    drawn = draw(
        np.tile(logits, (rows, 1)), *columns(rows, temperature, 1.0), uniforms(streams(rows), np.zeros(rows, np.uint64))
    )
    expected = np.exp(logits.astype(np.float64) / temperature)
    assert chisquare(np.bincount(drawn, minlength=5), rows * expected / expected.sum()).pvalue > 1e-3


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    rows, logits = 4_000, np.log(np.array([0.1, 0.5, 0.15, 0.25], np.float32))
    uniform = uniforms(streams(rows), np.zeros(rows, np.uint64))
    kept = {p: set(draw(np.tile(logits, (rows, 1)), *columns(rows, 1.0, p), uniform).tolist()) for p in (0.4, 0.7, 0.8)}
    assert kept == {0.4: {1}, 0.7: {1, 3}, 0.8: {1, 2, 3}}


def test_temperature_zero_takes_the_likeliest_beside_rows_that_sample() -> None:
    logits = np.array([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0]], np.float32)
    drawn = draw(logits, np.array([0.0, 50.0], np.float32), np.ones(2, np.float32), np.array([0.999, 0.999]))
    assert drawn.tolist() == [1, 2]


@settings(deadline=None)
@given(st.lists(st.floats(-60, 60, width=32), min_size=2, max_size=40), st.floats(0, 1, exclude_max=True))
def test_a_token_of_no_probability_is_never_drawn(values: list[float], uniform: float) -> None:
    logits = np.array([[*values, -np.inf]], np.float32)
    for u in (uniform, np.nextafter(1.0, 0.0)):
        assert draw(logits, *columns(1, 0.7, 1.0), np.array([u]))[0] < len(values)


@settings(deadline=None)
@given(st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=40))
def test_log_probabilities_sum_to_one_and_are_sorted(values: list[float]) -> None:
    logits = np.array(values, np.float32)
    result = log_probabilities(logits, 1, len(values))
    assert np.isclose(np.exp(result.top_values).sum(), 1.0)
    assert (np.diff(result.top_values) <= 0).all()
    assert result.chosen == result.top_values[result.top_tokens.tolist().index(1)]
    assert len(log_probabilities(logits, 0, 0).top_tokens) == 0
