"""Thresholds of a cascade from recorded outcomes: the cheapest ones that keep an accuracy.

Each stage is tried alone on the same questions. For a stage but the last that is a cascade of itself and any other,
with `threshold: 0`, which always believes it and measures its confidence as the cascade to come will; for the last one
a cascade of one stage:

    cascade: {stages: [fast, strong], samples: 3, threshold: 0}
    cascade: {stages: [strong], samples: 3}

`stage_outcomes` reads such a run, `learn_thresholds` puts the runs together, and `CascadeThresholds.save` writes the
file that the setting `thresholds_file` names. FrugalGPT (arXiv 2305.05176) learns its thresholds so, under a budget in
place of an accuracy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import orjson

from db.errors import DataError
from db.runs import ItemRecord
from evals.used import Unit, used
from nodes.cascade_thresholds import CascadeThresholds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["StageOutcome", "learn_thresholds", "stage_outcomes"]

_NEVER = 2.0
"""A threshold that no confidence reaches."""
_MOST_TABLES = 20_000
"""Combinations of thresholds that are tried."""


class StageOutcome(NamedTuple):
    """What one stage came to on one question."""

    confidence: float
    """0..1; below 0 where the stage gave no answer to believe."""
    score: float
    """0..1."""
    cost: float


def stage_outcomes(
    results: Sequence[ItemRecord], *, node: str = "cascade", unit: Unit = "dollars"
) -> dict[str, StageOutcome]:
    """Return what the first stage of a recorded cascade came to, by item.

    An item that failed, or in which the first stage had no answer or no score, can never be believed; its cost is then
    what all stages of the record took. Raises `DataError` where no item has the node, and where dollars are asked for
    and a price is unknown.
    """
    found, seen = {}, False
    for record in results:
        measures = orjson.loads(record.trace).get("outcome", {}).get("nodes", {}).get(node, {}).get("measures", {})
        seen = seen or "confidence" in measures
        believed = measures.get("stage") == 1 and record.status == "ok"
        found[record.item_id] = StageOutcome(
            float(measures["confidence"]) if believed else -1.0,
            (record.score or 0.0) if believed else 0.0,
            used(record, unit),
        )
    if not seen:
        raise DataError(f"No item tells the confidence of a node {node!r}; keep traces, and check the node's id.")
    return found


def learn_thresholds(
    stages: Mapping[str, Mapping[str, StageOutcome]], *, target: float | None = None
) -> CascadeThresholds:
    """Return the cheapest thresholds whose accuracy is at least `target`; None asks for that of the last stage alone.

    `stages` gives the outcomes by item for each model, cheap to strong, each model once. Only items that all stages
    have count. What may become a threshold lies between two confidences that occur; where stages and questions are
    many, only some of those. Accuracy and cost are those on the same questions, so they flatter a little: look at them
    on others. Raises `DataError` for fewer than two stages, without an item that all have, and where no thresholds
    reach the target.
    """
    if len(stages) < 2:
        raise DataError(f"A cascade has two stages or more to learn thresholds for, not {len(stages)}.")
    shared = [item for item in next(iter(stages.values())) if all(item in outcomes for outcomes in stages.values())]
    if not shared:
        raise DataError(f"There is no item that all of {', '.join(stages)} have tried; give all the same questions.")
    tried = [[outcomes[item] for item in shared] for outcomes in stages.values()]
    wanted = math.fsum(one.score for one in tried[-1]) / len(shared) if target is None else target
    best = _cheapest(tried, wanted)
    return CascadeThresholds(
        stages=tuple(stages),
        thresholds=best.thresholds,
        accuracy=best.accuracy,
        cost=best.cost,
        target=wanted,
        trained_on=len(shared),
    )


class _Table(NamedTuple):
    """Thresholds with what they give in the mean."""

    thresholds: tuple[float, ...]
    accuracy: float
    cost: float


def _cheapest(tried: Sequence[Sequence[StageOutcome]], wanted: float) -> _Table:
    import numpy as np

    confidence, score, cost = (np.asarray([[one[i] for one in stage] for stage in tried]) for i in range(3))
    most = max(2, int(_MOST_TABLES ** (1 / (len(tried) - 1))))
    choices = [_thresholds([one.confidence for one in stage], most) for stage in tried[:-1]]
    tables = [_tried(chosen, confidence, score, cost) for chosen in itertools.product(*choices)]
    good = [table for table in tables if table.accuracy >= wanted - 1e-9]
    if not good:
        reached = max(table.accuracy for table in tables)
        raise DataError(f"No thresholds reach an accuracy of {wanted:.3g}; {reached:.3g} is the most. Ask for less.")
    return min(good, key=lambda table: (table.cost, -table.accuracy, table.thresholds))


def _thresholds(confidences: Sequence[float], most: int) -> list[float]:
    """Return 0, what lies midway between neighbouring confidences, and what is never reached; `most` at most."""
    levels = sorted({confidence for confidence in confidences if confidence >= 0})
    between = [(low + high) / 2 for low, high in itertools.pairwise(levels)]
    if len(between) > most - 2:
        between = [between[place * len(between) // (most - 2)] for place in range(most - 2)] if most > 2 else []
    return [0.0, *between, _NEVER]


def _tried(
    thresholds: Sequence[float],
    confidence: NDArray[np.float64],
    score: NDArray[np.float64],
    cost: NDArray[np.float64],
) -> _Table:
    import numpy as np

    asked = np.ones(confidence.shape[1], dtype=bool)
    right, paid = 0.0, 0.0
    for stage, threshold in enumerate([*thresholds, -math.inf]):
        paid += float(cost[stage][asked].sum())
        believed = asked & (confidence[stage] >= threshold)
        right += float(score[stage][believed].sum())
        asked &= ~believed
    return _Table(tuple(thresholds), right / len(asked), paid / len(asked))
