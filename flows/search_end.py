"""The end of a search: the winner is chosen on the guard's items and judged on items that nobody has looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from db.errors import ColonnadeError
from flows.search import note, state_of, together
from flows.search_piece import Piece, PieceDone, PieceRunner
from search.objective import Measured

if TYPE_CHECKING:
    from architectures.spec import ArchitectureSpec
    from evals import Item
    from flows.search_job import OpenStudy
    from search import Conclusion
    from search.pricing import Unit

__all__ = ["end"]

_MOST_VOTES = 100
"""Samples that the votes of the best single model are given at most."""
_VARYING = 0.8
"""Temperature of the samples that are voted on, where the single model has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contender:
    """Who is scored on the held-out items."""

    name: str
    role: Literal["baseline", "runner-up", "winner"]
    spec: ArchitectureSpec
    trial: int | None = None


class _Stopped(ColonnadeError):
    """The budget ended before the end was written."""


async def end(study: OpenStudy, runner: PieceRunner) -> str:
    """Write the end; return why it could not be written yet, or nothing. What it has scored is found again."""
    try:
        contenders = await _contenders(study, runner)
        if not contenders:
            return "the budget paid no trial to its first rung; raise it."
        fresh = f"held-out {study.id}"
        done = await _scored(study, runner, contenders, study.split.held_out, fresh=fresh, keep_trace=True)
    except _Stopped as stopped:
        return str(stopped)
    note(study, ending=_ending(study, contenders, done))
    return ""


async def _contenders(study: OpenStudy, runner: PieceRunner) -> list[_Contender]:
    """The winner, the runners-up, and the baselines; of equal architectures the first."""
    winner_first = await _finalists(study, runner)
    if not winner_first:
        return []
    single = await _best_single(study, runner)
    baselines = [single] if single else []
    if single:
        baselines.append(await _votes(study, runner, winner_first[0], single))
    baselines += [_given(study, data) for data in study.job.baselines]
    by_id: dict[str, _Contender] = {}
    for one in (*winner_first, *baselines):
        by_id.setdefault(one.spec.id, one)
    return _named_apart(list(by_id.values()))


async def _finalists(study: OpenStudy, runner: PieceRunner) -> list[_Contender]:
    """The best trials, in the order in which the guard's items leave them."""
    state = state_of(study, study.store.snapshot(study.id))
    trials = study.race.standing(state)[: study.job.finalists]
    found = {trial: study.planned.points[state.study.trials[trial].point].spec for trial in trials}
    order: Sequence[int] = trials
    if study.split.guard and len(trials) > 1 and len(study.job.objectives) == 1:
        from search import ReusableHoldout, choose

        asked = [_Contender(name=f"trial {t}", role="runner-up", spec=found[t], trial=t) for t in trials]
        done = await _scored(study, runner, asked, study.split.guard)
        guard = ReusableHoldout(budget=len(trials), seed=study.job.seed)
        # The guard's threshold and noise are meant for scores from 0 to 1.
        span = study.race.span or 1.0
        seen = {trial: [one / span for one in _scores(state.scores, trial)] for trial in trials}
        values = {
            trial: [one / span for one in _worth(study, each.measured)]
            for trial, each in zip(trials, done, strict=True)
        }
        order = choose(seen, values, guard).order
    return [
        _Contender(name=f"trial {trial}", role="runner-up" if place else "winner", spec=found[trial], trial=trial)
        for place, trial in enumerate(order)
    ]


def _scores(scores: Mapping[tuple[int, int], tuple[float, ...]], trial: int) -> list[float]:
    blocks = sorted((rung, block) for (one, rung), block in scores.items() if one == trial)
    return [score for _, block in blocks for score in block]


def _worth(study: OpenStudy, measured: Sequence[Measured]) -> list[float]:
    """Scores by the first objective; the cost of a right answer belongs to no item, so quality stands for it."""
    if study.job.objectives[0] == "cost_per_correct":
        return [one.quality for one in measured]
    return [study.job.objective.score(one) for one in measured]


async def _best_single(study: OpenStudy, runner: PieceRunner) -> _Contender | None:
    """The model that answers best alone; None where the space has no single models.

    All are scored on the first rung's items, and the better half of them on all.
    """
    space, book = study.planned.space, study.session.book
    role = "generators" if "generators" in space.singles else next(iter(space.singles), None)
    if role is None:
        return None
    left = [
        _Contender(name=f"single model {model}", role="baseline", spec=space.single(role, model, book))
        for model in space.models[role]
    ]
    for items in (study.split.search[: study.race.rungs[0]], study.split.search):
        done = await _scored(study, runner, left, items)
        right = [math.fsum(one.quality for one in each.measured) for each in done]
        order = sorted(range(len(left)), key=lambda place: -right[place])
        left = [left[place] for place in order[: max(2, len(order) // 2)]]
    return left[0]


async def _votes(study: OpenStudy, runner: PieceRunner, winner: _Contender, single: _Contender) -> _Contender:
    """Self-consistency of the best single model, with as many samples as cost what the winner costs, rounded up.

    Samples that come in one request share its prompt, so what they cost is measured twice: of one, then of as many as
    that makes it seem.
    """
    items = study.split.search[: study.race.rungs[0]]
    both = await _scored(study, runner, [winner, single], items)
    # An unknown price of one of them would make dollars of it nothing.
    unit: Unit = "dollars" if all(each.used.dollars_used for each in both) else "calls"
    price, alone = (_cost(each.measured, unit) for each in both)
    samples = _times(price, alone)
    (done,) = await _scored(study, runner, [_of(study, single, samples)], items)
    return _of(study, single, _times(price, _cost(done.measured, unit) / samples))


def _times(price: float, each: float) -> int:
    # A model that failed on all of these items has used nothing.
    return max(2, min(_MOST_VOTES, math.ceil(price / each - 1e-9))) if each else 2


def _of(study: OpenStudy, single: _Contender, samples: int) -> _Contender:
    from architectures import load

    model = single.spec.models()[0]
    layers = [{"generate": {**_asked_alone(single.spec, model), "samples": samples}}, "vote"]
    spec = load({"name": "self-consistency", "layers": layers}, study.session.book).spec
    return _Contender(name=f"self-consistency of {samples} from {model}", role="baseline", spec=spec)


def _asked_alone(spec: ArchitectureSpec, model: str) -> dict[str, Any]:
    """Return how a single model is asked where that is all its architecture does, at a temperature that varies."""
    nodes: Any = spec.data()["nodes"]
    settings = next(iter(nodes.values()))
    alone = len(nodes) == 1 and settings.get("use") == "generate"
    asked = {name: value for name, value in settings.items() if name != "use"} if alone else {"model": model}
    return {**asked, "temperature": asked.get("temperature") or _VARYING}


def _cost(measured: Sequence[Measured], unit: Unit) -> float:
    """What all items cost."""
    return math.fsum(getattr(one, unit) for one in measured)


def _given(study: OpenStudy, data: dict[str, Any]) -> _Contender:
    from architectures import load

    spec = load(data, study.session.book).spec
    return _Contender(name=spec.name, role="baseline", spec=spec)


def _named_apart(contenders: list[_Contender]) -> list[_Contender]:
    """Give equal names numbers, since the comparisons are told apart by names."""
    seen: dict[str, int] = {}
    named = []
    for one in contenders:
        seen[one.name] = seen.get(one.name, 0) + 1
        named.append(one if seen[one.name] == 1 else replace(one, name=f"{one.name} ({seen[one.name]})"))
    return named


async def _scored(
    study: OpenStudy,
    runner: PieceRunner,
    contenders: Sequence[_Contender],
    items: Sequence[Item],
    *,
    fresh: str = "",
    keep_trace: bool = False,
) -> list[PieceDone]:
    """Score contenders on items; raises `_Stopped` at the budget's cap."""
    done: dict[int, PieceDone] = {}

    async def one(place: int, contender: _Contender) -> None:
        alone = "" if study.job.share else f"trial {contender.spec.id[:16]}"
        piece = Piece(
            study_id=study.id,
            title=f"{contender.name}, {'held-out' if fresh else 'dev'} items",
            architecture={**contender.spec.data(), "name": contender.name},
            items=tuple(item.id for item in items),
            fresh=f"{fresh} {alone}".strip(),
            keep_trace=keep_trace,
        )
        done[place] = await runner(piece)

    await together([partial(one, place, contender) for place, contender in enumerate(contenders)], study.job.parallel)
    for each in done.values():
        if each.stopped:
            raise _Stopped(each.stopped)
    return [done[place] for place in range(len(contenders))]


def _ending(study: OpenStudy, contenders: Sequence[_Contender], done: Sequence[PieceDone]) -> dict[str, object]:
    from evals.stats import bootstrap_mean, wilson
    from search import conclude

    qualities = [[one.quality for one in each.measured] for each in done]
    others = {one.name: scores for one, scores in zip(contenders[1:], qualities[1:], strict=True)}
    conclusion: Conclusion = conclude(contenders[0].name, qualities[0], others, alpha=study.job.alpha)
    by_objective = _by_objective(study, contenders, done)
    rows = []
    for one, each, quality in zip(contenders, done, qualities, strict=True):
        n, binary = len(quality), {*quality} <= {0.0, 1.0}
        interval = wilson(round(sum(quality)), n) if binary else bootstrap_mean(quality)
        known = each.used.dollars_used is not None
        rows.append(
            {
                "name": one.name,
                "role": one.role,
                "architecture_id": one.spec.id,
                "architecture": one.spec.data(),
                "trial": one.trial,
                "quality": math.fsum(quality) / n,
                "interval": list(interval),
                "calls": math.fsum(m.calls for m in each.measured) / n,
                "dollars": math.fsum(m.dollars for m in each.measured) / n if known else None,
                "seconds": math.fsum(m.seconds for m in each.measured) / n,
                "failed": each.failed,
            }
        )
    return {
        "sentence": conclusion.sentence + by_objective + _failures(contenders, done),
        "items": len(study.split.held_out),
        "contenders": rows,
        "against": [
            {
                "name": one.name,
                "difference": one.paired.difference,
                "interval": list(one.paired.interval),
                "p_value": one.adjusted,
                "better": one.better,
                "worse": one.worse,
            }
            for one in conclusion.against
        ],
        "difference_found": conclusion.difference_found,
    }


def _failures(contenders: Sequence[_Contender], done: Sequence[PieceDone]) -> str:
    """Say whose items failed, since a model that was away looks like one that is wrong."""
    failed = [f"{each.failed} of {one.name}" for one, each in zip(contenders, done, strict=True) if each.failed]
    return f" Items that failed count as wrong: {', '.join(failed)}." if failed else ""


def _by_objective(study: OpenStudy, contenders: Sequence[_Contender], done: Sequence[PieceDone]) -> str:
    """Say what the held-out items show of the first objective where that is another mean over items than quality."""
    from search import conclude

    name = study.job.objectives[0]
    if name in ("cost_per_correct", "quality"):
        return ""
    first, *rest = [[study.job.objective.score(one) for one in each.measured] for each in done]
    others = {one.name: scores for one, scores in zip(contenders[1:], rest, strict=True)}
    conclusion = conclude(contenders[0].name, first, others, alpha=study.job.alpha)
    return f" By {name}: {conclusion.verdict}."
