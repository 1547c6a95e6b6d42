"""The skill router: skills by repeated naming, weights by hand, recruits by seed, answers grouped by model."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from db.errors import ColonnadeError, InsufficientCandidates
from nodes.base import State
from nodes.registry import get
from nodes.skill_profiles import (
    Profile,
    SkillProfiles,
    expert_shares,
    recruited,
    repeated_skills,
    skill_names,
    strengths,
)
from nodes.testing import Prompt, ScriptedContext, Tried, try_out
from providers.base import Asked
from providers.errors import Overloaded
from providers.turns import ModelTurns

QUESTION = State(question="On which day does it end?")
PROFILES = [
    {"model": "counter", "skills": {"counting": 6, "calendar": -6, "law": 1}},
    {"model": "dater", "skills": {"counting": -6, "calendar": 6, "law": 1}},
]


def scripted(
    named: Iterable[str] = ("- calendar",), answer: Callable[[Prompt, int], str | ColonnadeError] | None = None
) -> Callable[[Prompt, int], str | ColonnadeError]:
    draws = list(named)

    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        if prompt.template == "skills":
            return draws[index % len(draws)]
        return answer(prompt, index) if answer else f"{prompt.model} {index}\nAnswer: 3"

    return script


def routed(script: Callable[[Prompt, int], str | ColonnadeError], **settings: object) -> Tried:
    node = get("skill_router").model_validate({"model": "namer", "profiles": PROFILES, **settings})
    return try_out(node, QUESTION, script)


def asked(tried: Tried) -> dict[str, int]:
    return {prompt.model: prompt.n for prompt in tried.context.history if prompt.template == "generate"}


def test_the_models_with_the_skills_of_the_question_are_asked_grouped() -> None:
    tried = routed(scripted(), experts=4, sharpness=0.05)
    assert asked(tried) == {"dater": 4}
    assert asked(routed(scripted(["- counting"]), experts=4, sharpness=0.05)) == {"counter": 4}
    assert tried.context.history[0].n == 5
    assert tried.state.measures == {"experts": 1, "skills": 1}
    assert [candidate.node for candidate in tried.state.candidates] == ["here"]
    assert tried.texts == ["dater 0\nAnswer: 3"]


def test_a_skill_counts_that_two_draws_name_in_whatever_form() -> None:
    replies = ["1. Calendar.\n2. counting", "Skills:\n- **calendar**\n- law", "I cannot say."]
    tried = routed(scripted(replies), draws=3, sharpness=0.05)
    assert tried.state.measures["skills"] == 1
    assert asked(tried) == {"dater": 3}
    assert ("unparsed", "1 of 3 replies name no skill") in tried.notes
    assert routed(scripted(replies), draws=3, keep=1).state.measures["skills"] == 3


@pytest.mark.parametrize(
    ("named", "why"),
    [
        (["- cooking"], "no skill that is named is like one of the profiles"),
        (["- law", "- counting"], "no skill was named often enough"),
    ],
)
def test_without_a_known_skill_strength_alone_decides(named: list[str], why: str) -> None:
    strong = [{"model": "weak", "skills": {"law": 1}}, {"model": "strong", "skills": {"law": 9}}]
    tried = routed(scripted(named), draws=2, profiles=strong, sharpness=0.1, experts=2)
    assert asked(tried) == {"strong": 2}
    assert ("fallback", f"{why}; experts are drawn by their strength alone") in tried.notes


def test_weights_are_those_of_the_paper() -> None:
    """w ∝ exp(γ·S/T): suitability S on the question's skills, strength γ the part in the sum of all scores."""
    profiles = [Profile(model="a", skills={"x": 3, "y": 1}), Profile(model="b", skills={"x": 1, "y": 3})]
    profiles.append(Profile(model="c", skills={"x": -4, "y": 1}))
    assert strengths(profiles) == [0.5, 0.5, 0]
    raised = [math.exp(0.5 * 3 / 0.5), math.exp(0.5 * 1 / 0.5), math.exp(0)]
    expected = [one / sum(raised) for one in raised]
    assert expert_shares(profiles, ["x"], temperature=0.5, least=0) == pytest.approx(expected)
    # c has 4 % and is left out; its share goes to the others in proportion.
    assert 0.04 < expected[2] < 0.05
    left = [raised[0] / sum(raised[:2]), raised[1] / sum(raised[:2]), 0]
    assert expert_shares(profiles, ["x"], temperature=0.5, least=0.05) == pytest.approx(left)


def test_models_without_any_strength_are_equals() -> None:
    assert strengths([Profile(model=name, skills={"x": -1}) for name in "abc"]) == [1 / 3] * 3


@given(
    scores=st.lists(st.lists(st.integers(-50, 50), min_size=2, max_size=2), min_size=1, max_size=30),
    least=st.floats(0, 0.5),
    temperature=st.floats(0.01, 5),
)
def test_shares_add_up_to_one_and_none_is_small(scores: list[list[int]], least: float, temperature: float) -> None:
    profiles = [Profile(model=f"m{place}", skills={"x": x, "y": y}) for place, (x, y) in enumerate(scores)]
    shares = expert_shares(profiles, ["x"], temperature=temperature, least=least)
    assert math.fsum(shares) == pytest.approx(1)
    if any(share == 0 for share in shares):
        assert all(share == 0 or share >= least for share in shares)


def test_recruits_follow_from_question_and_seed_in_the_long_run_by_their_shares() -> None:
    shares = [0.6, 0.3, 0.1]
    assert recruited(shares, 3, "Why?", 0) == recruited(shares, 3, "Why?", 0)
    drawn = [recruited(shares, 3, f"Why {n}?", 0) for n in range(2000)]
    assert drawn != [recruited(shares, 3, f"Why {n}?", 1) for n in range(2000)]
    assert all(one.total() == 3 for one in drawn)
    total: Counter[int] = sum(drawn, Counter())
    # Four standard deviations of the mean of 6,000 draws are 0.025.
    assert [total[place] / 6000 for place in range(3)] == pytest.approx(shares, abs=0.025)


def test_repeated_skills_are_counted_once_a_draw() -> None:
    assert repeated_skills([("a", "a", "b"), ("b", "c"), ("b",)], 2) == ("b",)
    assert repeated_skills([("b", "a"), ("a",)], 1) == ("a", "b")
    assert skill_names("- Algebra\n- algebra.\n- Number theory") == ("algebra", "number theory")
    assert skill_names("Algebra, I think.") == ()


def test_the_aggregator_sees_all_answers() -> None:
    script = scripted(answer=lambda prompt, index: "fused" if prompt.template == "fuse" else f"{prompt.model} {index}")
    tried = routed(script, aggregate=[{"fuse": {"model": "judge"}}], sharpness=0.05)
    assert tried.texts == ["fused"]
    prompt = tried.context.history[-1]
    assert prompt.model == "judge"
    assert all(f"dater {index}" in prompt.text for index in range(3))
    (fused,) = tried.state.candidates
    assert fused.id == "here/1:1"
    assert fused.parents == ("here:1", "here:2", "here:3")


def test_a_failed_aggregator_leaves_the_vote() -> None:
    def answer(prompt: Prompt, index: int) -> str | ColonnadeError:
        return Overloaded("503") if prompt.template == "fuse" else f"Answer: {(7, 8, 8)[index]}"

    tried = routed(scripted(answer=answer), aggregate=[{"fuse": {"model": "judge"}}], sharpness=0.05)
    assert tried.texts == ["Answer: 8"]
    assert ("fallback", "the experts' vote is handed on") in tried.notes
    assert any(
        kind == "call_failed" and "aggregate" in detail and "overloaded" in detail for kind, detail in tried.notes
    )


def test_experts_that_fail_are_noted_and_the_rest_answer() -> None:
    def answer(prompt: Prompt, index: int) -> str | ColonnadeError:
        return Overloaded("503") if index else "Answer: 5"

    tried = routed(scripted(answer=answer), sharpness=0.05)
    assert tried.texts == ["Answer: 5"]
    assert [kind for kind, _ in tried.notes] == ["call_failed", "call_failed"]
    with pytest.raises(InsufficientCandidates, match="'here' has nothing left to hand on"):
        routed(scripted(answer=lambda prompt, index: Overloaded("503")))


def test_bad_settings_say_what_is_wrong(tmp_path: Path) -> None:
    cases: dict[str, dict[str, object]] = {
        "keep is 6, but a skill is named in 5 draws": {"keep": 6},
        "one profile for each expert": {"profiles": PROFILES + PROFILES[:1]},
        "the experts do not give": {"aggregate": [{"unit_test_evaluate": {"model": "a"}}]},
        "in technique 'fuse': model": {"aggregate": ["fuse"]},
        "from one of them": {"profiles_file": "profiles.json"},
        "cannot be read": {"profiles": [], "profiles_file": str(tmp_path / "none.json")},
        r"profiles_file\n  Input should be a valid string": {"profiles": [], "profiles_file": 5},
    }
    for message, settings in cases.items():
        with pytest.raises(ValidationError, match=message):
            routed(scripted(), **settings)
    broken = tmp_path / "profiles.json"
    broken.write_text('{"form": "colonnade-skills-1", "profiles": [{"model": "a", "skills": {"x": "much"}}]}')
    with pytest.raises(ValidationError, match=r"profiles\.0\.skills"):
        routed(scripted(), profiles=[], profiles_file=str(broken))


def test_what_a_file_says_stands_in_the_architecture(tmp_path: Path) -> None:
    path = tmp_path / "profiles.json"
    profiles = tuple(Profile.model_validate(profile) for profile in PROFILES)
    SkillProfiles(profiles=profiles, aggregator="judge").save(path)
    learned = get("skill_router").model_validate({"model": "namer", "profiles_file": str(path)})
    path.unlink()
    settings = learned.settings()
    assert get("skill_router").model_validate(settings) == learned
    assert settings["aggregate"][0]["fuse"]["model"] == "judge"
    assert [profile["model"] for profile in settings["profiles"]] == ["counter", "dater"]
    assert set(learned.models()) == {"namer", "counter", "dater", "judge"}


def test_the_order_of_skills_in_a_profile_is_no_other_architecture() -> None:
    turned = [{**profile, "skills": dict(reversed(list(profile["skills"].items())))} for profile in PROFILES]  # type: ignore[attr-defined]
    one, other = (
        get("skill_router").model_validate({"model": "namer", "profiles": given}) for given in (PROFILES, turned)
    )
    assert one == other
    assert one.settings() == other.settings()


class InTurns(ScriptedContext):
    """A context of a machine that holds one model at a time."""

    def __init__(self, turns: ModelTurns) -> None:
        super().__init__(scripted(["- law"]))
        self.turns = turns

    async def ask(self, model: str, *args: object, **settings: object) -> Asked:
        async with self.turns.of(model):
            await asyncio.sleep(0.001)
            return await super().ask(model, *args, **settings)  # type: ignore[arg-type]


def test_turns_of_models_load_each_expert_once_for_all_questions() -> None:
    node = get("skill_router").model_validate({"model": "namer", "profiles": PROFILES, "experts": 2})

    async def work() -> ModelTurns:
        turns = ModelTurns(linger_s=0.01)
        states = [State(question=f"Which law is number {number}?") for number in range(30)]
        await asyncio.gather(*(node.run(state, InTurns(turns)) for state in states))
        return turns

    turns = asyncio.run(work())
    # The namer, then each of the two experts.
    assert turns.changes == 3
    assert turns.changes_else > 20
