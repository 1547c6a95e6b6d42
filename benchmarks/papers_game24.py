"""The checker of the Game of 24 as a scorer: exact arithmetic on what a reply states as its answer."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from fractions import Fraction

from nodes.base import CallPlan, Candidate, Context, Estimator, Score, Shape, State
from nodes.scorers import Scored, Scorer, scorer

__all__ = ["Game24", "is_24"]

_NUMBER = re.compile(r"\d+")
_LONGEST = 200


def is_24(question: str, reply: str) -> bool:
    """Say whether the last line states an expression that uses each of the numbers once and makes 24."""
    stated = (reply.strip().splitlines() or [""])[-1].lower().replace("answer: ", "").partition("=")[0].strip()
    if len(stated) > _LONGEST or sorted(_NUMBER.findall(stated)) != sorted(_NUMBER.findall(question)):
        return False
    try:
        return _value(ast.parse(stated, mode="eval").body) == 24
    except (SyntaxError, ValueError, ZeroDivisionError):
        return False


def _value(node: ast.expr) -> Fraction:
    """Work an expression out; raises `ValueError` for anything but the four operations on whole numbers."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div():
                return left / right
    raise ValueError("no such operation")


@scorer("game24")
class Game24(Scorer):
    """Score a candidate 1 where it solves the puzzle, else 0.

    When to use it: for the Game of 24 alone.
    Calls: 0.
    Paper: Tree of Thoughts: Deliberate Problem Solving with Large Language Models (arXiv 2305.10601), Game of 24.
    Symbols: none.
    Example:
        ```yaml
        name: best-of-100
        layers:
          - generate: {model: fast, samples: 100, temperature: 0.7}
          - score: {scorer: game24, keep: 1}
        ```
    """

    bounds = (0.0, 1.0)

    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Check each candidate."""
        found = (is_24(state.question, candidate.text) for candidate in candidates)
        return Scored(tuple(Score(float(right), "game24") for right in found), [])

    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell no call."""
        return ()
