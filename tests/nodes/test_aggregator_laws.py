"""Laws of every technique that chooses among candidates; where one does not hold by definition, the reason stands here.

Order: the candidates in another order give the same winner, except between equals.
Copies: a further copy of a candidate never lowers its answer.
Scale: weights count by their ratios, ranks by their order.
Unanimity: what all candidates say is handed on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes.ballots import ballots, leading, read_answers
from nodes.base import Candidate, State
from nodes.borda_vote import BordaVote
from nodes.catalog import GROUPS
from nodes.election import Election
from nodes.registry import get
from nodes.similarity import token_f1
from nodes.testing import Prompt, try_out

# A law with many aggregators behind it is tried on few examples each.
LAW = settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


class Aggregator(NamedTuple):
    """A technique, behind a scorer where its weights come from one."""

    name: str
    settings: Mapping[str, object] = MappingProxyType({})
    scorer: object = None

    def __str__(self) -> str:
        return "-".join(map(str, (self.name, *self.settings.values(), *([self.scorer] if self.scorer else []))))


NO_LENGTH = {"use": "markers", "length": 0}

ELECTIONS = (
    Aggregator("vote"),
    Aggregator("vote", {"ties": "shortest"}),
    Aggregator("vote", {"ties": "score"}),
    Aggregator("vote", {"weights": "score"}),
    Aggregator("vote", {"weights": "score"}, "brevity"),
    Aggregator("vote", {"weights": "score"}, "markers"),
    Aggregator("vote", {"weights": "score"}, NO_LENGTH),
    Aggregator("borda_vote", {"p": 0.0}),
    Aggregator("borda_vote", {"p": 0.5}),
    Aggregator("borda_vote", {"p": 3.0}),
    Aggregator("borda_vote", {"p": 1.0}, "mean_logprob"),
    Aggregator("rpc_vote"),
    Aggregator("rpc_vote", {"prune": False}),
    Aggregator("rpc_vote", {"probability": "path"}),
)
CHOICES = (
    Aggregator("mbr", {"utility": "answer"}),
    Aggregator("mbr", {"utility": "token_f1"}),
    Aggregator("mbr", {"utility": "rouge_l"}),
    Aggregator("mbr", {"utility": "chrf"}),
    Aggregator("mbr", {"utility": "judge", "judge": "j"}),
    Aggregator("x_mbr", {"model": "a", "utility": "answer"}),
    Aggregator("x_mbr", {"model": "a", "judge": "j", "extra": 2}),
    Aggregator("tournament", {"model": "j"}),
    Aggregator("tournament", {"model": "j", "method": "swiss"}),
    Aggregator("rank", {"model": "j"}),
    Aggregator("rank", {"model": "j", "method": "pairwise"}),
    Aggregator("pairwise_rank", {"model": "j"}),
    Aggregator("pairwise_rank", {"model": "j", "correction": "bradley_terry"}),
    Aggregator("judge", {"model": "j"}),
    Aggregator("score", {"scorer": {"use": "judge", "model": "j"}}),
    Aggregator("score", {"scorer": {"use": "reward", "model": "j"}}),
    Aggregator("score", {"scorer": "mean_logprob"}),
    Aggregator("score", {"scorer": "brevity"}),
    Aggregator("score", {"scorer": "markers"}),
)
NOT_HERE = {
    "chops": "a choice by a prefix of each response, which has tests of its own",
    "constraint_merge": "writes a new text",
    "fuse": "writes a new text",
}


def test_every_aggregator_is_held_to_the_laws() -> None:
    there = {*GROUPS["votes and aggregation"], *GROUPS["selection"]}
    assert there - {one.name for one in (*ELECTIONS, *CHOICES)} <= set(NOT_HERE)


# Quality stands in the text, where the scripted judge reads it; marks and lengths differ, so that scorers do too.
VOTERS = st.lists(
    st.tuples(
        st.integers(1, 3),  # the answer
        st.integers(1, 10),  # the quality, which is also the candidate's score
        st.integers(0, 6),  # further words
        st.sampled_from(["", "perhaps ", "wait ", "therefore "]),
    ),
    min_size=2,
    max_size=7,
)
UNEQUAL = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 10), st.integers(0, 6), st.just("")),
    min_size=2,
    max_size=7,
    unique_by=lambda voter: voter[1],
)
LONE = st.lists(
    st.tuples(st.just(1), st.integers(1, 10), st.integers(0, 6), st.just("")), min_size=2, max_size=8, unique=True
)


def candidates_of(voters: Sequence[tuple[int, int, int, str]]) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            id=f"draft:{number}",
            text=f"{mark}{'word ' * words}quality {quality}\nAnswer: {answer}",
            node="draft",
            model="fast",
            mean_logprob=-quality / 7 - words / 100 - answer / 1000,
        ).scored("earlier", float(quality))
        for number, (answer, quality, words, mark) in enumerate(voters, 1)
    )


def quality(text: str) -> int:
    return int(re.findall(r"quality (\d+)", text)[-1])


def truthful(prompt: Prompt, index: int) -> str:
    """Judge by the quality that stands in the text; agree by the words in common."""
    seen = prompt.variables
    match prompt.template:
        case "rank_pair":
            first, second = quality(str(seen["first"])), quality(str(seen["second"]))
            return "Tie" if first == second else f"Better: [{1 if first > second else 2}]"
        case "rank":
            assert isinstance(seen["candidates"], list)
            order = sorted(seen["candidates"], key=lambda shown: -quality(shown.text))
            return "Ranking: " + " > ".join(f"[{shown.n}]" for shown in order)
        case "judge":
            return f"Score: {quality(str(seen['candidate']))}"
        case "mbr_utility":
            return f"Score: {1 + round(9 * token_f1(str(seen['candidate']), str(seen['reference'])))}"
        case "x_mbr_generate":
            return "Answer: 1"
        case "generate":  # a reward model reads the reply behind the question
            return str(quality(prompt.text) / 10)
    raise AssertionError(prompt.template)


def prepared(one: Aggregator, candidates: tuple[Candidate, ...]) -> State:
    state = State(question="How many?", candidates=candidates)
    return state if one.scorer is None else try_out("score", state, truthful, scorer=one.scorer).state


def outcome(one: Aggregator, state: State, **more: object) -> State:
    technique = get(one.name).model_validate({**one.settings, **more})
    return try_out(technique, state, truthful, answer_kind="numeric").state


def weights_of(one: Aggregator, state: State) -> dict[str, float]:
    """Return what each answer weighs."""
    election = get(one.name).model_validate(one.settings)
    assert isinstance(election, Election)
    read = read_answers(state.candidates, "numeric", "here")
    return {b.answer: b.weight for b in ballots(read.voters, election.weigh(read, "here").weights)}


def leaders(weights: dict[str, float]) -> set[str]:
    most = max(weights.values())
    return {key for key, weight in weights.items() if math.isclose(weight, most, rel_tol=1e-9)}


def suited(one: Aggregator) -> st.SearchStrategy[list[tuple[int, int, int, str]]]:
    """Return voters without equals for ranks, which are places: equals get different ones, by their order."""
    return UNEQUAL if one.name in ("tournament", "rank") else VOTERS


def best_texts(result: State) -> set[str]:
    """Return the texts with the greatest score, of a choice that keeps all."""
    scores = [list(candidate.scores.values())[-1] for candidate in result.candidates]
    return {c.text for c, s in zip(result.candidates, scores, strict=True) if math.isclose(s, scores[0], rel_tol=1e-9)}


@pytest.mark.parametrize("one", ELECTIONS, ids=str)
@given(voters=VOTERS, source=st.randoms(use_true_random=False))
@LAW
def test_elections_know_no_order(one: Aggregator, voters: list[tuple[int, int, int, str]], source: object) -> None:
    candidates = candidates_of(voters)
    shuffled = list(candidates)
    source.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types it as an object of random's interface
    state, other = prepared(one, candidates), prepared(one, tuple(shuffled))
    weights, again = weights_of(one, state), weights_of(one, other)
    assert weights == pytest.approx(again)
    first, second = outcome(one, state), outcome(one, other)
    assert first.candidates[0].answer in leaders(weights)
    assert first.measures["agreement"] == pytest.approx(second.measures["agreement"])
    if len(leaders(weights)) == 1:
        assert first.candidates[0].answer == second.candidates[0].answer


@pytest.mark.parametrize("one", CHOICES, ids=str)
@given(data=st.data(), source=st.randoms(use_true_random=False))
@LAW
def test_choices_know_no_order(one: Aggregator, data: st.DataObject, source: object) -> None:
    candidates = candidates_of(data.draw(suited(one)))
    shuffled = list(candidates)
    source.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types it as an object of random's interface
    first = outcome(one, prepared(one, candidates), keep=None)
    second = outcome(one, prepared(one, tuple(shuffled)), keep=None)
    assert best_texts(first) == best_texts(second)
    if one.name != "tournament" or one.settings.get("method") != "knockout":
        ranked = [list(c.scores.values())[-1] for c in first.candidates]
        assert ranked == pytest.approx([list(c.scores.values())[-1] for c in second.candidates])


# Of a copy: `winner`, a sole winner stays the winner, and the answer's weight never falls; `weight`, only the latter;
# `nothing`, it changes nothing at all. The reasons where it is not `winner`:
# - borda_vote with p > 0: those that rank above the copy move up as well (its docstring says so).
# - vote by markers: a copy moves the median length, on which every other weight hangs.
# - rpc_vote: the same path drawn twice is one path.
def copies(one: Aggregator) -> str:
    if one.name == "rpc_vote":
        return "nothing"
    if one.name == "borda_vote" and one.settings["p"] != 0.0:
        return "weight"
    return "none" if one.scorer == "markers" else "winner"


@pytest.mark.parametrize("one", ELECTIONS, ids=str)
@given(voters=VOTERS, place=st.integers(0, 6))
@LAW
def test_a_copy_never_lowers_its_answer_in_an_election(
    one: Aggregator, voters: list[tuple[int, int, int, str]], place: int
) -> None:
    candidates = candidates_of(voters)
    copied = candidates[place % len(candidates)]
    answer = str(voters[place % len(voters)][0])
    law = copies(one)
    state = prepared(one, candidates)
    other = prepared(one, (*candidates, replace(copied, id="copy:1")))
    before, after = weights_of(one, state), weights_of(one, other)
    if law == "nothing":
        assert after == pytest.approx(before)
    if law != "none":
        assert after[answer] >= before[answer] * (1 - 1e-12)
    if law in ("winner", "nothing") and leaders(before) == {answer}:
        assert leaders(after) == {answer}
        assert outcome(one, other).candidates[0].answer == answer


def test_a_copy_may_lower_an_answer_by_markers_since_the_median_moves() -> None:
    """The exclusion above is by definition: this is what it looks like."""
    one = Aggregator("vote", {"weights": "score"}, {"use": "markers", "length": 10})
    short, long = (1, 5, 0, ""), (2, 5, 6, "")
    before = weights_of(one, prepared(one, candidates_of([short, long, long])))
    candidates = candidates_of([short, long, long])
    after = weights_of(one, prepared(one, (*candidates, replace(candidates[0], id="copy:1"))))
    assert after["1"] / 2 < before["1"]


@given(voters=VOTERS, p=st.sampled_from([0.5, 1.0, 8.0]))
@LAW
def test_a_copy_of_the_best_never_lowers_its_share_by_borda(voters: list[tuple[int, int, int, str]], p: float) -> None:
    one = Aggregator("borda_vote", {"p": p})
    candidates = candidates_of(voters)
    best = max(candidates, key=lambda candidate: candidate.scores["earlier"])
    answer = str(voters[candidates.index(best)][0])
    before = weights_of(one, prepared(one, candidates))
    after = weights_of(one, prepared(one, (*candidates, replace(best, id="copy:1"))))
    assert after[answer] / sum(after.values()) >= before[answer] / sum(before.values()) - 1e-12


@pytest.mark.parametrize("one", CHOICES, ids=str)
@given(data=st.data())
@LAW
def test_a_copy_never_lowers_the_best_of_a_choice(one: Aggregator, data: st.DataObject) -> None:
    candidates = candidates_of(data.draw(suited(one)))
    best = outcome(one, prepared(one, candidates), keep=None).candidates[0]
    original = next(candidate for candidate in candidates if candidate.text == best.text)
    after = outcome(one, prepared(one, (*candidates, replace(original, id="copy:1"))), keep=None)
    assert best.text in best_texts(after)


@given(voters=VOTERS, scale=st.floats(1e-3, 1e3))
@LAW
def test_weights_of_a_vote_have_no_scale(voters: list[tuple[int, int, int, str]], scale: float) -> None:
    one = Aggregator("vote", {"weights": "score"})
    plain = State(question="Q", candidates=candidates_of(voters))
    scaled = replace(
        plain, candidates=tuple(c.scored("earlier", c.scores["earlier"] * scale) for c in plain.candidates)
    )
    first, second = outcome(one, plain), outcome(one, scaled)
    # Ties too: the rule for ties decides, not the last bit of a sum.
    assert first.candidates[0].answer == second.candidates[0].answer
    assert first.measures["agreement"] == pytest.approx(second.measures["agreement"])


RANKED = (
    Aggregator("borda_vote", {"p": 0.5}),
    Aggregator("vote", {"ties": "score"}),
    Aggregator("tournament", {"model": "j"}),
)


@pytest.mark.parametrize("one", RANKED, ids=str)
@given(voters=VOTERS)
@LAW
def test_only_the_order_of_scores_counts_where_they_are_ranks(
    one: Aggregator, voters: list[tuple[int, int, int, str]]
) -> None:
    plain = State(question="Q", candidates=candidates_of(voters))
    bent = replace(
        plain, candidates=tuple(c.scored("earlier", math.expm1(c.scores["earlier"]) - 50) for c in plain.candidates)
    )
    first, second = outcome(one, plain), outcome(one, bent)
    assert (first.candidates[0].text, first.measures) == (second.candidates[0].text, second.measures)


@given(voters=VOTERS, shift=st.floats(-20, 0))
@LAW
def test_only_ratios_of_path_probabilities_count(voters: list[tuple[int, int, int, str]], shift: float) -> None:
    one = Aggregator("rpc_vote", {"prune": False})
    plain = State(question="Q", candidates=candidates_of(voters))
    shifted = replace(
        plain, candidates=tuple(replace(c, mean_logprob=(c.mean_logprob or 0) + shift) for c in plain.candidates)
    )
    assert outcome(one, plain).measures == pytest.approx(outcome(one, shifted).measures)


@pytest.mark.parametrize("one", [*ELECTIONS, *CHOICES], ids=str)
@given(voters=LONE)
@LAW
def test_what_all_say_is_handed_on(one: Aggregator, voters: list[tuple[int, int, int, str]]) -> None:
    candidates = candidates_of(voters)
    result = outcome(one, prepared(one, candidates))
    assert result.candidates[0].text in {candidate.text for candidate in candidates}
    same = tuple(replace(candidates[0], id=f"same:{n}") for n in range(len(candidates)))
    result = outcome(one, prepared(one, same))
    assert result.candidates[0].text == candidates[0].text
    if one in ELECTIONS:
        assert result.measures["agreement"] == 1.0
        assert result.candidates[0].answer == "1"
    if one.name == "mbr":
        assert result.measures["expected_utility"] == pytest.approx(1.0)


def test_a_tie_of_sums_is_a_tie_though_their_last_bits_differ() -> None:
    texts = ("a long one. Answer: 1", "a long one. Answer: 1", "Answer: 2")
    candidates = tuple(
        Candidate(id=str(n), text=text, node="d", model=None).scored("s", score)
        for n, (text, score) in enumerate(zip(texts, (0.1, 0.2, 0.3), strict=True))
    )
    assert math.fsum((0.1, 0.2)) != 0.3
    tried = try_out("vote", State(question="Q", candidates=candidates), weights="score", ties="shortest")
    assert tried.texts == ["Answer: 2"]


def test_an_empty_count_has_no_leader() -> None:
    with pytest.raises(ValueError, match="empty"):
        leading([])


def test_borda_is_a_plain_vote_at_power_nought() -> None:
    candidates = candidates_of([(1, 9, 0, ""), (2, 1, 0, ""), (2, 2, 0, "")])
    state = State(question="Q", candidates=candidates)
    assert outcome(Aggregator("borda_vote", {"p": 0.0}), state).candidates[0].answer == "2"
    assert outcome(Aggregator("borda_vote", {"p": 8.0}), state).candidates[0].answer == "1"
    assert BordaVote(p=0).p == 0
