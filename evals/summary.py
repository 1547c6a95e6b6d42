"""What an evaluation came to: accuracy with interval, calls, tokens, dollars, latency; and two runs compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from db.errors import ConfigError
from db.runs import ItemRecord
from evals.paired import PairedDifference, paired_difference
from evals.stats import CostPerCorrect, Interval, bootstrap_mean, cost_per_correct, quantile, wilson

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "Summary", "compare", "summarise", "to_frame"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One run over its items. `used` counts all samples an architecture drew, `paid` those bought in this run."""

    items: int
    correct: int
    accuracy: float
    """Mean score, from 0 to 1; failed items count as 0."""
    interval: Interval
    """Of the accuracy, 95 %."""
    interval_method: Literal["bootstrap", "wilson"]
    failed: int
    problems: Mapping[str, int]
    """Items by class of failure, and by what kept them from a plain score (`no_answer`, `judge_failed`, ...)."""
    calls_used: int
    calls_paid: int
    prompt_tokens_used: int
    completion_tokens_used: int
    prompt_tokens_paid: int
    completion_tokens_paid: int
    cost_used: Decimal | None
    """Dollars; None where a price is unknown."""
    cost_paid: Decimal | None
    cost_per_correct: CostPerCorrect
    """From the dollars used: what a right answer costs where nothing is cached."""
    latency_p50_s: float
    """Wall seconds of an item; calls from the cache make it shorter."""
    latency_p95_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs on the items that both have done."""

    first: Summary
    second: Summary
    accuracy: PairedDifference
    """First minus second."""
    cost_difference: Decimal | None
    """Dollars used by the first minus those of the second, in all; None where a price is unknown."""
    only_first: int
    """Items that only the first run has; they are left out."""
    only_second: int


def summarise(results: Sequence[ItemRecord], *, seed: int = 0) -> Summary:
    """Sum up one run; raises `ConfigError` without results."""
    if not results:
        raise ConfigError("There are no results to sum up; the run has not finished an item yet.")
    scores = [record.score or 0.0 for record in results]
    correct = [bool(record.correct) for record in results]
    binary = set(scores) <= {0.0, 1.0}
    latencies = [record.latency_s for record in results]
    costs = [record.cost_used for record in results]
    return Summary(
        items=len(results),
        correct=sum(correct),
        accuracy=sum(scores) / len(scores),
        interval=wilson(round(sum(scores)), len(scores)) if binary else bootstrap_mean(scores, seed=seed),
        interval_method="wilson" if binary else "bootstrap",
        failed=sum(record.status == "failed" for record in results),
        problems=dict(Counter(record.error_class for record in results if record.error_class is not None)),
        calls_used=sum(record.calls_used for record in results),
        calls_paid=sum(record.calls_paid for record in results),
        prompt_tokens_used=sum(record.prompt_tokens_used for record in results),
        completion_tokens_used=sum(record.completion_tokens_used for record in results),
        prompt_tokens_paid=sum(record.prompt_tokens_paid for record in results),
        completion_tokens_paid=sum(record.completion_tokens_paid for record in results),
        cost_used=_sum(costs),
        cost_paid=_sum([record.cost_paid for record in results]),
        cost_per_correct=cost_per_correct(costs, correct, seed=seed),
        latency_p50_s=quantile(latencies, 0.5),
        latency_p95_s=quantile(latencies, 0.95),
    )


def compare(first: Sequence[ItemRecord], second: Sequence[ItemRecord], *, seed: int = 0) -> Comparison:
    """Compare two runs item by item; raises `ConfigError` where they share no item or hold an item twice."""
    a, b = _by_item(first), _by_item(second)
    shared = [item for item in a if item in b]
    if not shared:
        raise ConfigError(
            f"The two runs share no item ({len(a)} and {len(b)} items); compare runs on the same task and sample."
        )
    one, two = summarise([a[i] for i in shared], seed=seed), summarise([b[i] for i in shared], seed=seed)
    gap = None if one.cost_used is None or two.cost_used is None else one.cost_used - two.cost_used
    return Comparison(
        first=one,
        second=two,
        accuracy=paired_difference([a[i].score or 0.0 for i in shared], [b[i].score or 0.0 for i in shared], seed=seed),
        cost_difference=gap,
        only_first=len(a) - len(shared),
        only_second=len(b) - len(shared),
    )


def to_frame(results: Sequence[ItemRecord]) -> pd.DataFrame:
    """Return results as a pandas table, one row an item, without traces; raises `ConfigError` without pandas."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ConfigError("A table of results needs pandas: pip install 'colonnade[plot]'.") from error
    columns = [name for name in ItemRecord.__dataclass_fields__ if name != "trace"]
    return pd.DataFrame([asdict(record) for record in results], columns=columns)


def _by_item(results: Sequence[ItemRecord]) -> dict[str, ItemRecord]:
    by_item = {record.item_id: record for record in results}
    if len(by_item) < len(results):
        raise ConfigError("A run holds an item twice; compare one architecture of each run at a time.")
    return by_item


def _sum(costs: Sequence[Decimal | None]) -> Decimal | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known, Decimal(0)) if len(known) == len(costs) else None
