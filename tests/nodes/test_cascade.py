"""Cascades: who is asked, who is believed, what learned thresholds are, and what fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from db.errors import ColonnadeError, DataError, InsufficientCandidates
from nodes.base import State
from nodes.cascade import Cascade
from nodes.cascade_thresholds import CascadeThresholds
from nodes.testing import Prompt, Tried, try_out
from providers.errors import Overloaded

STATE = State(question="How many?")
JUDGE = {"use": "judge", "model": "j"}


def ask(said: dict[str, list[object]], **settings: object) -> Tried:
    """Let each model give its answers by sample index; `j` gives marks in turn."""

    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        reply = said["j"].pop(0) if prompt.template == "judge" else said[prompt.model][index]
        if isinstance(reply, ColonnadeError):
            return reply
        return f"Score: {reply}" if prompt.template == "judge" else f"Answer: {reply}"

    return try_out(Cascade.model_validate(settings), STATE, script, answer_kind="numeric")


def test_the_cheap_model_is_believed_where_its_samples_agree() -> None:
    tried = ask({"a": [4, 4, 4]}, stages=["a", "b"], samples=[3, 1], threshold=1.0)
    assert tried.texts == ["Answer: 4"]
    assert tried.state.measures == {"agreement": 1.0, "confidence": 1.0, "drawn": 3, "stage": 1}


def test_the_next_one_is_asked_where_they_do_not_and_the_last_is_believed_as_it_is() -> None:
    tried = ask({"a": [4, 4, 5], "b": [6]}, stages=["a", "b"], samples=[3, 1], threshold=1.0)
    assert tried.texts == ["Answer: 6"]
    assert tried.state.measures == {"agreement": 1.0, "confidence": 1.0, "drawn": 4, "stage": 2}
    assert [c.id for c in tried.state.candidates] == ["here:4"]


def test_each_stage_has_its_own_threshold() -> None:
    tried = ask({"a": [4, 5], "b": [6, 7]}, stages=["a", "b", "c"], samples=2, threshold=[0.9, 0.5])
    assert tried.state.measures["stage"] == 2


def test_a_scorer_gives_the_confidence_and_never_scores_the_last_stage() -> None:
    tried = ask({"a": [4], "b": [6], "j": [3]}, stages=["a", "b"], samples=1, threshold=0.5, scorer=JUDGE)
    assert tried.texts == ["Answer: 6"]
    assert [p.template for p in tried.context.history] == ["generate", "judge", "generate"]
    sure = ask({"a": [4], "j": [9]}, stages=["a", "b"], samples=1, threshold=0.5, scorer=JUDGE)
    assert sure.state.measures["confidence"] == pytest.approx(8 / 9)
    assert sure.state.candidates[0].scores == {"here": pytest.approx(8 / 9)}


def test_what_the_scorer_cannot_tell_is_no_confidence() -> None:
    tried = ask({"a": [4], "b": [6], "j": [Overloaded("503")]}, stages=["a", "b"], samples=1, threshold=0, scorer=JUDGE)
    assert tried.texts == ["Answer: 6"]
    assert tried.notes == [("call_failed", "judge here:1: overloaded: 503")]


def test_a_stage_that_fails_is_passed_over() -> None:
    failed: list[object] = [Overloaded("503")] * 2
    tried = ask({"a": [*failed], "b": [6, 6]}, stages=["a", "b"], samples=2)
    assert tried.texts == ["Answer: 6"]
    assert [kind for kind, _ in tried.notes] == ["call_failed"] * 2


def test_where_the_last_ones_fail_the_surest_of_the_earlier_is_believed() -> None:
    failed: list[object] = [Overloaded("503")] * 4
    tried = ask(
        {"a": [4, 4, 4, 5], "b": [6, 6, 7, 8], "c": [*failed]}, stages=["a", "b", "c"], samples=4, threshold=0.9
    )
    assert tried.texts == ["Answer: 4"]
    assert tried.state.measures["stage"] == 1
    assert tried.notes[-1] == ("fallback", "no later stage answered; stage 1 is believed")
    with pytest.raises(InsufficientCandidates, match="4 calls failed, the last with overloaded: 503"):
        ask({"a": failed[:2], "b": failed[2:]}, stages=["a", "b"], samples=2)


def test_models_and_what_they_need() -> None:
    cascade = Cascade.model_validate({"stages": ["a", "b", "a"], "scorer": JUDGE})
    assert cascade.models() == ("a", "b", "j")
    assert cascade.required_of("a") == cascade.required_of("j") == frozenset()
    assert cascade.demands() == frozenset()
    tested = Cascade.model_validate({"stages": ["a", "b"], "scorer": {"use": "tests", "model": "j"}})
    assert tested.demands() == {"tests"}


@pytest.mark.parametrize(
    ("given_settings", "said"),
    [
        ({"samples": [1]}, "samples has 1 entries for 2 stages"),
        ({"threshold": [0.5, 0.5]}, "threshold has 2 entries; 2 stages need 1"),
        ({"scorer": "nothing"}, "There is no scorer 'nothing'"),
        ({"threshold": float("nan")}, "finite number"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given_settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Cascade.model_validate({"stages": ["a", "b"], **given_settings})


LEARNED = CascadeThresholds(stages=("a", "b"), thresholds=(0.75,), accuracy=0.9, cost=1.5, target=0.9, trained_on=100)


def test_learned_thresholds_become_the_settings_own(tmp_path: Path) -> None:
    file = tmp_path / "thresholds.json"
    LEARNED.save(file)
    assert CascadeThresholds.load(file) == LEARNED
    cascade = Cascade.model_validate({"stages": ["a", "b"], "thresholds_file": str(file)})
    assert cascade.threshold == (0.75,)
    assert cascade == Cascade(stages=("a", "b"), threshold=(0.75,))
    with pytest.raises(ValidationError, match="learned for the stages a, b; name these"):
        Cascade.model_validate({"stages": ["b", "a"], "thresholds_file": str(file)})
    with pytest.raises(ValidationError, match="cannot be read"):
        Cascade.model_validate({"stages": ["a", "b"], "thresholds_file": str(tmp_path / "none.json")})
    for wrong in ({"stages": None, "thresholds_file": str(file)}, {"stages": ["a", "b"], "thresholds_file": 5}):
        with pytest.raises(ValidationError, match="Input should be a valid"):
            Cascade.model_validate(wrong)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "{", "is not valid JSON; make it again with evals.cascades"),
        (lambda text: "[1]", "holds no thresholds of the form 'colonnade-cascade-1'"),
        (lambda text: text.replace("cascade-1", "cascade-0"), "holds no thresholds of the form"),
        (lambda text: text.replace('"accuracy"', '"a"'), "is broken"),
        (lambda text: text.replace("0.75", "0.75, 0.5"), "2 thresholds for 2 stages"),
    ],
)
def test_a_file_that_is_wrong_says_what(tmp_path: Path, change: Callable[[str], str], said: str) -> None:
    file = tmp_path / "thresholds.json"
    replace(LEARNED, target=0.8).save(file)
    file.write_text(change(file.read_text()))
    with pytest.raises(DataError, match=said):
        CascadeThresholds.load(file)
