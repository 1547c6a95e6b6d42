"""Upper confidence bounds: the bandit by simulation, and the node's choices, pulls, rewards and failures."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from architectures.context import NodeContext, Run
from db.errors import ColonnadeError, InsufficientCandidates
from nodes.arm_statistics import ArmStatistics, Seen
from nodes.arms import read_fits
from nodes.bandit import ArmRecord, chosen_arm, pulled, remembered, ucb_index
from nodes.base import State
from nodes.registry import get
from nodes.testing import Prompt, ScriptedContext, Tried, try_out
from providers.book import ModelBook
from providers.errors import Overloaded
from providers.gateway import Gateway
from providers.scope import Scope

QUESTION = State(question="How many cups are 3 rows of 4?")
CHANCES = (0.2, 0.5, 0.8)


def regret(rounds: int, seed: int, priors: Sequence[float] = (0.5, 0.5, 0.5)) -> float:
    """Play arms that pay by chance, and return what was missed against always playing the best."""
    chance = random.Random(seed)
    arms = [ArmRecord(0, 0, prior) for prior in priors]
    missed = 0.0
    for _ in range(rounds):
        place = chosen_arm(arms, exploration=math.sqrt(2), prior_weight=1)
        arms[place] = pulled(arms[place], float(chance.random() < CHANCES[place]))
        missed += max(CHANCES) - CHANCES[place]
    assert sum(arm.pulls for arm in arms) == rounds
    return missed


@pytest.mark.parametrize("priors", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0)])
def test_regret_grows_as_the_logarithm(priors: Sequence[float]) -> None:
    """Theorem 1 of Auer et al. bounds it by Σ 8 ln T / Δ + (1 + π²/3) Σ Δ; wrong priors cost a constant."""
    gaps = [max(CHANCES) - chance for chance in CHANCES if chance < max(CHANCES)]
    early, late = (mean(regret(rounds, seed, priors) for seed in range(8)) for rounds in (500, 4000))
    assert late < sum(8 * math.log(4000) / gap for gap in gaps) + (1 + math.pi**2 / 3) * sum(gaps)
    # Eight times the rounds: linear regret would be eight times as much.
    assert late < 2.5 * early
    assert late < 0.15 * 4000 * mean(max(CHANCES) - chance for chance in CHANCES)


def test_the_index_is_mean_and_uncertainty_and_a_prior_that_fades() -> None:
    arm = ArmRecord(4, 0.5, 0.8)
    found = ucb_index(arm, 10, exploration=2, prior_weight=3)
    assert found == pytest.approx(0.5 + 2 * math.sqrt(math.log(10) / 4) + 3 * 0.8 / 5)
    assert ucb_index(ArmRecord(0, 0, 0), 10, exploration=2, prior_weight=3) == math.inf
    # Less than one pull in all: no logarithm below zero.
    assert ucb_index(ArmRecord(0.5, 0.3, 0), 0.5, exploration=2, prior_weight=0) == 0.3


records = st.builds(ArmRecord, st.floats(0.1, 1000), st.floats(0, 1), st.floats(0, 1))


@given(st.lists(records, min_size=1, max_size=6), st.floats(0, 3), st.floats(0, 3))
def test_more_reward_never_makes_an_arm_less_chosen(arms: list[ArmRecord], exploration: float, weight: float) -> None:
    place = chosen_arm(arms, exploration=exploration, prior_weight=weight)
    better = [*arms]
    better[place] = arms[place]._replace(reward=1.0)
    assert chosen_arm(better, exploration=exploration, prior_weight=weight) == place


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_mean_of_pulls_is_their_mean(rewards: list[float]) -> None:
    arm = ArmRecord(0, 0, 0.5)
    for reward in rewards:
        arm = pulled(arm, reward)
    assert arm.pulls == len(rewards)
    assert arm.reward == pytest.approx(mean(rewards))
    assert remembered(arm, 3) == arm._replace(pulls=min(3, len(rewards)))


def arms(*names: str, **more: object) -> list[dict[str, object]]:
    return [{"name": name, "steps": [{"generate": {"model": name}}], **more} for name in names]


def played(
    rewards: Mapping[str, float | None], given: list[dict[str, object]] | None = None, **settings: object
) -> Tried:
    """Try arms whose answers get these marks of ten by a judge; None for an arm that fails."""

    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        if prompt.template == "judge":
            name = next(name for name in rewards if f"answer of {name}" in prompt.text)
            return f"Score: {rewards[name]}"
        if rewards[prompt.model] is None:
            return Overloaded("503")
        return f"answer of {prompt.model} {index}"

    defaults: dict[str, object] = {"scorer": {"use": "judge", "model": "judge"}, "accept": 0.9}
    node = get("ucb_select").model_validate({**defaults, "arms": given or arms(*rewards), **settings})
    return try_out(node, QUESTION, script)


def order(tried: Tried) -> list[str]:
    return [prompt.model for prompt in tried.context.history if prompt.template == "generate"]


def test_arms_come_by_their_priors_until_an_answer_is_accepted() -> None:
    given = [*arms("a", prior=0.2), *arms("b", prior=0.9), *arms("c", prior=0.5)]
    tried = played({"a": 10, "b": 3, "c": 10}, given, pulls=3)
    assert order(tried) == ["b", "c"]
    assert tried.texts == ["answer of c 0"]
    assert tried.state.measures == {"arm": 2, "reward": 1.0, "tried": 2}
    (candidate,) = tried.state.candidates
    assert candidate.id == "here/2.1:1"
    assert candidate.scores == {"here": 1.0}


def test_where_none_is_accepted_the_best_of_all_is_handed_on() -> None:
    tried = played({"a": 3, "b": 7, "c": 5}, pulls=3)
    assert order(tried) == ["a", "b", "c"]
    assert tried.texts == ["answer of b 0"]
    assert tried.state.measures == {"arm": 1, "reward": pytest.approx(6 / 9), "tried": 3}


def test_an_arm_that_does_well_is_pulled_again_for_a_new_sample() -> None:
    tried = played({"a": 3, "b": 8}, pulls=6, exploration=0.3)
    assert order(tried) == ["a", "b", "b", "b", "b", "b"]
    indices = [prompt for prompt in tried.context.history if prompt.model == "b"]
    assert len(indices) == 5
    assert tried.texts == ["answer of b 0"]


@given(pulls=st.integers(1, 7), marks=st.lists(st.integers(1, 10), min_size=1, max_size=4))
def test_never_more_than_pulls_and_never_on_after_one_is_accepted(pulls: int, marks: list[int]) -> None:
    names = "abcd"[: len(marks)]
    tried = played({name: float(mark) for name, mark in zip(names, marks, strict=True)}, pulls=pulls)
    seen = order(tried)
    assert 1 <= len(seen) <= pulls
    assert tried.state.measures["tried"] == len(seen)
    good = [name for name, mark in zip(names, marks, strict=True) if mark == 10]
    if pulls > 1:
        assert not any(name in good for name in seen[:-1])
        assert seen[-1] in good or len(seen) == pulls


def test_what_earlier_runs_taught_decides_the_first_pull() -> None:
    taught = [*arms("a", pulls=100, reward=0.4), *arms("b", pulls=100, reward=0.9), *arms("c", pulls=100, reward=0.6)]
    tried = played({"a": 10, "b": 10, "c": 10}, taught, pulls=1, scorer=None)
    assert order(tried) == ["b"]
    assert tried.context.calls == 1
    assert tried.state.measures == {"arm": 1, "reward": 0.9, "tried": 1}


def test_a_long_memory_drowns_the_question_and_a_short_one_does_not() -> None:
    taught = [*arms("a", pulls=1000, reward=0.8), *arms("b", pulls=1000, reward=0.7)]
    rewards = {"a": 1, "b": 8}
    settings: dict[str, object] = {"pulls": 4, "exploration": 0.1, "prior_weight": 0}
    assert order(played(rewards, taught, memory=1000, **settings)) == ["a", "a", "a", "a"]
    assert order(played(rewards, taught, memory=2, **settings)) == ["a", "b", "b", "b"]


def test_a_model_gives_the_priors_of_the_question() -> None:
    def script(prompt: Prompt, index: int) -> str:
        if prompt.template == "ucb_priors":
            assert "1. a: Counts." in prompt.text
            return "1. 20\n2. Fits well: 85/100\n3. I cannot say"
        return f"answer of {prompt.model}"

    given = [*arms("a", about="Counts.", prior=0.9), *arms("b", prior=0.1), *arms("c", prior=0.6)]
    tried = try_out("ucb_select", QUESTION, script, arms=given, pulls=1, prior_model="p")
    assert tried.texts == ["answer of b"]
    assert tried.state.measures["reward"] == 0.85
    assert tried.notes == [("unparsed", "no prior for c; that of the settings holds")]


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("1. 70\n2. 40", [0.7, 0.4]),
        ("[1] 70 %\n**2)** about 40/100.", [0.7, 0.4]),
        ("1. 70\n1. 30", [0.3, None]),
        ("1. 101\n2. -5\n3. 50", [None, None]),
        ("70 and 40", [None, None]),
        ("2. Vote of 5: 33", [None, 0.33]),
    ],
)
def test_fits_are_read(text: str, fits: list[float | None]) -> None:
    assert read_fits(text, 2) == fits


def test_an_arm_that_fails_earns_nothing_and_another_is_tried() -> None:
    tried = played({"a": None, "b": 4}, pulls=2)
    assert tried.texts == ["answer of b 0"]
    ((kind, detail),) = tried.notes
    assert kind == "call_failed"
    assert detail.startswith("arm 'a': ")
    with pytest.raises(InsufficientCandidates, match=r"'here' has nothing left to hand on.*overloaded"):
        played({"a": None, "b": None}, pulls=3)


def test_steps_of_an_arm_work_on_one_another() -> None:
    voted = {"name": "voted", "steps": [{"generate": {"model": "a", "samples": 3}}, "vote"]}
    replies = ["Answer: 7", "Answer: 8", "Answer: 8"]
    tried = try_out("ucb_select", QUESTION, replies, arms=[voted], pulls=1)
    assert tried.texts == ["Answer: 8"]
    assert set(tried.state.measures) == {"arm", "reward", "tried"}
    assert set(tried.state.candidates[0].scores) == {"here"}


def test_no_item_learns_from_another() -> None:
    """The same node answers items in every order and side by side, each as if it were alone."""
    taught = [*arms("a", pulls=3, reward=0.5), *arms("b", pulls=3, reward=0.6), *arms("c")]
    node = get("ucb_select").model_validate(
        {"arms": taught, "pulls": 4, "scorer": {"use": "judge", "model": "j"}, "accept": 1}
    )

    def script(prompt: Prompt, index: int) -> str:
        chance = random.Random(f"{prompt.text} {prompt.model} {index}")
        return f"Score: {chance.randint(1, 10)}" if prompt.template == "judge" else f"{prompt.model} {chance.random()}"

    async def work(questions: Sequence[str], seed: int) -> dict[str, str]:
        contexts = [ScriptedContext(script, arrival=random.Random(seed)) for _ in questions]
        runs = (node.run(State(question=q), c) for q, c in zip(questions, contexts, strict=True))
        return {state.question: repr(state) for state in await asyncio.gather(*runs)}

    questions = ["Why?", "When?", "Who?", "Where?"]
    alone = {question: asyncio.run(work([question], 0))[question] for question in questions}
    for seed, turned in enumerate(itertools.permutations(questions)):
        assert asyncio.run(work(turned, seed)) == alone
    assert len(Counter(alone.values())) == 4


def test_what_a_file_says_stands_in_the_arms(tmp_path: Path) -> None:
    path = tmp_path / "arms.json"
    ArmStatistics(arms={"a": Seen(pulls=20, reward=0.25), "gone": Seen(pulls=1, reward=1)}).save(path)
    settings = {"arms": arms("a", "b"), "pulls": 1, "statistics_file": str(path)}
    node = get("ucb_select").model_validate(settings)
    plain = get("ucb_select").model_validate({"arms": arms("a", "b"), "pulls": 1})
    path.unlink()
    assert [(arm["pulls"], arm["reward"]) for arm in node.settings()["arms"]] == [(20, 0.25), (0, 0)]
    assert get("ucb_select").model_validate(node.settings()) == node != plain


def test_bad_settings_say_what_is_wrong(tmp_path: Path) -> None:
    broken = tmp_path / "arms.json"
    broken.write_text('{"form": "colonnade-arms-1", "arms": {"a": {"pulls": 3, "reward": 7}}}')
    others = tmp_path / "others.json"
    ArmStatistics(arms={"c": Seen(pulls=1, reward=1)}).save(others)
    cases: dict[str, dict[str, object]] = {
        r"knows the arms c and none of these \(a, b\)": {"statistics_file": str(others)},
        r"two arms have one name \(a, a\)": {"arms": arms("a", "a")},
        "3 pulls need a scorer": {"scorer": None},
        "arm 'x' makes no candidate": {"arms": [{"name": "x", "steps": [{"unit_test_generate": {"model": "a"}}]}]},
        "There is no technique 'generat'. Did you mean 'generate'": {"arms": [{"name": "x", "steps": ["generat"]}]},
        "cannot be read": {"statistics_file": str(tmp_path / "none.json")},
        r"arms\.a\.reward": {"statistics_file": str(broken)},
        r"statistics_file\n  Input should be a valid string": {"statistics_file": 5},
    }
    for message, more in cases.items():
        settings = {"arms": arms("a", "b"), "pulls": 3, "scorer": {"use": "judge", "model": "j"}, **more}
        with pytest.raises(ValidationError, match=message):
            get("ucb_select").model_validate(settings)


def test_a_reward_at_the_bar_is_accepted() -> None:
    assert order(played({"a": 10, "b": 10}, pulls=2, accept=1)) == ["a"]
    assert order(played({"a": 9, "b": 10}, pulls=2, accept=1)) == ["a", "b"]


async def test_the_judge_that_ships_sends_a_question_on_to_the_next_arm() -> None:
    arms = [
        {"name": "nano", "prior": 0.9, "steps": [{"generate": {"model": "embedded/nano", "temperature": 0.8}}]},
        {"name": "mini", "steps": [{"generate": {"model": "embedded/mini", "samples": 3, "temperature": 0.8}}, "vote"]},
    ]
    node = get("ucb_select").model_validate(
        {"arms": arms, "pulls": 2, "accept": 1, "scorer": {"use": "verdict_probability", "model": "embedded/judge"}}
    )
    question = "Ann has 16 plums. Ann wins 4 more. Then Ann eats 3. How many plums has Ann now?"
    async with Gateway(ModelBook.load(None, {}), None) as gateway:
        context = NodeContext("pick", 0, Run(gateway=gateway, scope=Scope("r-1", "1"), answer_kind="numeric"))
        state = await node.run(State(question=question), context)
    assert state.measures["tried"] == 2
    assert 0 < state.measures["reward"] < 1
    (candidate,) = state.candidates
    assert candidate.sources == {"pick": "verdict_probability embedded/judge"}
    assert candidate.model == ("embedded/nano", "embedded/mini")[int(state.measures["arm"])]
    assert not state.notes
