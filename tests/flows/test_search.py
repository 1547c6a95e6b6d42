"""A search from its first trial to its end, on the embedded models."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from architectures.planner import Speed
from colonnade.searching import make_search_job
from db.calls import CallStore
from db.database import Database
from db.errors import ConfigError, SpecError, UserError
from db.runs import RunStore
from flows.evaluate import EvaluateJob, TaskChoice, evaluate
from flows.search import Round, search
from flows.search_job import SearchJob, open_study, token_speeds
from flows.search_piece import Piece, PieceDone
from flows.session import open_session
from flows.studies import newest_study, stored_search, study_ids, study_view, trial_architecture
from flows.study_view import Spent, StudyView
from providers.base import Message, Request
from providers.scope import Scope
from search import plan_space, read_space
from search.objective import Measured
from tests.flows.search_support import TINY, tiny_job
from tests.helpers import write_task


def run(job: SearchJob, **options: Any) -> StudyView:
    """Search in a session of its own and show what came of it."""

    async def go() -> StudyView:
        async with open_session(job.session) as session:
            return study_view(await search(job, session, **options), session.database)

    return asyncio.run(go())


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchJob, StudyView]:
    """A study that has its end, with the folder of its database; tests only read it."""
    folder = tmp_path_factory.mktemp("ended")
    job = tiny_job(folder)
    return folder, job, run(job)


@pytest.mark.xdist_group("ended")
def test_a_search_ends_on_held_out_items(ended: tuple[Path, SearchJob, StudyView]) -> None:
    _, job, view = ended
    assert (view.status, view.reason, view.points, view.raw) == ("done", "", 18, 24)
    assert len(view.trials) == job.trials
    assert view.rungs == (6, 12)
    assert view.ending is not None
    winner, *others = view.ending.contenders
    assert (winner.role, winner.trial) == ("winner", view.leader)
    assert [one.role for one in others].count("runner-up") == 2
    names = [one.name for one in others if one.role == "baseline"]
    assert names[0].startswith("single model embedded/")
    assert names[1].startswith("self-consistency of ")
    assert [one.name for one in view.ending.against] == [one.name for one in others]
    assert winner.name in view.ending.sentence
    standing = [trial for trial in view.trials if trial.state == "standing"]
    assert len(standing) >= job.finalists
    assert all(trial.items == 12 and len(trial.rungs) == 2 for trial in standing)


@pytest.mark.xdist_group("ended")
def test_steps_and_spending_add_up(ended: tuple[Path, SearchJob, StudyView]) -> None:
    folder, _, view = ended
    assert [step.items for step in view.steps] == sorted({step.items for step in view.steps})
    assert view.steps[-1].items == sum(trial.items for trial in view.trials)
    paid = [step.spent.calls_paid for step in view.steps]
    assert paid == sorted(paid)
    used = [step.spent.calls_used for step in view.steps]
    assert used[-1] == sum(round((trial.calls or 0) * trial.items) for trial in view.trials)
    assert paid[-1] < used[-1], "trials share samples"
    with Database.open(f"sqlite:///{folder / 'colonnade.db'}") as database:
        calls = CallStore(database)
        stored = calls.spent(view.id)
        calls.close()
    assert view.spent.calls_paid == stored.calls
    assert view.spent.dollars_paid == stored.cost


@pytest.mark.xdist_group("ended")
def test_a_study_with_an_end_is_shown_again_without_a_call(ended: tuple[Path, SearchJob, StudyView]) -> None:
    _, job, view = ended
    assert run(job.model_copy(update={"trials": 18})) == view


@pytest.mark.xdist_group("ended")
def test_a_study_is_found_by_its_id_and_its_best_written(ended: tuple[Path, SearchJob, StudyView]) -> None:
    folder, job, view = ended
    with Database.open(f"sqlite:///{folder / 'colonnade.db'}") as database:
        assert study_ids(database) == (view.id,)
        assert newest_study(database) == view.id
        assert stored_search(view.id, database).space == job.space
        with pytest.raises(ConfigError, match=f"no study 's-1'.*Did you mean '{view.id}'|no study 's-1'"):
            study_view("s-1", database)
        assert view.leader is not None
        data = trial_architecture(view.id, view.leader, database)
        with pytest.raises(ConfigError, match="has trials 0 to 7, but no trial 9"):
            trial_architecture(view.id, 9, database)
    assert view.architecture is not None
    assert data == {**view.architecture, "name": f"{view.id}-{view.leader}"}


def test_held_out_items_are_not_touched_before_the_end(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    seen: list[set[str]] = []

    def look(now: Round) -> None:
        runs = RunStore(now.study.session.database)
        done = runs.done_item_ids(now.study.id)
        split = now.study.split
        assert not done & {item.id for item in (*split.held_out, *split.guard)}
        seen.append(set(done))

    view = run(job, on_round=look)
    assert len(seen) > 2
    assert max(map(len, seen)) == 12
    assert view.ending is not None
    assert view.ending.items > 10


def test_the_time_of_a_search_is_known_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.search.LEASE", timedelta(seconds=0.8))
    seen: list[float] = []
    view = run(
        tiny_job(tmp_path),
        on_round=lambda now: seen.append(study_view(now.study.id, now.study.session.database).seconds),
    )
    assert 0 < seen[-1] < view.seconds
    assert sorted(seen) == seen


@pytest.mark.xdist_group("ended")
def test_the_course_is_reproducible(ended: tuple[Path, SearchJob, StudyView], tmp_path: Path) -> None:
    _, _, view = ended
    other = run(tiny_job(tmp_path))
    assert [(t.number, t.label, t.items, t.rungs) for t in other.trials] == [
        (t.number, t.label, t.items, t.rungs) for t in view.trials
    ]
    assert other.ending is not None
    assert view.ending is not None
    assert other.ending.sentence == view.ending.sentence


def test_without_sharing_every_used_sample_is_paid(tmp_path: Path) -> None:
    options: dict[str, Any] = {"items": 16, "sampler": "exhaustive", "race": False, "rungs": (), "trials": 18}
    shared = run(tiny_job(tmp_path, **options))
    alone = run(tiny_job(tmp_path, share=False, **options))
    assert alone.steps[-1].spent.calls_paid == alone.steps[-1].spent.calls_used == shared.steps[-1].spent.calls_used
    # Of an item and a model 25 samples are used, and 4 at each temperature are paid: a model alone answers at 0.8 too.
    assert alone.steps[-1].spent.calls_used * 8 == shared.steps[-1].spent.calls_paid * 25


def test_what_is_named_and_what_did_well_is_tried_first(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, items=60)
    best = {"name": "b", "layers": [{"generate": {"model": "embedded/mini", "samples": 4, "temperature": 0.4}}, "vote"]}
    named = {"name": "n", "layers": [{"generate": {"model": "embedded/nano"}}]}

    async def before() -> None:
        async with open_session(job.session) as session:
            await evaluate(EvaluateJob(architecture=best, task=job.task, session=job.session), session)

    asyncio.run(before())
    view = run(job.model_copy(update={"start": (named,), "trials": 3}))
    assert view.trials[0].label == "model=embedded/nano, samples=1"
    assert view.trials[1].label == "model=embedded/mini, samples=4, temperature=0.4, voted=True"
    history_off = run(tiny_job(tmp_path, items=60, trials=3, history=(), study="without"))
    assert history_off.trials[0].label != "model=embedded/nano, samples=1"


def test_presets_are_tried_first(tmp_path: Path) -> None:
    settings, choice = tiny_job(tmp_path).session, TaskChoice(name="arithmetic", items=24)
    job = make_search_job(
        "small", choice, settings, start=["preset:best-of-n", "preset:single"], trials=2, rungs=(4,), guard_share=0.0
    )
    assert [(trial.values["samples"], trial.values.get("finish")) for trial in run(job).trials] == [
        (8, "judge"),
        (1, None),
    ]


def test_what_other_dev_items_were_searched_with_is_no_history(tmp_path: Path) -> None:
    """Its good points were chosen on items that are held out now."""
    task = TaskChoice(name=str(write_task(tmp_path, 60)))
    first = tiny_job(tmp_path, task=task)

    def history(**changed: Any) -> tuple[str, ...] | None:
        job = tiny_job(tmp_path, **{"task": task, "sampler": "random", "trials": 1, **changed})

        async def go() -> tuple[str, ...] | None:
            async with open_session(job.session) as session:
                return open_study(job, session).job.history

        return asyncio.run(go())

    run(first)
    assert history()
    assert history(seed=1) == history(dev_share=0.4) == ()


def test_models_are_ranked_alone_first(tmp_path: Path) -> None:
    space = {
        "name": "ranked",
        "models": {"generators": ["embedded/nano", "embedded/mini"], "fusers": ["embedded/mini", "embedded/judge"]},
        "parameters": {
            "generators": {"best": "generators", "counts": [1, 2]},
            "fuser": {"best": "fusers", "counts": [1]},
        },
        "layers": [{"generate": {"model": "$generators", "samples": 2}}, {"fuse": {"model": "$fuser"}}],
        "singles": {
            "generators": [{"generate": {"model": "$model"}}],
            "fusers": [{"generate": {"model": ["embedded/nano", "embedded/mini"]}}, {"fuse": {"model": "$model"}}],
        },
    }
    view = run(tiny_job(tmp_path, space=space, rank=True, items=160, rungs=(40,), trials=2, guard_share=0.0))
    assert view.status == "done"
    with Database.open(f"sqlite:///{tmp_path / 'colonnade.db'}") as database:
        measured = json.loads(RunStore(database).get(view.id).totals or "")["ranking"]
        found = [trial_architecture(view.id, number, database) for number in (0, 1)]
    generators, fusers = measured["generators"], measured["fusers"]
    assert generators["embedded/mini"] > generators["embedded/nano"], "the better model was written last"
    asked = [one["nodes"]["generate"]["model"] for one in found]
    assert {*map(str, asked)} == {"embedded/mini", "['embedded/mini', 'embedded/nano']"}
    (fuser,) = {one["nodes"]["fuse"]["model"] for one in found}
    assert fusers[fuser] == max(fusers.values()), "of equals any may stand first in what was noted"


def test_several_objectives_make_a_front(tmp_path: Path) -> None:
    view = run(tiny_job(tmp_path, objectives=("quality", "calls"), trials=12))
    assert view.objectives == ("quality", "calls")
    front = [trial for trial in view.trials if trial.on_front]
    assert front
    assert all(len(trial.objectives) == 2 for trial in view.trials)
    assert all(trial.calls == pytest.approx(-trial.objectives[1]) for trial in view.trials)
    assert not any(trial.state == "dropped" for trial in view.trials)
    assert view.ending is not None


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({"objectives": ("utility",), "error_price": 0.01}, lambda t: -(t.dollars + 0.01 * (1 - t.quality))),
        (
            {"objectives": ("cost_per_correct",), "race": False, "rungs": ()},
            lambda t: -t.dollars / max(t.quality, 0.5 / t.items),
        ),
    ],
)
def test_prices_of_errors_and_of_right_answers(tmp_path: Path, options: dict[str, Any], first: Any) -> None:
    view = run(tiny_job(tmp_path, trials=6, **options))
    assert view.ending is not None
    assert ("By utility: " in view.ending.sentence) == (view.objectives == ("utility",))
    for trial in view.trials:
        assert trial.objectives[0] == pytest.approx(first(trial), rel=1e-6)


def test_a_budget_stops_it_and_a_higher_one_lets_it_go_on(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)

    def capped(calls: int) -> SearchJob:
        caps = job.session.caps.model_copy(update={"calls": calls})
        return job.model_copy(update={"session": job.session.model_copy(update={"caps": caps})})

    stopped = run(capped(20))
    assert stopped.status == "over_budget"
    assert "20" in stopped.reason
    assert stopped.spent.calls_paid <= 20
    assert stopped.ending is None
    short = run(capped(700))
    assert short.status == "done"
    assert short.spent.calls_paid <= 700
    assert short.reason == ""


def test_a_study_is_resumed_as_it_was_last_gone_on_with(tmp_path: Path) -> None:
    """Above all with its last budget, where it began without one."""
    began = tiny_job(tmp_path, study="mine")
    given = {"name": "given", "layers": [{"generate": {"model": "embedded/nano", "samples": 2}}]}

    def stop(_: Round) -> None:
        raise ConfigError("stop")

    with pytest.raises(ConfigError, match="stop"):
        run(began, on_round=stop)
    caps = began.session.caps.model_copy(update={"calls": 20, "dollars": Decimal("0.5")})
    changed: dict[str, Any] = {"session": began.session.model_copy(update={"caps": caps}), "trials": 7, "parallel": 2}
    capped = began.model_copy(update={**changed, "baselines": (given,), "finalists": 2})
    assert run(capped).status == "over_budget"
    with Database.open(began.session.database_url) as database:
        stored = stored_search("mine", database)
    assert stored.model_copy(update={"history": None}) == capped


def test_the_search_leaves_the_end_its_part_of_the_budget(tmp_path: Path) -> None:
    whole = run(tiny_job(tmp_path, trials=18))
    calls = int(whole.spent.calls_paid * 0.8)
    job = tiny_job(tmp_path, trials=18, study="capped")
    caps = job.session.caps.model_copy(update={"calls": calls})
    # A database of its own, since what the first study paid would cost this one nothing.
    session = job.session.model_copy(update={"caps": caps, "database_url": f"sqlite:///{tmp_path / 'other.db'}"})
    view = run(job.model_copy(update={"session": session}))
    assert view.status == "done"
    assert view.ending is not None
    assert view.spent.calls_paid <= calls
    assert view.steps[-1].items < whole.steps[-1].items


def test_the_end_has_its_part_for_dear_baselines_too(tmp_path: Path) -> None:
    given = {"name": "given", "layers": [{"generate": {"model": "embedded/mini", "samples": 30}}, "vote"]}
    job = tiny_job(tmp_path, trials=18, baselines=(given,))
    caps = job.session.caps.model_copy(update={"calls": 780})
    view = run(job.model_copy(update={"session": job.session.model_copy(update={"caps": caps})}))
    assert (view.status, len(view.trials) < 18) == ("done", True)
    assert view.spent.calls_paid <= 780


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"caps": {"calls": 0.5}}, "no point meets the cap of 0.5 calls: the cheapest (model=embedded/nano, samples=1"),
        ({"caps": {"cals": 3}}, "Did you mean 'calls'"),
        ({"objectives": ("quality", "seconds")}, "--no-share"),
        ({"objectives": ("cost_per_correct",)}, "--no-race"),
        (
            {"objectives": ("quality", "quality")},
            "Objectives are different ones, one at least, unlike quality, quality",
        ),
        ({"objectives": ()}, "Objectives are different ones, one at least, unlike none"),
        ({"rungs": (6, 400)}, "The last rung has 400 items"),
        ({"task": TaskChoice(name="arithmetic", items=5)}, "held out; each needs 3 at least"),
        ({"study": "no good name"}, "up to 32 letters"),
        ({"sampler": "tpo"}, "no sampler 'tpo'"),
        ({"start": ({"layers": [{"generate": {"model": "embedded/judge"}}]},)}, "is no point of the space"),
        ({"space": {**TINY, "rules": [{"product": ["sampels"], "at_most": 2}]}}, "space tiny: rules.1"),
        ({"error_price": 1.0}, "An error price counts in the objective utility alone"),
        ({"space": {**TINY, "rules": [{"sum": ["samples"], "at_most": 0}]}}, "the space is empty"),
    ],
)
def test_bad_input_is_one_sentence_and_begins_no_study(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    job = tiny_job(tmp_path)
    with pytest.raises((ConfigError, SpecError, UserError)) as raised:
        run(job.model_copy(update=changed))
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
    with Database.open(job.session.database_url) as database:
        assert study_ids(database) == ()
        with pytest.raises(ConfigError, match="There is no study in"):
            newest_study(database)


def test_a_study_is_not_gone_on_with_on_something_else(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, study="mine", trials=2)
    run(job)
    for changed, what in (
        ({"seed": 3}, "another seed"),
        ({"space": {**TINY, "models": {"generators": ["embedded/nano"]}}}, "another space"),
        ({"caps": {"calls": 3}, "eta": 4}, "another caps and eta"),
    ):
        with pytest.raises(ConfigError, match=f"Study 'mine' was begun with {what}"):
            run(job.model_copy(update=changed))


def test_a_study_whose_models_have_changed_is_refused(tmp_path: Path) -> None:
    book = tmp_path / "models.yaml"
    book.write_text("models:\n  m: {use: embedded/nano}\n")
    space = {**TINY, "models": {"generators": ["m"]}}
    job = tiny_job(tmp_path, study="mine", space=space, trials=2)
    job = job.model_copy(update={"session": job.session.model_copy(update={"models": book})})
    run(job)
    book.write_text("models:\n  m: {use: embedded/mini}\n")
    with pytest.raises(ConfigError, match=r"was begun on other items or models; bring them back"):
        run(job)


def test_the_id_of_another_run_is_no_name(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, trials=2)
    with Database.open(job.session.database_url) as database:
        other = RunStore(database).create(kind="run", name="x")
    with pytest.raises(ConfigError, match="is no search but a 'run'"):
        run(job.model_copy(update={"study": other.id}))


def test_third_rung_and_dropping(tmp_path: Path) -> None:
    """Nano alone is far behind four votes of mini, so that a long enough rung drops it by test."""
    view = run(tiny_job(tmp_path, items=240, rungs=(20, 80), sampler="exhaustive", trials=18, alpha=0.5))
    dropped = [trial for trial in view.trials if trial.state == "dropped"]
    assert dropped
    assert view.leader not in {trial.number for trial in dropped}
    assert {trial.rung for trial in dropped} <= {0, 1}


def test_planned_prices_are_kept_with_the_trials(tmp_path: Path) -> None:
    view = run(tiny_job(tmp_path, caps={"calls": 2}, trials=18))
    assert view.caps == ("2 calls",)
    assert view.points == 10
    assert max(trial.planned_calls for trial in view.trials) == 2
    assert all(trial.planned_dollars and trial.planned_dollars > 0 for trial in view.trials)
    assert len(view.trials) == 10


class Priced:
    """Scores pieces in the place of models: every item is right, and a sample costs a cent where that is known."""

    def __init__(self, unpriced: str = "") -> None:
        self.unpriced = unpriced
        self.pieces: list[Piece] = []

    async def __call__(self, piece: Piece) -> PieceDone:
        self.pieces.append(piece)
        calls = int(piece.architecture["nodes"]["generate"].get("samples", 1))
        known = piece.architecture["nodes"]["generate"]["model"] != self.unpriced
        one = Measured(quality=1.0, dollars=0.01 * calls if known else 0.0, calls=calls, seconds=calls)
        n = len(piece.items)
        used = Spent(calls_used=n * calls, dollars_used=Decimal(n * calls) / 100 if known else None)
        return PieceDone(measured=(one,) * n, used=used)


@pytest.mark.parametrize("unpriced", ["", "embedded/nano", "embedded/mini"])
def test_votes_are_given_what_the_winner_costs_in_one_unit(tmp_path: Path, unpriced: str) -> None:
    """The winner is 4 samples of mini, the best single model is nano, the first of equals."""
    space = {**TINY, "rules": [{"forbid": {"samples": [1, 2]}}, {"forbid": {"model": "embedded/nano"}}]}
    view = run(tiny_job(tmp_path, space=space, trials=2), runner=Priced(unpriced))
    assert view.ending is not None
    assert view.ending.contenders[-1].name == "self-consistency of 4 from embedded/nano"


@pytest.mark.parametrize("share", [True, False])
def test_without_sharing_the_end_shares_nothing_either(tmp_path: Path, share: bool) -> None:
    priced = Priced()
    view = run(tiny_job(tmp_path, share=share), runner=priced)
    held_out = {piece.title: piece.fresh for piece in priced.pieces if "held-out" in piece.title}
    assert len(held_out) > 3
    assert len({*held_out.values()}) == (1 if share else len(held_out))
    assert all(fresh.startswith(f"held-out {view.id}") for fresh in held_out.values())


def test_no_trial_is_dropped_for_its_seconds(tmp_path: Path) -> None:
    """A slow item may still come to the others: seconds have no bound."""
    options: dict[str, Any] = {"objectives": ("seconds",), "share": False, "sampler": "exhaustive", "trials": 18}
    view = run(tiny_job(tmp_path, items=400, rungs=(150,), **options), runner=Priced())
    assert view.status == "done"
    assert {trial.objectives for trial in view.trials} == {(-1.0,), (-2.0,), (-4.0,)}
    assert not any(trial.state == "dropped" for trial in view.trials)


@pytest.mark.parametrize("objectives", [("quality", "dollars"), ("quality", "utility"), ("dollars",)])
def test_a_price_that_nobody_knows_is_not_nothing(tmp_path: Path, objectives: tuple[str, ...]) -> None:
    book = tmp_path / "models.yaml"
    book.write_text("models:\n  free: {transport: openai, base_url: 'http://127.0.0.1:9/v1', model: free}\n")
    space = {**TINY, "models": {"generators": ["embedded/nano", "free"]}}
    job = tiny_job(tmp_path, space=space, objectives=objectives)
    job = job.model_copy(update={"session": job.session.model_copy(update={"models": book})})
    with pytest.raises(ConfigError, match=f"'{objectives[-1]}' needs the dollars of every .*; give all models a price"):
        run(job)


@pytest.mark.xdist_group("ended")
def test_a_kill_after_the_end_was_written_leaves_it_done(ended: tuple[Path, SearchJob, StudyView]) -> None:
    folder, job, view = ended
    with Database.open(f"sqlite:///{folder / 'colonnade.db'}") as database:
        RunStore(database).finish(view.id, "running")
    assert run(job) == view


def test_opening_a_study_makes_no_call(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)

    async def go() -> None:
        async with open_session(job.session) as session:
            study = open_study(job, session)
            assert study.models == ("embedded/mini", "embedded/nano")
            assert session.gateway.status().paid.calls == 0
            assert len(study.split.search) + len(study.split.guard) + len(study.split.held_out) == 40

    asyncio.run(go())


def test_nothing_is_added_up_twice() -> None:
    from flows.study_view import Spent

    one = Spent(calls_used=3, calls_paid=1, dollars_used=Decimal("0.5"), dollars_paid=None)
    assert one.plus(replace(one, dollars_paid=Decimal(1))) == Spent(
        calls_used=6, calls_paid=2, dollars_used=Decimal("1.0"), dollars_paid=None
    )


async def test_a_cap_in_seconds_goes_by_the_speeds_stored_at_the_beginning(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    space = read_space(TINY)
    async with open_session(job.session) as session:

        async def ask_all(question: str) -> None:
            for model in ("embedded/nano", "embedded/mini"):
                request = Request(model=model, messages=(Message("user", question),))
                await session.gateway.ask(request, 1, scope=Scope("r-1", question), node="single")

        with pytest.raises(SpecError, match="speeds are those of stored calls, so ask its models"):
            open_study(job.model_copy(update={"caps": {"seconds": 1000}}), session)
        await ask_all("Ann has 3 plums. Ann eats 2. How many plums has Ann now?")
        speeds = token_speeds(session.database, space, session.book)
        planned = plan_space(space, session.book, 20, speeds={name: Speed(0, speed) for name, speed in speeds.items()})
        needs = sorted({float(point.figures.high["seconds"] or 0) for point in planned.points})
        assert len(needs) > 1
        capped = job.model_copy(update={"caps": {"seconds": (needs[0] + needs[-1]) / 2}})
        began = open_study(capped, session)
        assert 0 < len(began.planned.points) < len(planned.points)
        await ask_all("Bo has 7 nails. Bo wins 5 more. How many nails has Bo now?")
        assert token_speeds(session.database, space, session.book) != speeds == began.job.speeds
        again = open_study(capped, session)
        assert (again.id, again.planned.domain.digest) == (began.id, began.planned.domain.digest)
