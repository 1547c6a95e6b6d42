"""Profiles from recorded outcomes, and the aggregator that stands against a majority of wrong answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import DataError
from evals.aggregators import Aggregated, Recorded, best_aggregator, make_trials
from evals.skill_profiles import SkillOutcome, skill_profiles
from nodes.skill_profiles import SkillProfiles


def test_right_answers_count_for_and_wrong_ones_against_each_skill(tmp_path: Path) -> None:
    outcomes = [
        SkillOutcome("a", ("sums", "dates"), True),
        SkillOutcome("a", ("sums", "sums"), True),
        SkillOutcome("a", ("dates",), False),
        SkillOutcome("b", ("sums", "dates", "law"), False),
    ]
    made = skill_profiles(outcomes, aggregator="b")
    assert {profile.model: dict(profile.skills) for profile in made.profiles} == {
        "a": {"dates": 0, "sums": 2},
        "b": {"dates": -1, "sums": -1},
    }
    made.save(tmp_path / "profiles.json")
    assert SkillProfiles.load(tmp_path / "profiles.json") == made


def test_skills_that_are_seldom_seen_are_left_out() -> None:
    outcomes = [SkillOutcome(model, ("sums",), True) for model in "aabb"] + [SkillOutcome("a", ("law",), True)]
    assert [dict(profile.skills) for profile in skill_profiles(outcomes, fewest=2).profiles] == [{"sums": 2}] * 2
    with pytest.raises(DataError, match="No skill has 3 outcomes of each of 2 models"):
        skill_profiles(outcomes, fewest=3)


answers = st.lists(st.builds(Recorded, st.sampled_from("abcdef"), st.booleans()), max_size=8)


@given(st.dictionaries(st.text(max_size=5), answers, max_size=5), st.integers(0, 3))
def test_a_trial_has_one_right_and_two_different_wrong_responses(
    recorded: dict[str, list[Recorded]], seed: int
) -> None:
    trials = make_trials(recorded, seed=seed)
    assert trials == make_trials(recorded, seed=seed)
    for trial in trials:
        right = {one.text for one in recorded[trial.question] if one.correct}
        assert len(set(trial.responses)) == 3
        assert [text in right for text in trial.responses] == [place == trial.right for place in range(3)]
    able = {
        question
        for question, given in recorded.items()
        if (right := {one.text for one in given if one.correct})
        and len({one.text for one in given if not one.correct} - right) >= 2
    }
    assert {trial.question for trial in trials} == able


def test_the_right_response_stands_in_every_place_equally_often() -> None:
    recorded = {f"{n}": [Recorded("a", True), Recorded("b", False), Recorded("c", False)] for n in range(600)}
    places = [trial.right for trial in make_trials(recorded)]
    # Four standard deviations of a third of 600 are 46.
    assert all(abs(places.count(place) - 200) < 46 for place in range(3))


def test_the_best_aggregator_is_the_one_that_is_right_on_the_same_questions() -> None:
    outcomes = [Aggregated("cheap", question, question in "ab") for question in "abcd"]
    outcomes += [Aggregated("dear", question, question in "abc") for question in "abcd"]
    outcomes += [Aggregated("lucky", question, True) for question in "abd"]
    found = best_aggregator(outcomes)
    # Question c is passed over, since `lucky` has not tried it.
    assert found.accuracies == {"cheap": pytest.approx(2 / 3), "dear": pytest.approx(2 / 3), "lucky": 1}
    assert (found.best, found.questions) == ("lucky", 3)
    assert found.interval.low < 1 == found.interval.high
    equals = best_aggregator([one for one in outcomes if one.aggregator != "lucky" and one.question in "ab"])
    assert equals.best == "cheap"


def test_aggregators_without_a_shared_question_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="no question that all of 2 aggregators have tried"):
        best_aggregator([Aggregated("a", "1", True), Aggregated("b", "2", True)])
    with pytest.raises(DataError, match="all of 0"):
        best_aggregator([])
