"""Makes views of studies: a real race over a real space, with scores that are drawn instead of asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache

import numpy as np

from architectures.canonical import written
from evals.stats import Interval, wilson
from flows.study_view import AgainstView, Contender, Ending, Spent, StepView, StudyView, TrialState, TrialView
from providers.book import ModelBook
from search import Job, PlannedSpace, Race, load_space, make_sampler, plan_space
from search.space import describe

__all__ = ["HOSTILE", "empty_view", "example_view", "hostile_view", "running_view"]

RUNGS = (30, 90, 270)
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><b>$x_1$ %{x} {{ 7*7 }} &amp; '"
"""An alias of a model that no page may take at its word."""


@lru_cache(maxsize=1)
def example_view(*, seed: int = 3, trials: int = 36) -> StudyView:
    """A study of the ready space `small` that has ended; equal arguments give equal studies."""
    planned = plan_space(load_space("small"), ModelBook.load(env={}))
    race = Race(make_sampler("random", planned.domain), RUNGS, eta=3)
    rng = np.random.default_rng(seed)
    world = _World(planned, rng)
    state, spent, items, steps = race.start(seed), Spent(), 0, list[StepView]()
    told: dict[int, list[float]] = {}
    while True:
        state, jobs = race.ask_batch(state, 4)
        jobs = tuple(job for job in jobs if job.trial < trials)
        if not jobs:
            break
        for job in jobs:
            scores = world.score(job)
            state = race.tell(state, job, scores)
            items, spent = items + len(scores), spent.plus(world.spent(job))
            told.setdefault(job.trial, []).extend(scores)
            leader = race.leader(state)
            assert leader is not None
            value, best = float(np.mean(told[job.trial])), float(np.mean(told[leader]))
            steps.append(
                StepView(
                    items=items,
                    spent=spent,
                    trial=job.trial,
                    rung=job.rung,
                    value=value,
                    leader=leader,
                    leader_value=best,
                )
            )
    dropped, leader = race.dropped(state), race.leader(state)
    assert leader is not None
    made = tuple(
        world.trial(number, state.study.trials[number].point, told[number], dropped) for number in sorted(told)
    )
    made = _with_front(made)
    point = planned.points[state.study.trials[leader].point]
    return StudyView(
        id="s-20260101-abc",
        name="example",
        status="done",
        reason="the budget of item evaluations was used",
        space="small",
        task="arithmetic",
        sampler="random",
        objectives=("quality",),
        rungs=RUNGS,
        points=len(planned.points),
        raw=planned.space.raw,
        caps=("at most 40 calls",),
        seed=seed,
        trials=made,
        steps=tuple(steps),
        leader=leader,
        spent=spent,
        seconds=83.5,
        ending=_ending(made, leader),
        architecture=written(point.spec),
        nominal=True,
    )


def empty_view() -> StudyView:
    """The study before its first job was told."""
    return replace(
        example_view(),
        status="running",
        reason="",
        trials=(),
        steps=(),
        leader=None,
        spent=Spent(),
        ending=None,
        architecture=None,
    )


def running_view() -> StudyView:
    """The study under way: some trials without a value yet, and prices that nobody knows."""
    view = example_view()
    last = replace(
        view.trials[-1],
        state="running",
        rung=-1,
        items=0,
        objectives=(),
        quality=None,
        interval=None,
        calls=None,
        dollars=None,
        seconds=None,
        rungs=(),
        on_front=False,
    )
    unknown = replace(view.spent, dollars_used=None, dollars_paid=None)
    return replace(
        view,
        status="running",
        reason="",
        ending=None,
        spent=unknown,
        steps=tuple(
            replace(step, spent=replace(step.spent, dollars_paid=None, dollars_used=None))
            for step in view.steps
            if step.trial != last.number
        ),
        trials=(*(replace(trial, dollars=None, planned_dollars=None) for trial in view.trials[:-1]), last),
    )


def hostile_view() -> StudyView:
    """The study in which every text that comes from a user is `HOSTILE`."""
    view = example_view()
    assert view.ending is not None
    assert view.architecture is not None
    ending = replace(
        view.ending,
        sentence=HOSTILE,
        contenders=tuple(replace(one, name=HOSTILE + one.name) for one in view.ending.contenders),
        against=tuple(replace(one, name=HOSTILE + one.name) for one in view.ending.against),
    )
    return replace(
        view,
        name=HOSTILE,
        reason=HOSTILE,
        space=HOSTILE,
        task=HOSTILE,
        sampler=HOSTILE,
        caps=(HOSTILE,),
        ending=ending,
        trials=tuple(replace(one, label=HOSTILE, values=_hostile(one.values)) for one in view.trials),
        architecture={**view.architecture, "name": HOSTILE, "description": HOSTILE},
    )


class _World:
    """What every point scores on every item, and what it costs."""

    def __init__(self, planned: PlannedSpace, rng: np.random.Generator) -> None:
        self.planned = planned
        ability = 0.6 * planned.domain.features @ rng.normal(size=planned.domain.features.shape[1])
        hardness = rng.normal(size=RUNGS[-1])
        chances = 1 / (1 + np.exp(-(ability - ability.mean())[:, None] - 0.5 - hardness[None, :]))
        self._scores = (rng.random(chances.shape) < chances).astype(float)

    def score(self, job: Job) -> list[float]:
        return [float(one) for one in self._scores[job.point, job.first : job.last]]

    def spent(self, job: Job) -> Spent:
        """All was used, two thirds were paid: the rest was shared."""
        n, likely = job.last - job.first, self.planned.points[job.point].figures.likely
        calls, dollars = round(n * float(likely["calls"] or 0)), n * (likely["dollars"] or Decimal(0))
        return Spent(
            calls_used=calls,
            calls_paid=2 * calls // 3,
            tokens_used=90 * calls,
            tokens_paid=60 * calls,
            dollars_used=dollars,
            dollars_paid=dollars * 2 / 3,
        )

    def trial(self, number: int, point: int, scores: list[float], dropped: frozenset[int]) -> TrialView:
        planned, quality = self.planned.points[point], float(np.mean(scores))
        rung = RUNGS.index(len(scores))
        full = rung == len(RUNGS) - 1
        state: TrialState = "dropped" if number in dropped else "standing" if full else "waiting"
        calls, dollars = float(planned.figures.likely["calls"] or 0), float(planned.figures.likely["dollars"] or 0)
        return TrialView(
            number=number,
            architecture_id=planned.spec.id,
            label=describe(planned.values),
            values=planned.values,
            state=state,
            rung=rung,
            items=len(scores),
            objectives=(quality,),
            quality=quality,
            interval=wilson(round(sum(scores)), len(scores)),
            calls=calls,
            dollars=dollars,
            seconds=0.02 * calls,
            planned_calls=calls,
            planned_dollars=dollars,
            rungs=tuple(float(np.mean(scores[:size])) for size in RUNGS[: rung + 1]),
        )


def _with_front(trials: tuple[TrialView, ...]) -> tuple[TrialView, ...]:
    def beaten(one: TrialView, other: TrialView) -> bool:
        assert one.quality is not None
        assert other.quality is not None
        assert one.dollars is not None
        assert other.dollars is not None
        return other.items >= one.items and other.quality > one.quality and other.dollars <= one.dollars

    return tuple(replace(one, on_front=not any(beaten(one, other) for other in trials)) for one in trials)


def _ending(trials: tuple[TrialView, ...], leader: int) -> Ending:
    ranked = sorted((one for one in trials if one.state == "standing"), key=lambda one: one.number != leader)[:2]
    contenders = [
        Contender(
            name=one.label,
            role="winner" if one.number == leader else "runner-up",
            architecture_id=one.architecture_id,
            trial=one.number,
            quality=0.9 - 0.05 * place,
            interval=wilson(round(180 - 10 * place), 200),
            calls=one.calls or 0,
            dollars=one.dollars,
            seconds=one.seconds or 0,
        )
        for place, one in enumerate(ranked)
    ]
    contenders.append(
        Contender(
            name="preset:single",
            role="baseline",
            architecture_id="0" * 64,
            trial=None,
            quality=0.7,
            interval=wilson(140, 200),
            calls=1,
            dollars=None,
            seconds=0.02,
        )
    )
    against = tuple(
        AgainstView(
            name=one.name,
            difference=0.9 - one.quality,
            interval=Interval(0.85 - one.quality, 0.95 - one.quality),
            p_value=0.2 if one.role == "runner-up" else 0.0003,
            better=one.role == "baseline",
        )
        for one in contenders[1:]
    )
    return Ending(
        sentence=f"{contenders[0].name}: 90.0% on held-out items (85.1% to 93.4%); better than preset:single.",
        items=200,
        contenders=tuple(contenders),
        against=against,
        difference_found=True,
    )


def _hostile(values: Mapping[str, object]) -> dict[str, object]:
    return {
        HOSTILE + name: tuple(HOSTILE + one for one in value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }
