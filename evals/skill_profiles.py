"""Profiles of a skill router from recorded outcomes: what each model is good at, skill by skill.

A right answer to a question counts +1 for each of the question's skills, a wrong one -1, as in Symbolic
Mixture-of-Experts (arXiv 2503.05641). The skills of a question are those that a model names in several draws
(`nodes.skill_profiles.repeated_skills`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from db.errors import DataError
from nodes.skill_profiles import Profile, SkillProfiles

__all__ = ["SkillOutcome", "skill_profiles"]


class SkillOutcome(NamedTuple):
    """How one model did on one question that needs some skills."""

    model: str
    skills: tuple[str, ...]
    correct: bool


def skill_profiles(
    outcomes: Iterable[SkillOutcome], *, fewest: int = 1, aggregator: str | None = None
) -> SkillProfiles:
    """Return the profiles of all models that outcomes are of, in order of appearance.

    A skill counts for all models or for none: for those that `fewest` outcomes of each model have, so that models are
    compared on the same skills. Raises `DataError` where no skill is left.
    """
    sums: dict[str, defaultdict[str, int]] = {}
    counts: dict[str, defaultdict[str, int]] = {}
    for outcome in outcomes:
        total, count = (
            sums.setdefault(outcome.model, defaultdict(int)),
            counts.setdefault(outcome.model, defaultdict(int)),
        )
        for skill in dict.fromkeys(outcome.skills):
            total[skill] += 1 if outcome.correct else -1
            count[skill] += 1
    shared = {skill for count in counts.values() for skill in count}
    shared = {skill for skill in shared if all(count.get(skill, 0) >= fewest for count in counts.values())}
    if not shared:
        raise DataError(
            f"No skill has {fewest} outcomes of each of {len(counts)} models; record more, or ask for fewer."
        )
    profiles = tuple(
        Profile(model=model, skills=tuple((skill, float(total[skill])) for skill in sorted(shared)))
        for model, total in sums.items()
    )
    return SkillProfiles(profiles=profiles, aggregator=aggregator)
