"""Naming skills: a model says in several draws which skills a question needs; each stands for one of a profile's."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import NamedTuple, Self

from pydantic import Field, model_validator

from nodes.base import CallPlan, Context, Estimator, Note, Range, Shape, exactly
from nodes.calls import failure_notes
from nodes.retrieval import Retrieving, nearest
from nodes.settings import OneModel
from nodes.shown import quoted
from nodes.skill_profiles import MOST_SKILLS, repeated_skills, skill_names

__all__ = ["NeededSkills", "SkillNaming"]


class NeededSkills(NamedTuple):
    """The skills that a question needs."""

    named: tuple[str, ...]
    """As the model names them."""
    known: tuple[str, ...]
    """Those of the profiles that they stand for, each once."""
    notes: list[Note]


class SkillNaming(Retrieving, OneModel):
    """A technique that lets a model name the skills of a question."""

    example_replies = MappingProxyType({"skills": "- counting\n- Multiplication of rows."})

    draws: int = Field(default=5, ge=1, le=64, description="How often the skills of the question are named.")
    keep: int = Field(default=2, ge=1, description="Draws that must name a skill for it to count.")

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if self.keep > self.draws:
            raise ValueError(f"keep is {self.keep}, but a skill is named in {self.draws} draws at most")
        return self

    async def needed(self, question: str, skills: Sequence[str], context: Context) -> NeededSkills:
        """Ask which skills the question needs, and find each among the known ones."""
        asked = await context.ask(
            self.model, "skills", {"question": quoted(question)}, n=self.draws, sampling=self.sampling()
        )
        notes = failure_notes(context.node, asked.failures, f"skills with {self.model}")
        named = [skill_names(sample.completion.text) for sample in asked.samples]
        if unread := sum(not names for names in named):
            notes.append(Note(context.node, "unparsed", f"{unread} of {len(named)} replies name no skill"))
        kept = repeated_skills(named, self.keep)
        known: tuple[str, ...] = ()
        if kept:
            rows, failed = await self.compare(context, kept, skills)
            notes += failed
            best = [(skills[place], row[place]) for row in rows for place in nearest(row, 1)]
            known = tuple(dict.fromkeys(skill for skill, nearness in best if nearness > 0))
        if not known:
            why = "no skill that is named is like one of the profiles" if kept else "no skill was named often enough"
            notes.append(Note(context.node, "fallback", f"{why}; experts are drawn by their strength alone"))
        return NeededSkills(kept, known, notes)

    def foretell_naming(self, shape: Shape, estimator: Estimator, skills: Sequence[str]) -> tuple[CallPlan, ...]:
        """Plan the draws for certain, and the vectors of what they name."""
        draws = estimator.call(
            self.model,
            "skills",
            {"question": ""},
            inserted=shape.question,
            calls=exactly(self.draws),
            n=self.draws,
            sampling=self.sampling(),
        )
        most = self.draws * MOST_SKILLS // self.keep
        named = Range(0, min(3, most), most)
        return (draws, *self.foretell_compare(estimator, named, draws.completion_tokens, skills))
