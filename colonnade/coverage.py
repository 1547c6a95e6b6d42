"""Coverage of a run: pass@k by the samples that were drawn, the laws fitted to it, and what they foretell."""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import orjson

from colonnade.cli.console import percent
from colonnade.tables import columns
from db.database import Database
from db.errors import ConfigError
from db.runs import ItemRecord, RunRecord, RunStore
from evals.coverage import CoverageCurve, coverage_curve
from evals.coverage_laws import Estimate, FittedLaw, FittedSaturation, fit_law, fit_saturation
from evals.sampled import Sampled, sampled
from evals.task import Task

__all__ = ["RunCoverage", "coverage_record", "coverage_text", "run_coverage"]

_EPSILON = 0.01
"""Gain of a further sample, as a share of one, from which on more do not pay."""


@dataclass(frozen=True, kw_only=True)
class RunCoverage:
    """How the coverage of one node of a run grows with the samples that are drawn."""

    run_id: str
    name: str
    task: str
    samples: Sampled
    """What it is computed from."""
    curve: CoverageCurve
    """Measured pass@k, up to the fewest samples that an item has."""
    law: FittedLaw | None
    """c(k) = exp(a·k^b); None where an item has one sample, or none is right."""
    saturation: FittedSaturation | None
    """F(N) = F_max·(1 − (1 − p)^N); None as for `law`."""

    def samples_for(self, target: float) -> Estimate | None:
        """Foretell how many samples reach a coverage (0..1, ends excluded) by the law; None without a law."""
        return self.law.samples_for(target) if self.law else None

    def __str__(self) -> str:
        return coverage_text(self)


def run_coverage(run_id: str, *, node: str | None = None, database_url: str | None = None) -> RunCoverage:
    """Compute the coverage of an evaluation from its stored traces, without a call.

    `node` is whose samples are looked at; without it, the node that drew most. Raises `ConfigError` for a run that is
    none or no evaluation and for a task that a model scores, `DataError` where there are no samples to look at.
    """
    with Database.open(database_url) as database:
        store = RunStore(database)
        record = store.get(run_id)
        task = _task(record)
        results = store.items(run_id)
    found = _scored(results, task, node)
    several = min(tally.samples for tally in found.tallies) > 1
    return RunCoverage(
        run_id=run_id,
        name=record.name,
        task=task.name,
        samples=found,
        curve=coverage_curve(found.tallies),
        law=fit_law(found.tallies) if several else None,
        saturation=fit_saturation(found.tallies) if several else None,
    )


def _task(record: RunRecord) -> Task:
    from flows.evaluate import EvaluateJob

    if record.kind != "evaluate":
        raise ConfigError(f"Run {record.id} is of the kind {record.kind!r}; coverage is that of an evaluation.")
    job = EvaluateJob.model_validate(orjson.loads(record.config))
    return job.task.load()


def _scored(results: tuple[ItemRecord, ...], task: Task, node: str | None) -> Sampled:
    """Score the samples, also where a loop runs already (a notebook)."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(sampled(results, task, node))).result()


def coverage_text(coverage: RunCoverage, *, targets: tuple[float, ...] = (), ks: tuple[int, ...] = ()) -> str:
    """Return the curve as a table, and below it the laws with what they foretell for targets and numbers of samples."""
    tallies = coverage.samples.tallies
    fewest, most = min(one.samples for one in tallies), max(one.samples for one in tallies)
    drawn = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    lines = [
        f"{coverage.name} on {coverage.task}: {len(tallies):,} items, {drawn} samples each of "
        f"node {coverage.samples.node!r}",
        columns(_rows(coverage)),
    ]
    if coverage.samples.left_out:
        lines.append(f"{len(coverage.samples.left_out):,} items without a sample are left out.")
    if coverage.law is None:
        lines.append("No law: it takes two samples of every item, of which some are right.")
        return "\n".join(lines)
    law = coverage.law.law
    lines.append(f"Law: coverage = exp({law.a:.3g}·k^{law.b:.3g}), off by {_points(coverage.law.error)}")
    if coverage.saturation is not None:
        lines.append(_stop(coverage.saturation))
    lines += [f"Foretold coverage by {k:,} samples: {_share(coverage.law.coverage(k))}" for k in ks]
    lines += [f"Foretold samples for {percent(t)}: {_count(coverage.law.samples_for(t))}" for t in targets]
    return "\n".join(lines)


def coverage_record(
    coverage: RunCoverage, *, targets: tuple[float, ...] = (), ks: tuple[int, ...] = ()
) -> dict[str, object]:
    """Return what `coverage_text` shows as data; a number of samples that is infinite is null."""
    law, saturation = coverage.law, coverage.saturation
    return {
        "run_id": coverage.run_id,
        "architecture": coverage.name,
        "task": coverage.task,
        "node": coverage.samples.node,
        "items": len(coverage.samples.tallies),
        "left_out": coverage.samples.left_out,
        "curve": [{"k": p.k, "coverage": p.value, "interval": list(p.interval)} for p in coverage.curve.points],
        "law": law and {"a": law.law.a, "b": law.law.b, "error": law.error},
        "saturation": saturation and {**saturation.form._asdict(), "error": saturation.error},
        "foretold": [{"k": k, **_estimate(law.coverage(k))} for k in ks] if law else [],
        "targets": [{"coverage": t, **_estimate(law.samples_for(t), "samples")} for t in targets] if law else [],
    }


def _rows(coverage: RunCoverage) -> list[tuple[str, ...]]:
    head = ("k", "pass@k", "95 % interval")
    points = coverage.curve.points
    return [head, *((f"{p.k:,}", percent(p.value), _interval(p.interval.low, p.interval.high)) for p in points)]


def _stop(found: FittedSaturation) -> str:
    off = _points(found.error)
    if found.error > _EPSILON:
        return f"No saturation point: the saturating form is off by {off}, since questions differ in difficulty."
    stop = found.point(_EPSILON).value
    return f"From {stop:,.0f} samples on a further one gains less than 1 point (saturating form, off by {off})."


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.1f} – {100 * high:.1f}"


def _points(error: float) -> str:
    return f"{100 * error:.1f} points"


def _share(found: Estimate) -> str:
    return f"{percent(found.value)} ({_interval(*found.interval)})"


def _count(found: Estimate) -> str:
    low, high = (f"{math.ceil(end):,}" if math.isfinite(end) else "never" for end in found.interval)
    return f"{math.ceil(found.value):,} ({low} – {high})" if math.isfinite(found.value) else f"never ({low} – {high})"


def _estimate(found: Estimate, name: str = "coverage_k") -> dict[str, object]:
    finite = [end if math.isfinite(end) else None for end in (found.value, *found.interval)]
    return {name: finite[0], "interval": finite[1:]}
