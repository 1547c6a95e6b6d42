"""Votes weighed by rank (Borda) and by path probability (RPC), and the mixture that prunes paths."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import optimize, stats

from nodes import weibull
from nodes.base import Candidate, State
from nodes.borda_vote import BordaVote, mean_ranks
from nodes.registry import get
from nodes.rpc_vote import RPCVote
from nodes.testing import Tried, try_out
from nodes.weibull import Mixture, fit_mixture


def path(number: int, answer: object, *, p: float | None = None, score: float | None = None) -> Candidate:
    candidate = Candidate(
        id=f"d:{number}",
        text=f"Way {number}. Answer: {answer}",
        node="d",
        model="m",
        mean_logprob=None if p is None else math.log(p),
    )
    return candidate if score is None else candidate.scored("s", score)


def vote(name: str, *candidates: Candidate, **more: object) -> Tried:
    return try_out(get(name).model_validate(more), State(question="Q", candidates=candidates), answer_kind="numeric")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9))
@settings(max_examples=30)
def test_mean_ranks_are_those_of_scipy(scores: list[int]) -> None:
    keys = [(True, True, float(score)) for score in scores]
    assert mean_ranks(keys) == stats.rankdata([-score for score in scores], method="average").tolist()


def test_the_weights_are_those_of_the_paper() -> None:
    """N = 3: ranks 1, 2, 3 weigh 3^p, 2^p, 1^p."""
    paths = path(1, 1, score=-5), path(2, 2, score=-1), path(3, 1, score=-3)
    sharp, flat = vote("borda_vote", *paths, p=2), vote("borda_vote", *paths, p=0.5)
    assert sharp.state.candidates[0].answer == "2"
    assert sharp.state.measures["agreement"] == pytest.approx(9 / 14)
    assert flat.state.candidates[0].answer == "1"
    assert flat.state.measures["agreement"] == pytest.approx((1 + 2**0.5) / (1 + 2**0.5 + 3**0.5))


def test_who_has_no_score_stands_behind_and_who_has_no_answer_last() -> None:
    silent = Candidate(id="d:9", text="nothing", node="d", model="m").scored("s", 100.0)
    tried = vote("borda_vote", silent, path(1, 1), path(2, 2, score=-7), p=1)
    # N = 3: the scored one weighs 3, the one without a score 2; the silent one has the last rank and no vote.
    assert tried.state.candidates[0].answer == "2"
    assert tried.state.measures == {"agreement": 3 / 5, "answers": 2, "distinct_answers": 2}
    assert tried.notes == [("unparsed", "no answer in d:9")]


def test_without_scores_borda_is_a_plain_vote_and_says_so() -> None:
    tried = vote("borda_vote", path(1, 1), path(2, 2), path(3, 2))
    assert tried.state.candidates[0].answer == "2"
    assert tried.notes == [("fallback", "no voter has a score; all votes weigh the same")]


def test_a_negative_power_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        BordaVote(p=-1)


def test_an_answer_weighs_the_probability_of_its_different_paths() -> None:
    first = path(1, 1, p=0.5)
    again = replace(first, id="d:5")
    tried = vote("rpc_vote", first, again, path(2, 2, p=0.3), path(3, 2, p=0.4), prune=False)
    assert tried.state.candidates[0].answer == "2"
    assert tried.texts == ["Way 3. Answer: 2"]  # its likeliest path stands for it
    assert tried.state.measures == pytest.approx(
        {"agreement": 0.7 / 1.2, "answers": 4, "distinct_answers": 2, "pruned": 0}
    )


def test_the_probability_of_a_whole_path_prefers_short_ones() -> None:
    long = replace(path(1, 1, p=0.9), completion_tokens=2_000)
    short = replace(path(2, 2, p=0.8), completion_tokens=3)
    assert vote("rpc_vote", long, short, prune=False).state.candidates[0].answer == "1"
    tried = vote("rpc_vote", long, short, prune=False, probability="path")
    assert tried.state.candidates[0].answer == "2"
    # 0.8^3 against 0.9^2000, which no float could hold beside it.
    assert tried.state.measures["agreement"] == pytest.approx(1.0)
    alike = [replace(one, completion_tokens=2) for one in (path(1, 1, p=0.5), path(2, 2, p=0.3), path(3, 2, p=0.4))]
    tried = vote("rpc_vote", *alike, prune=False, probability="path")
    assert tried.state.measures["agreement"] == pytest.approx(0.25 / (0.25 + 0.09 + 0.16))


def test_unlikely_paths_are_pruned() -> None:
    high = [path(n, 1, p=0.8 + n / 100) for n in range(4)]
    low = [path(10 + n, 2, p=0.02 + n / 1000) for n in range(60)]
    plain = vote("rpc_vote", *high, *low, prune=False)
    pruned = vote("rpc_vote", *high, *low)
    assert plain.state.measures["agreement"] < 0.8
    assert pruned.state.measures["agreement"] == 1.0
    assert pruned.state.measures["pruned"] == 60 / 64
    assert pruned.state.candidates[0].answer == "1"


def test_a_path_below_the_mean_that_belongs_to_the_high_component_stays() -> None:
    high = [path(n, 1, p=0.5 + n / 50) for n in range(20)]
    low = [path(30 + n, 2, p=0.02 + n / 1000) for n in range(4)]
    assert vote("rpc_vote", *high, *low).state.measures["pruned"] == 4 / 24


def test_paths_of_one_probability_are_not_below_their_mean() -> None:
    tried = vote("rpc_vote", *(path(n, 1 + n % 2, p=0.3) for n in range(6)))
    assert tried.state.measures["pruned"] == 0


def test_too_few_paths_are_not_pruned() -> None:
    tried = vote("rpc_vote", path(1, 1, p=0.9), path(2, 2, p=0.01), path(3, 2, p=0.01))
    assert tried.state.measures["pruned"] == 0
    assert tried.notes == [
        ("skipped", "3 different paths are too few for a mixture of two distributions; none is pruned")
    ]


def test_where_all_answers_would_be_pruned_none_is() -> None:
    silent = [replace(path(n, "", p=0.8 + n / 100), text=f"nothing {'x' * n}") for n in range(8)]
    low = [path(20 + n, 2, p=0.02 + n / 1000) for n in range(8)]
    tried = vote("rpc_vote", *silent, *low)
    assert ("fallback", "every path with an answer would be pruned; none is") in tried.notes
    assert tried.state.candidates[0].answer == "2"
    assert tried.state.measures["pruned"] == 0


def test_who_has_no_log_probabilities_weighs_nothing() -> None:
    tried = vote("rpc_vote", path(1, 1), path(2, 1), path(3, 2, p=0.1), prune=False)
    assert tried.state.candidates[0].answer == "2"
    assert tried.notes == [("unparsed", "no log probabilities in d:1, d:2")]
    none = vote("rpc_vote", path(1, 1), path(2, 1), path(3, 2))
    assert none.state.candidates[0].answer == "1"
    assert none.texts == ["Way 1. Answer: 1"]
    assert none.notes[0][0] == "fallback"


def test_nobody_answers() -> None:
    tried = vote("rpc_vote", replace(path(1, 1, p=0.5), text="nothing"))
    assert tried.state.measures == {"agreement": 0.0, "answers": 0, "distinct_answers": 0, "pruned": 0.0}
    assert RPCVote().prune


def test_the_mixture_finds_the_components_that_values_were_drawn_from() -> None:
    source = np.random.default_rng(3)
    low = stats.weibull_min.rvs(3.0, scale=0.1, size=150, random_state=source)
    high = stats.weibull_min.rvs(8.0, scale=0.7, size=100, random_state=source)
    found = fit_mixture([*low, *high])
    assert found is not None
    assert found.weight == pytest.approx(0.4, abs=0.07)
    assert found.scale_high == pytest.approx(0.7, rel=0.1)
    assert found.scale_low == pytest.approx(0.1, rel=0.15)
    assert min(found.probability_high(high.tolist())) > 0.5 > np.quantile(found.probability_high(low.tolist()), 0.95)


def test_the_fit_knows_no_order_and_no_unit() -> None:
    values = [0.1, 0.12, 0.15, 0.6, 0.7, 0.72, 0.9]
    found, other = fit_mixture(values), fit_mixture([value / 4 for value in reversed(values)])
    assert found is not None
    assert other is not None
    assert other.scale_high == pytest.approx(found.scale_high / 4)
    assert other[:2] == pytest.approx(found[:2])


@given(
    st.tuples(*(st.floats(low, high) for low, high in ((0.2, 0.8), (0.5, 3.0), (0.5, 3.0), (0.5, 3.0), (0.5, 3.0)))),
    st.lists(st.floats(0.1, 2.0), min_size=1, max_size=20),
)
def test_the_gradient_of_the_fit_is_that_of_its_value(at: tuple[float, ...], values: list[float]) -> None:
    x = np.array(values)

    def value(where: NDArray[np.float64]) -> float:
        return weibull._negative_log_likelihood(where, x)[0]

    _, gradient = weibull._negative_log_likelihood(np.array(at), x)
    numeric = optimize.approx_fprime(np.array(at), value, 1e-7)
    assert gradient == pytest.approx(numeric, rel=1e-3, abs=1e-3 * len(values))


def test_the_chance_of_a_component_is_bayes_rule() -> None:
    mixture = Mixture(0.3, 2.0, 1.5, 1.2, 0.4)
    x = 0.9
    high = 0.3 * stats.weibull_min.pdf(x, 2.0, scale=1.5)
    low = 0.7 * stats.weibull_min.pdf(x, 1.2, scale=0.4)
    assert mixture.probability_high([x]) == pytest.approx([high / (high + low)])
