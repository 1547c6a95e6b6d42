from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from architectures.context import NodeContext, Run
from nodes.base import Shape, State, exactly
from nodes.chops import Chops, read_pick
from nodes.rank import Rank
from nodes.testing import ScriptedEstimator, drafted, try_out
from providers.book import ModelBook
from providers.errors import ContextLengthExceeded
from providers.gateway import Gateway
from providers.scope import Scope

FOUR = State(question="Q", candidates=drafted("a", "b", "c", "d"))


def scores(state: State) -> dict[str, float]:
    return {candidate.text: candidate.scores["here"] for candidate in state.candidates}


def test_one_call_shows_all_candidates_and_asks_for_the_checklist_first() -> None:
    tried = try_out("chops", FOUR, ["Checklist:\n1. [Form] short\n2. right\nBest: [3]"], model="m")
    assert tried.texts == ["c"]
    assert scores(tried.state) == {"c": 1.0}
    assert tried.state.notes == ()
    (prompt,) = tried.context.history
    assert all(f'<candidate number="{n}">\n{text}\n' in prompt.text for n, text in enumerate("abcd", 1))
    assert prompt.text.index("First write a checklist") < prompt.text.index("Then compare") < prompt.text.index("Best:")


@given(st.integers(2, 40))
def test_the_number_of_calls_does_not_grow_with_the_candidates(count: int) -> None:
    many = State(question="Q", candidates=drafted(*(f"text {n}" for n in range(count))))
    tried = try_out("chops", many, [f"Best: [{count}]"], model="m")
    assert tried.context.calls == 1
    assert tried.texts == [f"text {count - 1}"]
    plan = Chops(model="m").plan(Shape(question=exactly(1), candidates=exactly(count)), ScriptedEstimator(exactly(9)))
    assert [call.calls for call in plan.calls] == [exactly(1)]


def test_several_picks_come_in_the_order_of_the_judge() -> None:
    tried = try_out("chops", FOUR, ["Best: [4] > [2]"], model="m", keep=2)
    assert scores(tried.state) == {"d": 1.0, "b": 0.5}
    assert "names the best 2" in tried.context.history[0].text


def test_fewer_picks_than_wanted_are_filled_up_and_noted() -> None:
    tried = try_out("chops", FOUR, ["Best: [4]"], model="m", keep=3)
    assert tried.texts == ["d", "a", "b"]
    assert scores(tried.state) == {"d": 1.0, "a": 0.0, "b": 0.0}
    assert tried.notes == [("fallback", "the reply picks 1 of 3; others follow in their order")]


@pytest.mark.parametrize(
    "reply", ["Checklist:\n1. [2] cups\n2. [3] rows\nAll are good.", "Best: [9]", "Best: none", ""]
)
def test_an_unreadable_pick_keeps_the_order_and_says_so(reply: str) -> None:
    tried = try_out("chops", FOUR, [reply], model="m")
    assert tried.texts == ["a"]
    assert scores(tried.state) == {"a": 0.5}
    assert [kind for kind, _ in tried.notes] == ["unparsed"]


def test_a_failed_call_keeps_the_order_and_says_so() -> None:
    tried = try_out("chops", FOUR, [ContextLengthExceeded("too long")], model="m", keep=2)
    assert tried.texts == ["a", "b"]
    assert [kind for kind, _ in tried.notes] == ["call_failed", "fallback"]
    assert "context_length: too long" in tried.notes[0][1]


def test_a_lone_candidate_is_not_asked_about() -> None:
    tried = try_out("chops", State(question="Q", candidates=drafted("a")), model="m")
    assert (tried.context.calls, scores(tried.state)) == (0, {"a": 1.0})


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("Best: [2]", (1,)),
        ("**Best:** [2]", (1,)),
        ("Best: candidate 2", (1,)),
        ("Best: [2] because it beats [1]", (1,)),
        ("Best: [1]\nNo, on second thoughts.\nBest: [3] > [1]", (2, 0)),
        ("[1] wrong [2] right\nRanking: [2] > [1] > [3]", (1, 0, 2)),
        ("2", (1,)),
        ("The best is hard to tell: [1] has form, [2] substance.", None),
        ("Best: both", None),
        ("Best: 12 cups", None),
    ],
)
def test_picks_are_read_from_their_own_line(text: str, order: tuple[int, ...] | None) -> None:
    read = read_pick(text, 3)
    assert (read.order[: read.named] if read else None) == order


async def test_the_embedded_judge_picks_what_it_ranks_first() -> None:
    state = State(
        question="Ann has 16 plums. Ann wins 4 more. Then Ann eats 3. How many plums has Ann now?",
        candidates=drafted(*(f"16 + 4 = 20\n20 {step}\nAnswer: {step[-2:]}" for step in ("/ 5 = 04", "- 3 = 17"))),
    )
    async with Gateway(ModelBook(env={}), None) as gateway:
        context = NodeContext("here", 0, Run(gateway=gateway, scope=Scope("r", "i"), answer_kind="auto"))
        picked = await Chops(model="embedded/judge", temperature=0).run(state, context)
        ranked = await Rank(model="embedded/judge", temperature=0, keep=1).run(state, context)
    assert picked.notes == ()
    assert picked.candidates == ranked.candidates
