"""Scorers: from an architecture's final text to a value between 0 and 1."""

from evals.scorers.extracted import ExtractedScorer
from evals.scorers.judge import JudgeScorer
from evals.scorers.pattern import RegexScorer
from evals.scorers.registry import SCORER_NAMES, ScorerName, make_scorer

__all__ = ["SCORER_NAMES", "ExtractedScorer", "JudgeScorer", "RegexScorer", "ScorerName", "make_scorer"]
