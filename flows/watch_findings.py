"""What a look finds: its tests, each at its part of the error, and the sentences that say what came of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from db.errors import ConfigError
from db.looks import CallsSeen, Measure, calls_seen, measures
from flows.watch_job import Finding, FindingKind, WatchJob

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from db.database import Database
    from evals.watch import Shift

__all__ = ["Past", "findings", "mean_score"]

_QUALITY, _COST, _ANSWERS = 0.6, 0.2, 0.2
"""How the error is divided; the part of the cost is divided again among dollars, tokens and calls."""
_SOME = 3
"""Looks before the newest whose answers are compared with its own."""

Column = Literal["calls", "dollars", "score", "tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The reference and the looks that are remembered, the newest last."""

    run_ids: tuple[str, ...]
    references: int
    """How many of the runs are the reference; they come first."""
    runs: tuple[Mapping[str, Measure], ...]
    """Measures by item."""
    calls: Mapping[str, CallsSeen]
    """By run, of the reference and of the newest looks."""

    @classmethod
    def read(cls, database: Database, references: Sequence[str], looks: Sequence[str]) -> Past:
        """Read runs from the database."""
        run_ids = (*references, *looks)
        return cls(
            run_ids=run_ids,
            references=len(references),
            runs=tuple(measures(database, run_id) for run_id in run_ids),
            calls={run_id: calls_seen(database, run_id) for run_id in (*references, *looks[-_SOME - 1 :])},
        )

    def require(self, items: Collection[str]) -> None:
        """See that the reference holds every item; raises `ConfigError`."""
        for run_id, run in zip(self.run_ids[: self.references], self.runs, strict=False):
            there = sum(item in run for item in items)
            if there < len(items):
                raise ConfigError(
                    f"The reference {run_id} holds {there} of the {len(items)} items that are watched; name a run on "
                    f"the same task and items, or none, and a reference is made."
                )

    def served(self, run_id: str | None) -> dict[str, tuple[str, ...]]:
        """Return the names under which models answered in one run, or with None in the whole reference."""
        runs = [run_id] if run_id is not None else self.run_ids[: self.references]
        names: dict[str, set[str]] = {}
        for one in runs:
            for alias, said in self.calls[one].served.items():
                names.setdefault(alias, set()).update(said)
        return {alias: tuple(sorted(said)) for alias, said in sorted(names.items())}

    def smallest_fall(self, alpha: float) -> float | None:
        """Estimate the fall in quality that three looks find nine times in ten; None where no scatter is known."""
        from evals.watch import smallest_fall

        return smallest_fall(self.column("score")[:, : self.references], alpha=alpha * _QUALITY)

    def column(self, name: Column) -> NDArray[np.float64]:
        """Return one measure as items × runs, for the items that every run holds; NaN where it is unknown."""
        import numpy as np

        items = sorted(set.intersection(*(set(run) for run in self.runs)))
        return np.asarray([[getattr(run[item], name) for run in self.runs] for item in items], dtype=np.float64)

    def answers(self) -> list[list[str]]:
        """Return the answers to the greedy requests that every run asked whose answers are known, newest last.

        A run that took its answers from the cache, as one that is named as the reference may, has none of its own.
        """
        *before, newest = (self.calls[run_id].greedy for run_id in self.run_ids if run_id in self.calls)
        seen = [*(one for one in before if one), newest]
        shared = set.intersection(*(set(one) for one in seen)) if len(seen) > 1 else set[str]()
        return [[one[asked] for one in seen] for asked in sorted(shared)]


def mean_score(runs: Sequence[Mapping[str, Measure]]) -> float:
    """Return the mean score over runs and items; 0 without items."""
    scores = [measure.score for run in runs for measure in run.values()]
    return sum(scores) / len(scores) if scores else 0.0


def findings(
    past: Past, number: int, earlier: Sequence[Mapping[str, Sequence[str]]], job: WatchJob
) -> tuple[Finding, ...]:
    """Test the newest look, number `number`; `earlier` says who served in the reference and in the looks before."""
    return (
        _quality(past, number, job),
        *_costs(past, number, job),
        *_answers(past, number, job),
        *_served(past, earlier),
    )


def _quality(past: Past, number: int, job: WatchJob) -> Finding:
    from evals.watch import fell

    shift = fell(past.column("score"), past.references, number)
    alarm = shift.error <= job.alpha * _QUALITY
    move = f"from {100 * shift.before:.1f} % to {100 * shift.after:.1f} %"
    error = shift.error / _QUALITY
    said = f"Quality fell {move} {_against(shift, error)}" if alarm else f"Quality: {move}, no fall shown"
    return _finding("quality-fell", "quality", shift, _QUALITY, alarm=alarm, sentence=f"{said}.")


def _costs(past: Past, number: int, job: WatchJob) -> list[Finding]:
    import numpy as np

    from evals.watch import rose

    part, found = _COST / 3, list[Finding]()
    columns: tuple[Column, ...] = ("dollars", "tokens", "calls")
    for name in columns:
        costs = past.column(name)
        if np.isnan(costs).any():
            continue
        shift = rose(costs, past.references, number)
        far = shift.after > shift.before * (1 + job.cost_tolerance)
        alarm = far and shift.error <= job.alpha * part
        move = f"from {shift.before:,.6g} to {shift.after:,.6g}"
        title = f"{name.capitalize()} per item"
        said = f"{title} rose {move} {_against(shift, shift.error / part)}" if alarm else f"{title}: {move}"
        found.append(_finding("cost-rose", name, shift, part, alarm=alarm, sentence=f"{said}."))
    return found


def _answers(past: Past, number: int, job: WatchJob) -> list[Finding]:
    from evals.watch import novel

    answers = past.answers()
    if not answers:
        return []
    shift = novel(answers, number)
    alarm = shift.error <= job.alpha * _ANSWERS
    new = round(shift.after * len(answers))
    said = f"{new:,} of {len(answers):,} greedy requests are answered as never before"
    if alarm:
        said = f"A model was changed under its name: {said} {_against(shift, shift.error / _ANSWERS)}"
    return [_finding("model-changed", "answers", shift, _ANSWERS, alarm=alarm, sentence=f"{said}.")]


def _served(past: Past, earlier: Sequence[Mapping[str, Sequence[str]]]) -> list[Finding]:
    found = []
    for alias, names in past.served(past.run_ids[-1]).items():
        known = sorted({name for served in earlier for name in served.get(alias, ())})
        new = [name for name in names if name not in known]
        if known and new:
            said = f"The model '{alias}' is now served as {_named(new)}, before as {_named(known)}."
            found.append(Finding(kind="model-changed", what=alias, alarm=True, sentence=said))
    return found


def _finding(
    kind: FindingKind,
    what: str,
    shift: Shift,
    part: float,
    *,
    alarm: bool,
    sentence: str,
) -> Finding:
    return Finding(
        kind=kind,
        what=what,
        alarm=alarm,
        sentence=sentence,
        error=min(1.0, shift.error / part),
        window=shift.window,
        before=shift.before,
        after=shift.after,
    )


def _against(shift: Shift, error: float) -> str:
    looks = "this look" if shift.window == 1 else f"the last {shift.window} looks"
    return f"({looks} against all before; error over all looks {error:.2g})"


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
