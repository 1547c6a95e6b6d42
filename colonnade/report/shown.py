"""What the pictures of a study show, each as a `NamedTuple`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from colonnade.report.values import level, levels, measured, parameters, value_of, written_values

if TYPE_CHECKING:
    from evals.stats import Interval
    from flows.study_view import StudyView, TrialState

__all__ = [
    "Axis",
    "Front",
    "FrontPoint",
    "HeldOut",
    "HistoryPoint",
    "Line",
    "Parallel",
    "RungCount",
    "held_out",
    "history",
    "parallel_coordinates",
    "quality_cost",
    "rung_survival",
    "winner_svg",
]


class HistoryPoint(NamedTuple):
    """One job that was told: a trial's value on all its items so far, and how the study stood then."""

    items: int
    """Item evaluations of the whole study so far."""
    trial: int
    rung: int
    value: float
    """First objective."""
    leader: int
    best: float
    """Value of the trial that would have won then; it may fall when the leader is scored on more items."""
    calls_used: int
    calls_paid: int
    dollars_paid: float | None
    about: str
    """The trial in full."""


class FrontPoint(NamedTuple):
    """A trial in the picture of quality against cost."""

    trial: int
    label: str
    quality: float
    low: float
    """End of the 95 % interval; the quality itself where no interval is known."""
    high: float
    cost: float
    """Per item, in the front's unit."""
    items: int
    state: TrialState
    on_front: bool
    about: str
    """The trial in full."""


class Front(NamedTuple):
    """Quality against cost; dollars where those of every measured trial are known, else calls."""

    unit: Literal["calls", "dollars"]
    points: tuple[FrontPoint, ...]


class RungCount(NamedTuple):
    """What became of the trials that were scored on all items of a rung; the last five add up to `reached`."""

    rung: int
    items: int
    reached: int
    grown: int
    """Went on to a higher rung."""
    dropped: int
    """Worse than another by a test."""
    waiting: int
    running: int
    standing: int


class Axis(NamedTuple):
    """A parameter with the levels that the trials have of it, lowest first."""

    name: str
    levels: tuple[str, ...]


class Line(NamedTuple):
    """A trial across the axes."""

    trial: int
    places: tuple[int, ...]
    """Its level on each axis."""
    value: float
    about: str
    """The trial in full."""


class Parallel(NamedTuple):
    """Parallel coordinates: the parameters that differ between measured trials, and the first objective."""

    objective: str
    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]


class HeldOut(NamedTuple):
    """A line of the table of the end; the comparison is the winner's difference from this one, None of the winner."""

    name: str
    role: Literal["baseline", "runner-up", "winner"]
    quality: float
    interval: Interval
    calls: float
    dollars: float | None
    seconds: float
    difference: float | None
    between: Interval | None
    p_value: float | None
    better: bool
    worse: bool


def history(view: StudyView) -> tuple[HistoryPoint, ...]:
    """Return the jobs in the order in which they were told."""
    about = {trial.number: written_values(trial) for trial in view.trials}
    return tuple(
        HistoryPoint(
            items=step.items,
            trial=step.trial,
            rung=step.rung,
            value=step.value,
            leader=step.leader,
            best=step.leader_value,
            calls_used=step.spent.calls_used,
            calls_paid=step.spent.calls_paid,
            dollars_paid=None if step.spent.dollars_paid is None else float(step.spent.dollars_paid),
            about=about[step.trial],
        )
        for step in view.steps
    )


def quality_cost(view: StudyView) -> Front:
    """Return the measured trials by what they cost and how good they are; those without a cost are left out."""
    trials = [trial for trial in view.trials if trial.quality is not None]
    dollars = all(trial.dollars is not None for trial in trials)
    points = []
    for trial in trials:
        cost = trial.dollars if dollars else trial.calls
        if trial.quality is not None and cost is not None:
            low, high = trial.interval or (trial.quality, trial.quality)
            points.append(
                FrontPoint(
                    trial=trial.number,
                    label=trial.label,
                    quality=trial.quality,
                    low=low,
                    high=high,
                    cost=cost,
                    items=trial.items,
                    state=trial.state,
                    on_front=trial.on_front,
                    about=written_values(trial),
                )
            )
    return Front("dollars" if dollars else "calls", tuple(points))


def rung_survival(view: StudyView) -> tuple[RungCount, ...]:
    """Return for each rung how many trials reached it, and what became of them there."""
    counts = []
    for rung, items in enumerate(view.rungs):
        here = [trial.state for trial in view.trials if trial.rung == rung]
        grown = sum(trial.rung > rung for trial in view.trials)
        ends = [here.count(state) for state in ("dropped", "waiting", "running", "standing")]
        counts.append(RungCount(rung, items, grown + len(here), grown, *ends))
    return tuple(counts)


def parallel_coordinates(view: StudyView) -> Parallel:
    """Return the measured trials as lines across the parameters in which they differ."""
    trials = measured(view)
    axes = [Axis(name, levels(trials, name)) for name in parameters(view)]
    axes = [axis for axis in axes if len(axis.levels) > 1]
    lines = tuple(
        Line(
            trial=trial.number,
            places=tuple(axis.levels.index(level(trial, axis.name)) for axis in axes),
            value=value,
            about=written_values(trial),
        )
        for trial in trials
        if (value := value_of(trial)) is not None
    )
    return Parallel(view.objectives[0], tuple(axes), lines)


def held_out(view: StudyView) -> tuple[HeldOut, ...]:
    """Return the winner, the runners-up and the baselines on the held-out items; nothing before the end."""
    if view.ending is None:
        return ()
    against = {one.name: one for one in view.ending.against}
    rows = []
    for one in view.ending.contenders:
        other = against.get(one.name)
        rows.append(
            HeldOut(
                name=one.name,
                role=one.role,
                quality=one.quality,
                interval=one.interval,
                calls=one.calls,
                dollars=one.dollars,
                seconds=one.seconds,
                difference=None if other is None else other.difference,
                between=None if other is None else other.interval,
                p_value=None if other is None else other.p_value,
                better=other is not None and other.better,
                worse=other is not None and other.worse,
            )
        )
    return tuple(rows)


def winner_svg(view: StudyView) -> str | None:
    """Return the drawing of the leader's architecture; None before there is a leader."""
    from architectures import draw_svg, load

    return None if view.architecture is None else draw_svg(load(view.architecture).spec)
