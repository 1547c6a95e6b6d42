"""Whole searches whose items are scored by chance instead of models: what is said at the end, and of whom."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from architectures import load
from colonnade.study_tables import study_text
from flows.evaluate import TaskChoice
from flows.search import search
from flows.search_job import SearchJob
from flows.search_piece import Piece, PieceDone
from flows.session import open_session
from flows.studies import study_view
from flows.study_view import Spent, StudyView
from search.objective import Measured
from tests.flows.search_support import tiny_job
from tests.helpers import write_task

RUNS = 200
TRUTH = 0.6


def chance(*what: object) -> float:
    """Return a number from 0 to 1 that follows from these words alone."""
    digest = hashlib.sha256("\x1f".join(map(str, what)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True, slots=True)
class Chance:
    """Scores pieces in the place of models, as often right as `quality` says of an architecture and an item."""

    seed: int
    quality: Callable[[str, float], float]
    """Of the architecture's id and the item's luck, which all architectures share."""

    async def __call__(self, piece: Piece) -> PieceDone:
        """Score a piece; fresh samples have luck of their own."""
        architecture = load(piece.architecture).spec.id
        measured = []
        for item in piece.items:
            right = self.quality(architecture, chance(self.seed, item))
            luck = chance(self.seed, architecture, item, piece.fresh)
            measured.append(Measured(quality=float(luck < right), dollars=1e-4, calls=1.0))
        return PieceDone(measured=tuple(measured), used=Spent(calls_used=len(measured)))


async def searched(jobs: list[SearchJob], quality: Callable[[str, float], float]) -> list[StudyView]:
    """Run searches one after the other in one session and show what came of each."""
    views = []
    async with open_session(jobs[0].session) as session:
        for job in jobs:
            await search(job, session, runner=Chance(job.seed, quality))
            views.append(study_view(job.id, session.database))
    return views


@pytest.mark.timeout(600)
def test_where_all_points_are_equal_the_end_covers_the_truth_and_finds_nothing(tmp_path: Path) -> None:
    """Items differ in how hard they are, so that a winner chosen on easy items would be seen to be too good."""
    task = TaskChoice(name=str(write_task(tmp_path, 160)))
    options: dict[str, Any] = {"task": task, "history": (), "trials": 10, "rungs": (12, 36), "finalists": 3}
    jobs = [tiny_job(tmp_path, seed=seed, **options) for seed in range(RUNS)]
    views = asyncio.run(searched(jobs, lambda _, luck: TRUTH + 0.6 * (luck - 0.5)))
    covered = nothing = 0
    on_dev, held_out = list[float](), list[float]()
    for view in views:
        assert view.ending is not None
        winner = view.ending.contenders[0]
        covered += winner.interval.low <= TRUTH <= winner.interval.high
        nothing += not view.ending.difference_found and "no difference from" in study_text(view)
        held_out.append(winner.quality)
        on_dev.append(view.trials[winner.trial or 0].quality or 0.0)
    assert covered >= 0.9 * RUNS
    assert nothing >= 0.9 * RUNS
    # The search itself is fooled, as it must be: what it saw of its winners is too good.
    assert np.mean(on_dev) > TRUTH + 0.03
    assert np.mean(held_out) == pytest.approx(TRUTH, abs=0.015)
