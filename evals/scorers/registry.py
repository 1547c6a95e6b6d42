"""Scorers by name, as they stand in a task's options."""

from __future__ import annotations

from typing import Literal, get_args

from db.errors import ConfigError, did_you_mean
from evals.scorers.extracted import ComparedKind, ExtractedScorer
from evals.scorers.judge import JudgeScorer
from evals.scorers.pattern import RegexScorer
from evals.task import Scorer

__all__ = ["SCORER_NAMES", "ScorerName", "make_scorer"]

ScorerName = Literal["choice", "exact", "judge", "math", "numeric", "regex", "stated", "text"]
SCORER_NAMES: tuple[str, ...] = get_args(ScorerName)


def make_scorer(
    name: str, *, pattern: str | None = None, model: str | None = None, scale: Literal["binary", "ten"] = "binary"
) -> Scorer:
    """Make a scorer; raises `ConfigError` for an unknown name, a bad pattern, or a judge without a model."""
    if name == "regex":
        return RegexScorer(pattern=pattern)
    if name == "judge":
        if not model:
            raise ConfigError(
                "The scorer 'judge' needs a model; add the option judge_model, such as judge_model=strong."
            )
        return JudgeScorer(model=model, scale=scale)
    for kind in get_args(ComparedKind):
        if name == ("stated" if kind == "auto" else kind):
            return ExtractedScorer(kind=kind)
    raise ConfigError(f"There is no scorer {name!r}.{did_you_mean(name, SCORER_NAMES)}")
