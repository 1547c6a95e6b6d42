"""Compute by difficulty: what a pilot says of a question, and what the table spends on it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from db.errors import ColonnadeError, DataError, InsufficientCandidates
from nodes.base import State
from nodes.compute_optimal import ComputeOptimal
from nodes.spending import Spending, SpendingTable, bin_of
from nodes.testing import Prompt, Script, Tried, try_out
from providers.errors import Overloaded

ASKED = State(question="How many?")
SCORER = {"use": "verdict_probability", "model": "judge"}


def script(answers: str, scores: dict[str, float] | None = None) -> Script:
    """Let sample i give the i-th letter as its answer ('!' fails), and the judge score by answer."""

    def reply(prompt: Prompt, index: int) -> str | ColonnadeError:
        if prompt.kind == "score":
            return str((scores or {})[prompt.text.split("Answer: ")[1][0]])
        if prompt.template == "revise":
            return "Better. Answer: Z"
        return Overloaded("503") if answers[index] == "!" else f"Answer: {answers[index]}"

    return reply


def tried(answers: str, scores: dict[str, float] | None = None, **settings: object) -> Tried:
    node = ComputeOptimal.model_validate({"model": "m", **settings})
    return try_out(node, ASKED, script(answers, scores))


@pytest.mark.parametrize(
    ("answers", "ease", "place", "drawn", "said"),
    [
        ("AAAA", 1.0, 1, 4, "a"),
        ("ABAA", 0.75, 1, 4, "a"),
        ("AABB" + "BBBC", 0.5, 2, 8, "b"),
        ("ABCD" + "DDDDDDDDDDDD", 0.25, 3, 16, "d"),
        ("AA!!" + "CCCC", 1.0, 1, 4, "a"),
        ("!!!!" + "EEEEEEEEEEEE", 0.0, 3, 16, "e"),
    ],
)
def test_the_pilots_agreement_decides_what_is_spent(
    answers: str, ease: float, place: int, drawn: int, said: str
) -> None:
    found = tried(answers)
    assert found.state.candidates[0].answer == said
    assert (found.state.measures["ease"], found.state.measures["bin"]) == (ease, place)
    assert found.state.measures["drawn"] == found.context.calls == drawn


@pytest.mark.parametrize(
    ("estimate", "ease"), [("agreement", 2 / 4), ("best", 0.8), ("score", 2.0 / 4), ("weighted", 0.8 / 4)]
)
def test_estimates(estimate: str, ease: float) -> None:
    table: list[dict[str, object]] = [{"choose": "best"}]
    scores = {"A": 0.3, "B": 0.6, "C": 0.8}
    found = tried("AABC", scores, scorer=SCORER, estimate=estimate, thresholds=[], table=table)
    assert found.state.measures["ease"] == pytest.approx(ease)


@pytest.mark.parametrize(
    ("choose", "said", "agreement", "score"),
    [("vote", "a", 0.5, 0.5), ("weighted", "b", 5 / 7, 5 / 7), ("best", "c", 0.25, 0.9)],
)
def test_choices_go_by_votes_by_weights_or_by_the_best_score(
    choose: str, said: str, agreement: float, score: float
) -> None:
    table: list[dict[str, object]] = [{"samples": 2, "choose": choose}]
    scores = {"A": 0.1, "B": 0.5, "C": 0.9} if choose == "best" else {"A": 0.1, "B": 0.5, "C": 0.0}
    found = tried("AABC", scores, scorer=SCORER, estimate="best", pilot=2, thresholds=[], table=table)
    candidate = found.state.candidates[0]
    assert candidate.answer == said
    assert found.state.measures["agreement"] == pytest.approx(agreement)
    assert candidate.scores["here"] == pytest.approx(score)
    assert (candidate.sources.get("here") == "verdict_probability judge") == (choose == "best")


def test_no_response_is_scored_twice_and_none_without_need() -> None:
    table: list[dict[str, object]] = [{"choose": "vote"}, {"samples": 3, "choose": "weighted"}]
    easy = tried("AA", scorer=SCORER, pilot=2, thresholds=[0.9], table=table)
    assert not [prompt for prompt in easy.context.history if prompt.kind == "score"]
    hard = tried("ABCDE", dict.fromkeys("ABCDE", 0.5), scorer=SCORER, pilot=2, thresholds=[0.9], table=table)
    scored = [prompt.text for prompt in hard.context.history if prompt.kind == "score"]
    assert len(scored) == len(set(scored)) == 5


def test_revisions_go_on_from_the_leading_response_one_after_the_other() -> None:
    table: list[dict[str, object]] = [{"revisions": 2}]
    found = tried("BAA", reviser="r", pilot=3, thresholds=[], table=table)
    revisions = [prompt for prompt in found.context.history if prompt.template == "revise"]
    assert [prompt.model for prompt in revisions] == ["r", "r"]
    assert "Answer: A" in revisions[0].text
    assert "Answer: Z" in revisions[1].text
    assert found.state.candidates[0].answer == "a"  # A and Z have two votes each, and A came first.
    assert found.state.measures["drawn"] == 5


def test_a_revision_that_fails_is_noted_and_the_next_goes_on_from_what_is_there() -> None:
    plain = script("AAB")

    def reply(prompt: Prompt, index: int) -> str | ColonnadeError:
        return Overloaded("503") if prompt.template == "revise" else plain(prompt, index)

    found = try_out(
        "compute_optimal",
        ASKED,
        reply,
        answer_kind="auto",
        model="m",
        pilot=3,
        thresholds=[],
        table=[{"revisions": 2}],
    )
    assert found.state.candidates[0].answer == "a"
    assert [kind for kind, _ in found.notes] == ["call_failed", "call_failed"]
    assert all("Answer: A" in p.text for p in found.context.history if p.template == "revise")


def test_where_no_response_can_be_scored_a_plain_vote_decides() -> None:
    def reply(prompt: Prompt, index: int) -> str | ColonnadeError:
        return Overloaded("503") if prompt.kind == "score" else f"Answer: {'ABB'[index]}"

    settings: dict[str, object] = {"pilot": 3, "estimate": "score", "thresholds": [], "table": [{"choose": "best"}]}
    node = ComputeOptimal.model_validate({"model": "m", "scorer": SCORER, **settings})
    found = try_out(node, ASKED, reply)
    assert found.state.candidates[0].answer == "b"
    assert ("fallback", "no response has a score above 0; a plain vote decides") in found.notes


def test_a_score_of_one_that_states_no_answer_does_not_weigh_votes() -> None:
    def reply(prompt: Prompt, index: int) -> str | ColonnadeError:
        if prompt.kind == "score":
            return "0.9" if "no idea" in prompt.text else "0"
        return ("no idea", "Answer: 2", "Answer: 1", "Answer: 1")[index]

    settings: dict[str, object] = {"scorer": SCORER, "thresholds": [], "table": [{"choose": "weighted"}]}
    node = ComputeOptimal.model_validate({"model": "m", **settings})
    found = try_out(node, ASKED, reply, answer_kind="numeric")
    assert found.texts == ["Answer: 1"]
    assert found.state.measures["agreement"] == pytest.approx(2 / 3)
    assert found.notes[-1] == ("fallback", "no voter has a score above 0; a plain vote decides")


def test_nothing_is_left_where_every_call_fails() -> None:
    with pytest.raises(InsufficientCandidates, match=r"'here' has nothing left to hand on: 16 calls failed"):
        tried("!" * 16)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.text("AB!", min_size=40, max_size=40), st.integers(1, 5))
def test_never_more_is_drawn_than_the_pilot_and_the_richest_entry(samples: list[int], answers: str, pilot: int) -> None:
    thresholds = [1 - place / len(samples) for place in range(len(samples) - 1)]
    table: list[dict[str, object]] = [{"samples": count, "revisions": count % 2} for count in samples]
    try:
        found = tried(answers, pilot=pilot, thresholds=thresholds, table=table)
    except InsufficientCandidates:
        return
    entry = samples[int(found.state.measures["bin"]) - 1]
    assert found.context.calls == found.state.measures["drawn"] == pilot + entry + entry % 2
    assert len(found.state.candidates) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"thresholds": [0.5]}, "table has 3 entries; 1 thresholds make 2 bins"),
        ({"thresholds": [0.1, 0.5]}, "thresholds must fall, from the easiest bin on; they are 0.1, 0.5"),
        ({"estimate": "score"}, "goes by scores, which needs a `scorer`"),
        ({"scorer": SCORER}, "leave out the `scorer`"),
        ({"thresholds": [math.inf, 0.5]}, "finite number"),
        ({"thresholds": [0.5, math.nan]}, "finite number"),
        ({"table_file": 5}, r"table_file\n  Input should be a valid string"),
        ({"table_file": "none.json"}, r"The learned file 'none.json' cannot be read \(No such file or directory\)"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ComputeOptimal.model_validate({"model": "m", **settings})


def learned(**changes: object) -> SpendingTable:
    known: dict[str, object] = {
        "pilot": 2,
        "estimate": "best",
        "thresholds": (0.7,),
        "table": (Spending(), Spending(samples=6, choose="best")),
        "accuracy": 0.8,
        "cost": 3.5,
        "budget": 4.0,
        "trained_on": 40,
    }
    return SpendingTable(**{**known, **changes})  # type: ignore[arg-type]  # the fields above


def test_a_learned_table_stands_in_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    learned().save(file)
    assert SpendingTable.load(file) == learned()
    node = ComputeOptimal.model_validate({"model": "m", "scorer": SCORER, "table_file": str(file)})
    assert (node.pilot, node.estimate, node.thresholds, node.table) == (2, "best", (0.7,), learned().table)
    assert node.settings()["table_file"] is None
    with pytest.raises(ValidationError, match="table_file was learned with pilot: 2; it is 4 here"):
        ComputeOptimal.model_validate({"model": "m", "scorer": SCORER, "pilot": 4, "table_file": str(file)})


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    file.write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        SpendingTable.load(file)
    file.write_text('{"form": "colonnade-cascade-1"}')
    with pytest.raises(DataError, match="holds no table of the form 'colonnade-compute-optimal-1'"):
        SpendingTable.load(file)
    learned(thresholds=(0.7, 0.3)).save(file)
    with pytest.raises(DataError, match=r"is broken .*table has 2 entries; 2 thresholds make 3 bins"):
        SpendingTable.load(file)
    learned().save(file)
    file.write_text(file.read_text().replace('"samples": 6', '"samples": -6'))
    with pytest.raises(DataError, match=r"is broken \(samples: Input should be greater than or equal to 0\); make it"):
        SpendingTable.load(file)


def test_a_question_at_a_threshold_is_in_the_easier_bin() -> None:
    assert [bin_of(ease, (0.75, 0.5)) for ease in (1, 0.75, 0.74, 0.5, 0.1)] == [0, 0, 1, 1, 2]
