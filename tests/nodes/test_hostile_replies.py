"""What a model writes is read in linear time, whatever it is: a reply in a loop holds up no other item."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import get_args

import pytest

from evals.few_shot import _reasoning
from nodes.answers import extract
from nodes.arms import read_fits
from nodes.base import AnswerKind
from nodes.calls_in_text import read_calls, read_plan
from nodes.choices import read_choices
from nodes.chops import read_pick
from nodes.concept_store import read_concept
from nodes.hint_injection import read_advice
from nodes.parsing import (
    read_critiques,
    read_preference,
    read_ranking,
    read_score,
    read_statements,
    read_test_results,
    read_verdict,
)
from nodes.routing_model import hashed_words
from nodes.scorers.constraint_check import _read
from nodes.segments import states_answer
from nodes.shown import quoted
from nodes.skill_profiles import recruited, skill_names
from nodes.spawning import before_spawns, read_result, read_spawns
from nodes.structured import read_fields
from tests.helpers import cpu_seconds

TIMES = 5_000
LONGEST_S = 0.8
"""A reader that goes over the text once for each line takes two seconds or more; one pass takes milliseconds."""

LOOPS = {
    "\n": "lines",
    " \n": "blank lines",
    ":\n": "colons",
    "*": "stars",
    "[": "brackets",
    "[1] > ": "ranking",
    "#E1 = a[": "plan",
    "call: a[\n": "calls",
    "Spawn: \n": "spawns",
    "\nResult: a": "results",
    "answer ": "answer",
    "best: ": "best",
    "Hint\n": "hints",
    "Concept:\n": "concepts",
    "1. a\n": "list",
    "score ": "score",
    "test 1 ": "tests",
    "\\boxed{": "boxes",
    '{"a":': "objects",
    '"': "quotes",
    "1,": "digits",
    "(A) x\n": "choices",
    "correct ": "verdict",
    "-\n": "dashes",
}


def _extracted(kind: AnswerKind, text: str) -> str | None:
    return extract(text, kind)


READERS: dict[str, Callable[[str], object]] = {
    "advice": read_advice,
    "calls": lambda text: read_calls(text, 8),
    "choices": read_choices,
    "concept": read_concept,
    "constraints": lambda text: _read(text, 5),
    "critiques": lambda text: read_critiques(text, 5),
    "examples": lambda text: _reasoning(text, "4"),
    "fields": read_fields,
    "fits": lambda text: read_fits(text, 4),
    "pick": lambda text: read_pick(text, 5),
    "plan": lambda text: read_plan(text, 8),
    "preference": read_preference,
    "quoted": quoted,
    "ranking": lambda text: read_ranking(text, 5),
    "result": read_result,
    "said before spawns": before_spawns,
    "score": read_score,
    "segment": states_answer,
    "skills": skill_names,
    "spawns": lambda text: read_spawns(text, 4),
    "statements": lambda text: read_statements(text, 5),
    "test results": lambda text: read_test_results(text, 5),
    "verdict": read_verdict,
    **{f"answer {kind}": partial(_extracted, kind) for kind in get_args(AnswerKind)},
}


@pytest.mark.parametrize("reader", READERS)
def test_a_reply_in_a_loop_is_read_in_no_time(reader: str) -> None:
    def read(loop: str) -> None:
        READERS[reader](f"{'a' + loop * TIMES}b")
        READERS[reader](loop * TIMES)

    took = {name: cpu_seconds(partial(read, loop), enough=LONGEST_S) for loop, name in LOOPS.items()}
    assert {name: seconds for name, seconds in took.items() if seconds > LONGEST_S} == {}


def test_advice_and_concepts_are_read_as_before() -> None:
    advice = read_advice("**Flaw:** 3 * 4 = 13\n\n- **Hint**: multiply again\nand add")
    assert advice is not None
    assert (advice.flaw, advice.hint) == ("3 * 4 = 13", "multiply again\nand add")
    concept = read_concept("\n\n**Situation**: Rows.\n\n- *Concept:*\nMultiply them.")
    assert concept == ("Rows.", "Multiply them.")


def test_a_question_that_is_no_unicode_is_refused_by_the_gateway_and_not_before() -> None:
    # The gateway says in one sentence what is wrong; a router that looks at the question first must not break on it.
    places, counts = hashed_words("half a pair \ud800", 64)
    assert len(places) == len(counts) > 0
    assert recruited([0.5, 0.5], 3, "half a pair \ud800", 0).total() == 3
