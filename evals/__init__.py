"""Tasks, scorers, statistics, and the runner of one architecture over many items.

The names are imported when they are first used: `evals.problems` is pure Python, and whoever trains a model on it
needs none of what the rest of the package needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evals.paired import PairedDifference, paired_difference
    from evals.runner import Evaluated, Runnable, evaluate_items
    from evals.scorers import make_scorer
    from evals.stats import CostPerCorrect, Interval, pass_at_k, wilson
    from evals.summary import Comparison, Summary, compare, summarise, to_frame
    from evals.task import Item, Score, Scorer, Task
    from evals.tasks import describe_tasks, load_task, parse_options, task_names

__all__ = [
    "Comparison",
    "CostPerCorrect",
    "Evaluated",
    "Interval",
    "Item",
    "PairedDifference",
    "Runnable",
    "Score",
    "Scorer",
    "Summary",
    "Task",
    "compare",
    "describe_tasks",
    "evaluate_items",
    "load_task",
    "make_scorer",
    "paired_difference",
    "parse_options",
    "pass_at_k",
    "summarise",
    "task_names",
    "to_frame",
    "wilson",
]

_MODULES = {
    "paired": ("PairedDifference", "paired_difference"),
    "runner": ("Evaluated", "Runnable", "evaluate_items"),
    "scorers": ("make_scorer",),
    "stats": ("CostPerCorrect", "Interval", "pass_at_k", "wilson"),
    "summary": ("Comparison", "Summary", "compare", "summarise", "to_frame"),
    "task": ("Item", "Score", "Scorer", "Task"),
    "tasks": ("describe_tasks", "load_task", "parse_options", "task_names"),
}


def __getattr__(name: str) -> object:
    import importlib

    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"evals.{module}"), name)
    raise AttributeError(f"module 'evals' has no attribute {name!r}")
