"""Problems with exact solutions that the embedded models know: word problems and date arithmetic."""

from evals.problems.base import EXACT, Difficulty, Family, Problem, Reader, Split
from evals.problems.checking import check, check_steps, match_steps, read_answer
from evals.problems.generator import Story, draw_stories, draw_story, make_problems, problem_of

__all__ = [
    "EXACT",
    "Difficulty",
    "Family",
    "Problem",
    "Reader",
    "Split",
    "Story",
    "check",
    "check_steps",
    "draw_stories",
    "draw_story",
    "make_problems",
    "match_steps",
    "problem_of",
    "read_answer",
]
