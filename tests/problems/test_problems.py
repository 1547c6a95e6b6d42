"""Problems: exact, reproducible in every process, in splits that cannot overlap."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.problems import EXACT, Difficulty, Family, Problem, Split, check, check_steps, draw_stories, make_problems
from evals.problems.arithmetic import Event, Story
from evals.problems.base import LEVELS, exactly
from evals.problems.dates import MONTHS

FAMILIES: tuple[Family, ...] = ("arithmetic", "dates")
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
families = st.sampled_from(FAMILIES)
seeds = st.integers(0, 10_000)

_LINE = re.compile(r"(\d+) ([+*/-]) (\d+) = (-?\d+)(?: ([A-Z][a-z]+))?")


def story(*events: Event, start: int = 12) -> Story:
    return Story(level="easy", name="Mia", other="Tom", item="pens", start=start, events=events)


@settings(max_examples=40, deadline=None)
@given(families, seeds, st.sampled_from(("easy", "medium", "hard", "mixed")))
def test_every_line_of_a_solution_is_true_and_the_last_gives_the_answer(
    family: Family, seed: int, difficulty: Difficulty
) -> None:
    for problem in make_problems(family, 3, split="train", difficulty=difficulty, seed=seed):
        *lines, last = problem.solution
        value = ""
        for line in lines:
            step = _LINE.fullmatch(line)
            assert step is not None, line
            left, sign, right, value, month = step.groups()
            first, second = int(left), int(right)
            results = {"+": first + second, "-": first - second, "*": first * second, "/": first / second}
            assert results[sign] == int(value)
            assert month is None or month in MONTHS
        assert last == f"Answer: {problem.answer}"
        assert not lines or value == problem.answer
        assert int(problem.answer) >= 0


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_dates_agree_with_the_calendar(seed: int) -> None:
    for problem in make_problems("dates", 4, split="dev", seed=seed):
        day, month = re.findall(r"opens on (\d+) ([A-Z][a-z]+)", problem.question)[0]
        spans = re.findall(r"(\d+) (days|weeks) later", problem.question)
        days = sum(int(count) * (7 if unit == "weeks" else 1) for count, unit in spans)
        # 2001 to 2003 are common years, which the stories are set in
        end = date(2001, MONTHS.index(month) + 1, int(day)) + timedelta(days=days)
        assert problem.answer == str(end.day)


@pytest.mark.parametrize(
    ("events", "told", "lines"),
    [
        (
            (Event(kind="packs", word="bags", first=3, second=4), Event(kind="loss", word="loses", first=5)),
            "Mia buys 3 bags with 4 each. Mia loses 5. How many pens has Mia now?",
            ("3 * 4 = 12", "12 + 12 = 24", "24 - 5 = 19", "Answer: 19"),
        ),
        (
            (Event(kind="share", word="rots", first=4), Event(kind="stranger", word="cats", first=9)),
            "One in 4 rots. Tom has 9 cats. How many pens has Mia now?",
            ("12 / 4 = 3", "12 - 3 = 9", "Answer: 9"),
        ),
        (
            (Event(kind="times", word="heap", first=3), Event(kind="compare", word="aunt", first=6, second=1)),
            "The heap grows to 3 times its size. That is 6 more than the aunt has. How many pens has the aunt now?",
            ("12 * 3 = 36", "36 - 6 = 30", "Answer: 30"),
        ),
        (
            (Event(kind="gain", word="wins", first=8), Event(kind="compare", word="king", first=6, second=0)),
            "Mia wins 8 more. That is 6 fewer than the king has. How many pens has the king now?",
            ("12 + 8 = 20", "20 + 6 = 26", "Answer: 26"),
        ),
    ],
)
def test_a_story_is_told_and_worked_out(events: tuple[Event, ...], told: str, lines: tuple[str, ...]) -> None:
    assert story(*events).question == f"Mia has 12 pens. {told}"
    assert story(*events).solve(EXACT) == lines


@settings(max_examples=20, deadline=None)
@given(families, seeds, seeds)
def test_no_problem_is_in_two_splits_whatever_the_seeds(family: Family, one: int, other: int) -> None:
    found: dict[str, set[str]] = {
        split: {p.question for p in make_problems(family, 20, split=split, seed=seed)}
        for split, seed in zip(SPLITS, (one, other, one), strict=True)
    }
    assert not found["train"] & found["dev"]
    assert not found["train"] & found["test"]
    assert not found["dev"] & found["test"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_problem_told_of_someone_else_is_in_the_same_split(family: Family) -> None:
    if family == "dates":
        drawn = next(draw_stories(family, split="dev"))
        assert drawn.canonical.split(":")[0] == "dates"
        return
    told = story(Event(kind="gain", word="wins", first=8))
    renamed = Story(level="easy", name="Leo", other="Eva", item="eggs", start=12, events=told.events)
    assert renamed.question != told.question
    assert renamed.canonical == told.canonical


@pytest.mark.parametrize("family", FAMILIES)
def test_problems_differ_carry_their_labels_and_a_longer_list_begins_like_a_shorter_one(family: Family) -> None:
    problems = make_problems(family, 60, split="test")
    assert len({p.id for p in problems}) == len({p.question for p in problems}) == 60
    assert {(p.family, p.split) for p in problems} == {(family, "test")}
    assert [p.difficulty for p in problems[:6]] == [*LEVELS, *LEVELS]
    assert make_problems(family, 9, split="test") == problems[:9]
    assert {p.difficulty for p in make_problems(family, 5, split="test", difficulty="hard")} == {"hard"}


def test_harder_problems_take_more_steps() -> None:
    for family in FAMILIES:
        levels: tuple[Difficulty, ...] = ("easy", "medium", "hard")
        steps = [sum(len(p.solution) for p in make_problems(family, 100, split="train", difficulty=d)) for d in levels]
        assert steps[0] < steps[1] < steps[2]


def test_another_process_makes_the_same_problems() -> None:
    program = (
        "from evals.problems import make_problems\n"
        "for f in ('arithmetic', 'dates'):\n"
        "    print(*[p.id for p in make_problems(f, 5, split='test', seed=3)])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env).stdout
        for env in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"})
    ]
    here = [" ".join(p.id for p in make_problems(f, 5, split="test", seed=3)) for f in FAMILIES]
    assert runs == ["\n".join(here) + "\n"] * 2


PROBLEM = Problem(
    id="x",
    family="arithmetic",
    split="test",
    difficulty="easy",
    question="Mia has 12 pens. Mia buys 3 bags with 4 each. How many pens has Mia now?",
    answer="24",
    solution=("3 * 4 = 12", "12 + 12 = 24", "Answer: 24"),
)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("3 * 4 = 12\n12 + 12 = 24\nAnswer: 24", True),
        ("**Answer:** 24", True),
        ("The answer is 24.", True),
        ("answer: $24.00", True),
        ("Answer: 7\nNo, wait.\nAnswer: 24", True),
        ("Answer: 24\nAnswer: 7", False),
        ("Answer: 024", True),
        ("Answer: 1,024", False),
        ("Answer: 24.5", False),
        ("Answer: -24", False),
        ("24", False),
        ("", False),
    ],
)
def test_a_reply_is_checked_by_its_last_answer(reply: str, right: bool) -> None:
    assert check(PROBLEM, reply) is right


@pytest.mark.parametrize(
    ("reply", "labels"),
    [
        ("3 * 4 = 12\n12 + 12 = 24\nAnswer: 24", [True, True, True]),
        ("4*3 = 12\n\n12+12=24.\nanswer:24", [True, True, True]),
        ("3 + 4 = 7\n12 + 7 = 19\nAnswer: 19", [False, False, False]),
        ("3 * 4 = 12\n12 + 12 = 25\nAnswer: 24", [True, False, False]),
        ("3 * 4 = 12\nAnswer: 24", [True, False]),
        ("3 * 4 = 12\n12 + 12 = 24\nAnswer: 24\n1 + 1 = 2", [True, True, True, False]),
        ("", []),
    ],
)
def test_steps_are_right_up_to_the_first_wrong_one(reply: str, labels: list[bool]) -> None:
    assert check_steps(PROBLEM, reply) == labels


@settings(max_examples=40, deadline=None)
@given(families, seeds)
def test_an_exact_solution_passes_its_own_check(family: Family, seed: int) -> None:
    for problem in make_problems(family, 3, split="dev", seed=seed):
        text = "\n".join(problem.solution)
        assert check(problem, text)
        assert check_steps(problem, text) == [True] * len(problem.solution)


@given(st.integers(0, 99), st.integers(1, 99))
def test_a_division_is_rounded_down(left: int, right: int) -> None:
    assert exactly(left, "/", right) * right <= left < (exactly(left, "/", right) + 1) * right
