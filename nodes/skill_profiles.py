"""What models are good at, skill by skill: the profiles of a skill router, their file, and the arithmetic of choosing.

The file is JSON; `evals.skill_profiles` makes it from recorded outcomes:

    {"form": "colonnade-skills-1", "profiles": [{"model": "fast", "skills": {"counting": 3}}], "aggregator": "strong"}
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic import WithJsonSchema as Schema

from nodes.learned import LearnedFile
from nodes.parsing import read_statements
from nodes.settings import ModelName

__all__ = [
    "SKILLS_FORM",
    "Profile",
    "SkillProfiles",
    "expert_shares",
    "recruited",
    "repeated_skills",
    "skill_names",
    "strengths",
]

SKILLS_FORM: Final = "colonnade-skills-1"
"""Version of the form of the file."""

_FILE: Final = LearnedFile(SKILLS_FORM, "profiles", "evals.skill_profiles")
MOST_SKILLS: Final = 5
"""Skills that are read of one reply."""


def _pairs(value: object) -> object:
    return tuple(value.items()) if isinstance(value, Mapping) else value


def _sorted(value: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    # In one order, so that equal profiles are one architecture.
    return tuple(sorted(dict(value).items()))


_Number = Annotated[float, Field(allow_inf_nan=False)]
SkillScores = Annotated[
    tuple[tuple[Annotated[str, Field(min_length=1)], _Number], ...],
    BeforeValidator(_pairs),
    AfterValidator(_sorted),
    PlainSerializer(dict),
    Schema({"type": "object"}),
]
"""Scores by skill, written as a mapping."""


class Profile(BaseModel):
    """What one model is good at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelName = Field(description="Alias of `models.yaml` or `provider/name`.")
    skills: SkillScores = Field(description="Score by skill: right answers less wrong ones, or any scale of yours.")


class SkillProfiles(BaseModel):
    """The profiles of several models, and the model that puts answers together best."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["colonnade-skills-1"] = SKILLS_FORM
    profiles: tuple[Profile, ...] = Field(min_length=1)
    aggregator: ModelName | None = None

    def save(self, path: Path | str) -> None:
        """Write the profiles as a JSON file."""
        _FILE.write(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path | str) -> SkillProfiles:
        """Read the file; raises `DataError` where there is none or it is no such file."""
        return _FILE.read_as(path, cls)


def skill_names(reply: str) -> tuple[str, ...]:
    """Read the skills that a reply names, one a line of a list, in small letters; none is an empty tuple."""
    return tuple(dict.fromkeys(name.casefold().rstrip(".") for name in read_statements(reply, MOST_SKILLS)))


def repeated_skills(named: Sequence[Sequence[str]], least: int) -> tuple[str, ...]:
    """Return the skills that at least so many draws name, the most often named first, then in order of naming."""
    counts = Counter(skill for draw in named for skill in dict.fromkeys(draw))
    return tuple(skill for skill, count in counts.most_common() if count >= least)


def strengths(profiles: Sequence[Profile]) -> list[float]:
    """Return each model's part in the sum of all scores, which is its global strength; they add up to 1.

    A model whose scores add up to less than nothing has none; where none has any, all are equally strong.
    """
    totals = [max(0.0, math.fsum(score for _, score in profile.skills)) for profile in profiles]
    whole = math.fsum(totals)
    return [total / whole for total in totals] if whole else [1 / len(totals)] * len(totals)


def expert_shares(
    profiles: Sequence[Profile], skills: Sequence[str], *, temperature: float, least: float
) -> list[float]:
    """Return the chance of each model to be recruited for a question that needs these skills of the profiles.

    The softmax, at a temperature, of suitability (the sum of a model's scores on the skills) times global strength;
    without a skill, of the strength alone. What lies below `least` goes to the others in proportion.
    """
    strong = strengths(profiles)
    suited = [sum(dict(profile.skills).get(skill, 0.0) for skill in skills) if skills else 1.0 for profile in profiles]
    logits = [one * strength / temperature for one, strength in zip(suited, strong, strict=True)]
    raised = [math.exp(logit - max(logits)) for logit in logits]
    shares = [one / math.fsum(raised) for one in raised]
    left = [share if share >= least else 0.0 for share in shares]
    whole = math.fsum(left)
    return [share / whole for share in left] if whole else shares


def recruited(shares: Sequence[float], k: int, question: str, seed: int) -> Counter[int]:
    """Draw k models with replacement, by their places; which follows from the question and the seed alone."""
    digest = hashlib.sha256(f"{seed}\n{question}".encode("utf-8", "surrogatepass")).digest()
    drawn = random.Random(int.from_bytes(digest[:8], "big")).choices(range(len(shares)), weights=shares, k=k)
    return Counter(drawn)
