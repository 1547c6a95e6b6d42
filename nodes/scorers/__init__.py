"""Scorers: what tells good candidates from bad ones, one file each; an algorithm and a scorer together make a paper."""

from nodes.scorers.base import OneModelScorer, Scored, Scorer
from nodes.scorers.registry import AnyScorer, describe_scorer, get_scorer, scorer, scorer_names

__all__ = [
    "AnyScorer",
    "OneModelScorer",
    "Scored",
    "Scorer",
    "describe_scorer",
    "get_scorer",
    "scorer",
    "scorer_names",
]
