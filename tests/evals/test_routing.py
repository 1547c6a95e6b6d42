"""Routing curves against enumeration and closed forms; routers that learn what there is to learn, and no more."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import ConfigError, DataError
from evals.routing import Outcome, oracle_scores, routing_curve, train_router
from nodes.routing_model import RoutingModel, hashed_words

HARD = ("integral", "theorem", "matrix", "prime")
EASY = ("apple", "colour", "river", "bread")


def questions(n: int, seed: int) -> list[Outcome]:
    """Draw questions whose words say how much the strong model is worth; the weak one fails most hard ones."""
    chance = random.Random(seed)
    drawn = []
    for _ in range(n):
        hard = chance.random() < 0.5
        words = chance.choices(HARD if hard else EASY, k=3) + chance.choices(("the", "of", "what", "is"), k=6)
        chance.shuffle(words)
        drawn.append(
            Outcome(" ".join(words), chance.random() < (0.2 if hard else 0.9), chance.random() < (0.8 if hard else 0.9))
        )
    return drawn


@st.composite
def scored(draw: st.DrawFn) -> tuple[list[float], list[Outcome]]:
    rows = draw(
        st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=1, max_size=6).filter(
            lambda rows: sum(strong for *_, strong in rows) != sum(weak for _, weak, _ in rows)
        )
    )
    return [float(score) for score, *_ in rows], [Outcome("", weak, strong) for _, weak, strong in rows]


@given(scored())
def test_a_curve_is_the_mean_over_all_orders_of_equal_scores(drawn: tuple[list[float], list[Outcome]]) -> None:
    scores, outcomes = drawn
    curves = []
    for order in itertools.permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            right = [sum(outcome.weak for outcome in outcomes)]
            for place in order:
                right.append(right[-1] + outcomes[place].strong - outcomes[place].weak)
            curves.append([count / len(outcomes) for count in right])
    mean = np.asarray(curves).mean(axis=0)
    found = routing_curve(scores, outcomes, resamples=0)
    shares = [place / len(outcomes) for place in range(len(outcomes) + 1)]
    assert [found.accuracy_at(share) for share in shares] == pytest.approx(list(mean), abs=1e-9)
    assert found.area == pytest.approx(float(np.trapezoid(mean, shares)), abs=1e-9)
    assert found.apgr == pytest.approx((found.area - mean[0]) / (mean[-1] - mean[0]), abs=1e-9)


@given(scored(), st.randoms(use_true_random=False))
def test_only_the_order_of_scores_counts(drawn: tuple[list[float], list[Outcome]], chance: random.Random) -> None:
    scores, outcomes = drawn
    first = routing_curve(scores, outcomes, resamples=0)
    places = list(range(len(scores)))
    chance.shuffle(places)
    mixed = routing_curve([3 * scores[p] - 7 for p in places], [outcomes[p] for p in places], resamples=0)
    assert mixed.accuracies == pytest.approx(first.accuracies)
    assert mixed.apgr == pytest.approx(first.apgr)


@given(scored())
def test_no_router_beats_the_oracle_and_lots_recover_half(drawn: tuple[list[float], list[Outcome]]) -> None:
    scores, outcomes = drawn
    oracle = routing_curve(oracle_scores(outcomes), outcomes, resamples=0)
    assert routing_curve(scores, outcomes, resamples=0).area <= oracle.area + 1e-12
    lots = routing_curve([0.0] * len(outcomes), outcomes, resamples=0)
    assert lots.apgr == pytest.approx(0.5)
    assert lots.area == pytest.approx((lots.accuracies[0] + lots.accuracies[-1]) / 2)


def test_a_curve_counted_by_hand() -> None:
    outcomes = [Outcome("a", 0, 1), Outcome("b", 1, 1), Outcome("c", 1, 0), Outcome("d", 0, 1)]
    curve = routing_curve([4, 3, 2, 1], outcomes)
    assert curve.shares == (0, 0.25, 0.5, 0.75, 1)
    assert curve.accuracies == (0.5, 0.75, 0.75, 0.5, 0.75)
    assert curve.area == pytest.approx(0.65625)
    assert curve.apgr == pytest.approx(0.625)
    assert curve.accuracy_at(0.125) == pytest.approx(0.625)
    assert curve.share_for(0.5) == pytest.approx(0.125)
    assert (curve.share_for(1.0), curve.share_for(1.1)) == (0.25, None)
    # Plain numbers, which print and compare as such.
    assert {type(value) for value in (*curve.shares, *curve.accuracies, curve.share_for(0.5))} == {float}


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    rng = np.random.default_rng(5)
    for trial in range(60):
        # The score is uniform, and the chance that only the strong model is right equals it: APGR is then 2/3.
        scores = rng.random(400)
        outcomes = [Outcome("", 0, float(rng.random() < score)) for score in scores]
        low, high = routing_curve(list(scores), outcomes, resamples=150, seed=trial).apgr_interval
        held += low <= 2 / 3 <= high
    assert held / 60 == pytest.approx(0.95, abs=0.08)


def test_where_the_models_are_equal_there_is_no_gap_to_recover() -> None:
    curve = routing_curve([1, 2], [Outcome("a", 1, 0), Outcome("b", 0, 1)], resamples=0)
    assert math.isnan(curve.apgr)
    assert curve.area == pytest.approx(0.75)
    with pytest.raises(ValueError, match="1 and 0"):
        routing_curve([1], [])


def test_a_trained_router_finds_the_hard_questions_again(tmp_path: Path) -> None:
    trained = train_router(questions(400, 1), places=256, weak="mini", strong="maxi")
    fresh = questions(600, 2)
    scores = [trained.model.predict(outcome.question) for outcome in fresh]
    curve, oracle = routing_curve(scores, fresh), routing_curve(oracle_scores(fresh), fresh)
    assert curve.apgr_interval.low > 0.6
    assert curve.apgr < oracle.apgr
    # What cross-validation promised is what new questions give, within the noise of both.
    assert trained.apgr == pytest.approx(curve.apgr, abs=0.12)
    assert trained.model.predict("theorem of the prime matrix") > 0.65 > trained.model.predict("what is the apple")
    assert trained.model.gain("theorem of the prime matrix") == pytest.approx(
        2 * trained.model.predict("theorem of the prime matrix") - 1
    )
    for share in (0.0, 0.25, 0.5, 1.0):
        sent = sum(score >= trained.model.threshold(share) for score in scores) / len(scores)
        assert sent == pytest.approx(share, abs=0.1)


def test_a_router_is_chosen_as_well_where_the_strong_model_is_the_worse_one() -> None:
    outcomes = [one._replace(weak=one.strong, strong=one.weak) for one in questions(300, 1)]
    trained = train_router(outcomes, places=1024)
    # The gap is negative, so that the greatest area is the least APGR.
    alone = [train_router(outcomes, places=1024, strengths=(strength,)).apgr for strength in (0.1, 0.3, 1.0, 3.0)]
    assert trained.apgr == pytest.approx(min(alone), abs=0.001)
    assert max(alone) > min(alone) + 0.04


def test_a_router_learns_nothing_where_words_say_nothing() -> None:
    chance = random.Random(3)
    blind = [o._replace(question=" ".join(chance.choices(HARD + EASY, k=6))) for o in questions(1_650, 4)]
    trained = train_router(blind[:150], places=256)
    scores = [trained.model.predict(outcome.question) for outcome in blind[150:]]
    assert routing_curve(scores, blind[150:], resamples=0).apgr == pytest.approx(0.5, abs=0.08)


def test_a_saved_router_is_the_same(tmp_path: Path) -> None:
    model = train_router(questions(60, 5), places=64, weak="mini", strong="maxi").model
    model.save(tmp_path / "router.json")
    loaded = RoutingModel.load(tmp_path / "router.json")
    for outcome in questions(20, 6):
        assert loaded.predict(outcome.question) == model.predict(outcome.question)
    assert (loaded.weak, loaded.strong, loaded.trained_on) == ("mini", "maxi", 60)
    assert loaded.threshold(0.3) == model.threshold(0.3)
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "router.json").read_bytes()


def test_training_repeats() -> None:
    one, other = (train_router(questions(60, 5), places=64).model for _ in range(2))
    assert np.array_equal(one.weights, other.weights)
    assert one.quantiles == other.quantiles


def test_what_cannot_be_learned_from_is_refused() -> None:
    with pytest.raises(DataError, match="20 questions at least, not on 3"):
        train_router(questions(3, 1))
    with pytest.raises(DataError, match="nothing to learn"):
        train_router([Outcome("a", 1, 1)] * 30)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "not valid JSON"),
        ("[]", "no router's model"),
        ('{"form": "colonnade-router-1"}', "broken"),
        ('{"form": "colonnade-router-1", "weights": "?"}', "broken"),
    ],
)
def test_a_file_that_is_no_router_is_said_to_be_none(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "router.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        RoutingModel.load(path)


def test_a_router_without_weights_or_with_a_share_too_great_is_refused(tmp_path: Path) -> None:
    model = train_router(questions(60, 5), places=64).model
    with pytest.raises(ConfigError, match=r"not at 1\.5"):
        model.threshold(1.5)
    replace(model, weights=np.zeros(0, dtype=np.float32)).save(tmp_path / "router.json")
    with pytest.raises(DataError, match="lacks weights"):
        RoutingModel.load(tmp_path / "router.json")
    replace(model, weights=np.full(64, np.nan, dtype=np.float32)).save(tmp_path / "router.json")
    with pytest.raises(DataError, match="a weight is not finite"):
        RoutingModel.load(tmp_path / "router.json")


@given(st.text(max_size=200))
def test_any_text_is_hashed_to_length_one_and_predicted(text: str) -> None:
    places, values = hashed_words(text, 64)
    assert len(places) == len(set(places)) == len(values)
    assert not values or math.fsum(value * value for value in values) == pytest.approx(1)
    model = RoutingModel(
        weights=np.full(64, 1e3, dtype=np.float32),
        bias=0.0,
        length_weight=-2e4,
        length_mean=0.0,
        length_sd=1.0,
        quantiles=(0.0, 1.0),
    )
    assert 0 <= model.predict(text) <= 1


def test_the_places_of_words_are_the_same_everywhere() -> None:
    assert hashed_words("Solve 12 + x", 4096)[0] == [948, 4023, 3597, 1741, 1667, 24, 919, 1294, 3519]
