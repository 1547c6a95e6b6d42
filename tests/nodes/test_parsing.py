from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.parsing import (
    read_critiques,
    read_preference,
    read_ranking,
    read_score,
    read_statements,
    read_test_results,
    read_verdict,
)
from tests.helpers import cpu_seconds

ANY_TEXT = st.text(alphabet=st.sampled_from("[]()0123 >=,.:*\n-Rankingcortesfpv#|"), max_size=120) | st.text(
    max_size=60
)
PROSE = st.text(alphabet="abcdefgh ,.\n", max_size=60)


@given(ANY_TEXT, st.integers(1, 12))
def test_a_ranking_is_a_permutation_or_none(text: str, count: int) -> None:
    ranking = read_ranking(text, count)
    if ranking is not None:
        assert sorted(ranking.order) == list(range(count))
        assert 1 <= ranking.named <= count


@given(
    st.permutations(list(range(8))),
    PROSE,
    st.sampled_from(["Ranking: ", "**Ranking:** ", "Final ranking (best first): ", ""]),
)
def test_a_well_formed_ranking_is_read_back(order: list[int], prose: str, label: str) -> None:
    line = label + " > ".join(f"[{position + 1}]" for position in order)
    assert read_ranking(f"{prose}\n{line}", 8) == (tuple(order), 8)


@given(st.lists(st.integers(0, 15), min_size=2, max_size=12))
def test_odd_numbers_in_a_ranking_are_passed_over(numbers: list[int]) -> None:
    ranking = read_ranking("Ranking: " + " > ".join(f"[{number}]" for number in numbers), 6)
    valid = list(dict.fromkeys(number - 1 for number in numbers if 1 <= number <= 6))
    if not valid:
        assert ranking is None
    else:
        assert ranking is not None
        assert list(ranking.order[: ranking.named]) == valid
        left_out = ranking.order[ranking.named :]
        assert list(left_out) == sorted(left_out)


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("[1] right [2] wrong [3] wrong\nRanking: [2] > [1] > [3]", (1, 0, 2)),
        ("Ranking: 2 > 1 > 3 because the first adds wrongly", (1, 0, 2)),
        ("Ranking: Candidate 2 > Candidate 1 > Candidate 3 (scores 9, 4 and 1)", (1, 0, 2)),
        ("First I thought [1] > [2] > [3].\nBut Ranking: [3] > [2] > [1]", (2, 1, 0)),
        ("Ranking:\n\n1. [2]\n2. [1]\n3. [3]", (1, 0, 2)),
        ("1. [2] is complete\n2. [1] is short\n3. [3] is wrong", (1, 0, 2)),
        ("[2]\n[1]\n[3]", (1, 0, 2)),
        ("[2, 1, 3]", (1, 0, 2)),
        ("2, 1, 3", (1, 0, 2)),
        ("I prefer [2]>[1]>[3] here.", (1, 0, 2)),
        ("Response [2] > Response [1] > Response [3]", (1, 0, 2)),
        ("[2]", (1, 0, 2)),
    ],
)
def test_rankings_in_many_forms(text: str, order: tuple[int, ...]) -> None:
    ranking = read_ranking(text, 3)
    assert ranking is not None
    assert ranking.order == order


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot rank these.",
        "Since 3 > 2 the second response is right.",
        "Ranking: [a] > [b] > [c]",
        "Ranking: [7] > [9]",
        "[1] is good\n[2] is bad\n[3] is fine",
        "The answer is 42 and 17 cups.",
    ],
)
def test_what_is_no_ranking(text: str) -> None:
    assert read_ranking(text, 3) is None


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("Better: [1]", 1.0),
        ("Both try.\n**Better: [2]**", 0.0),
        ("Better: tie", 0.5),
        ("Better: [1]\nNo:\nBetter: [2]", 0.0),
        ("Winner: Response 2", 0.0),
        ("[1] right [2] wrong\nRanking: [1] > [2]", 1.0),
        ("[2]", 0.0),
        ("tie", 0.5),
        ("Better: 12", None),
        ("Both are fine.", None),
        ("", None),
    ],
)
def test_preferences(text: str, share: float | None) -> None:
    assert read_preference(text) == share


@given(
    st.lists(
        st.text(alphabet="abc de.\n", min_size=1, max_size=30).filter(lambda text: text.strip()[:1].isalpha()),
        min_size=1,
        max_size=6,
    )
)
def test_critiques_are_read_back(critiques: list[str]) -> None:
    reply = "\n".join(f"[{number}] {critique}" for number, critique in enumerate(critiques, 1))
    found = read_critiques(reply, len(critiques))
    assert found is not None
    assert [text and text.strip() for text in found] == [critique.strip() for critique in critiques]


@pytest.mark.parametrize(
    ("text", "count", "critiques"),
    [
        ("[1] right\n[2] wrong at step 2: 3 + 4", 2, ("right", "wrong at step 2: 3 + 4")),
        ("Overview.\n\n**[1]** Good\nand long\n\n**[2]**\nBad", 2, ("Good\nand long", "Bad")),
        ("### Candidate 1:\nfine\n### Candidate 2\nnope", 2, ("fine", "nope")),
        ("[2] only this", 2, (None, "only this")),
        ("[1] one\n[3] not there\n[1] more", 2, ("one\n[3] not there\nmore", None)),
        ("[1]\n[2]", 2, None),
        ("No sections at all.", 2, None),
        ("No sections at all.", 1, ("No sections at all.",)),
        ("", 1, None),
    ],
)
def test_critiques(text: str, count: int, critiques: tuple[str | None, ...] | None) -> None:
    assert read_critiques(text, count) == critiques


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("[Correct]", True),
        ("[Incorrect]", False),
        ("**[incorrect]**", False),
        ("Verdict: correct", True),
        ("Verdict: **incorrect**", False),
        ("Verdict: [Incorrect]", False),
        ("Verdict: not correct", False),
        ("I said [Correct].\nOn reflection: [Incorrect]", False),
        ("Correct.", True),
        ("Incorrect", False),
        ("Step 1 holds.\nThe response is correct.", True),
        ("Step 1 holds.\nSo the answer is not correct.", False),
        ("[Correct] or [Incorrect]", None),
        ("Verdict: correct or Verdict: incorrect", None),
        ("It is not incorrect", None),
        ("The correct answer is 12.", None),
        ("???", None),
        ("", None),
    ],
)
def test_verdicts(text: str, verdict: bool | None) -> None:
    assert read_verdict(text) is verdict


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 7", 7.0),
        ("**Score:** 8/10", 8.0),
        ("First Score: 3, on reflection\nScore: 9", 9.0),
        ("Rating: [[8]]", 8.0),
        ("I give it a score of 7.5 out of 10", 7.5),
        ("7/10", 7.0),
        ("**7**", 7.0),
        ("Score: 11", None),
        ("Score: 0", None),
        ("Score: -3", None),
        ("Score: N", None),
        ("17/10", None),
        ("It has 5 steps and 3 errors.", None),
        ("", None),
    ],
)
def test_scores(text: str, score: float | None) -> None:
    assert read_score(text) == score


@given(ANY_TEXT)
def test_a_score_lies_in_its_range(text: str) -> None:
    score = read_score(text)
    assert score is None or 1 <= score <= 10


@given(
    st.lists(st.booleans(), min_size=1, max_size=10),
    st.sampled_from(["{n}. [{r}] a password", "Test {n}: {r}", "| {n} | {r} |"]),
)
def test_test_results_are_read_back(results: list[bool], line: str) -> None:
    words = {True: "Passed", False: "Failed"}
    reply = "\n".join(line.format(n=number, r=words[result]) for number, result in enumerate(results, 1))
    assert read_test_results(reply, len(results)) == tuple(results)


@given(ANY_TEXT, st.integers(1, 6))
def test_there_are_always_as_many_results_as_tests(text: str, count: int) -> None:
    assert len(read_test_results(text, count)) == count


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("1. [Passed]\n2. [Failed] it never passed the password check", (True, False)),
        ("2. [Failed]", (None, False)),
        ("1. Passed: good\n2. Failed: it passed nothing", (True, False)),
        ("1. The answer says X.\n   [Passed]\n2. The answer says Y.\n   [Failed]", (True, False)),
        ("[Passed]\n[Failed]", (True, False)),
        ("[Passed]", (None, None)),
        ("1. [Passed]\n2. [Failed]\nOn reflection:\n2. [Passed]", (True, True)),
        ("1. [Passed] or [Failed]\n2. [Passed] or [Failed]", (None, None)),
        ("1. it mentions a password\n2. it surpassed all", (None, None)),
        ("3. [Passed]\n0. [Passed]", (None, None)),
        ("", (None, None)),
    ],
)
def test_test_results(text: str, results: tuple[bool | None, ...]) -> None:
    assert read_test_results(text, 2) == results


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("1. The answer is 12.\n2. It shows a product.\n3. Too many.", ("The answer is 12.", "It shows a product.")),
        ("Here they are:\n\n1) **The answer** is 12.\n\n2) The answer is 12.", ("The answer is 12.",)),
        ("- one thing\n- another", ("one thing", "another")),
        ("1. ...\n2. …", ()),
        ("No list.", ()),
        ("**1.** First.\n**Test 2:** Second.", ("First.", "Second.")),
    ],
)
def test_statements(text: str, statements: tuple[str, ...]) -> None:
    assert read_statements(text, 2) == statements


@pytest.mark.parametrize(
    "unit", ["[1] > ", "[1", "1 ", "> [", "correct ", "Score: ", "1. [", "  ", "candidate 1 ", "\n[1] x", "*_`"]
)
def test_readers_stay_quick_on_hostile_text(unit: str) -> None:
    text = unit * (20_000 // len(unit))

    def read() -> None:
        read_ranking(text, 5)
        read_preference(text)
        read_critiques(text, 5)
        read_verdict(text)
        read_score(text)
        read_test_results(text, 5)
        read_statements(text, 5)

    assert cpu_seconds(read, enough=2.0) < 2.0
