"""Studies: what is claimed, told and taken over, by one worker and by many at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from alembic import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, inspect
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, select

from db.database import Database
from db.migrations import config
from db.runs import ItemRecord, RunStore
from db.studies import JobRecord, NewTrial, Snapshot, StudyRecord, StudyStore, TrialRecord
from db.tables import StudyJobRow, StudyRow, TrialRow

NOW = datetime(2026, 11, 21, 23, 59, 59, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Clock:
    """The present, as the test sets it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Place(NamedTuple):
    """A store with an empty study `s`, and its clock."""

    studies: StudyStore
    clock: Clock


@pytest.fixture
def place(database: Database) -> Place:
    RunStore(database).create(kind="search", name="x", run_id="s")
    clock = Clock()
    studies = StudyStore(database, clock=clock)
    studies.create("s", domain="d" * 64, data="e" * 64, seed=7)
    return Place(studies, clock)


def trial(number: int, point: int) -> NewTrial:
    return NewTrial(number, point, f"a{point}", {"width": point, "model": "fast"})


def job(trial: int, rung: int = 0, **changes: object) -> JobRecord:
    values: dict[str, object] = {
        "study_id": "s",
        "trial": trial,
        "rung": rung,
        "worker": "w",
        "leased_until": NOW + MINUTE,
        "scores": None,
        "totals": None,
        "created_at": NOW,
        "told_at": None,
    }
    return JobRecord(**{**values, **changes})  # type: ignore[arg-type]  # changes are named in the tests below


def claim(studies: StudyStore, *trials: NewTrial, worker: str = "w") -> bool:
    """Claim trials with a job on rung 0 each."""
    return studies.claim("s", worker=worker, lease=MINUTE, trials=trials, jobs=[(trial.number, 0) for trial in trials])


def test_a_study_is_made_once(place: Place) -> None:
    studies, clock = place
    made = StudyRecord(id="s", domain="d" * 64, data="e" * 64, seed=7, created_at=NOW)
    assert studies.get("s") == made
    clock.now += MINUTE
    assert studies.create("s", domain="f" * 64, data="f" * 64, seed=8) == made
    assert studies.get("other") is None


def test_a_study_needs_its_run(database: Database) -> None:
    with pytest.raises(IntegrityError):
        StudyStore(database).create("r-nobody", domain="d", data="e", seed=0)


def test_a_seed_may_be_large(database: Database) -> None:
    RunStore(database).create(kind="search", name="x", run_id="s")
    assert StudyStore(database).create("s", domain="d", data="e", seed=2**62).seed == 2**62


def test_what_was_claimed_is_in_the_snapshot(place: Place) -> None:
    studies, _ = place
    assert studies.snapshot("s") == Snapshot((), ())
    assert studies.claim(
        "s", worker="w", lease=MINUTE, trials=[trial(1, 4), trial(0, 9)], jobs=[(1, 0), (0, 1), (0, 0), (-1, 0)]
    )
    assert studies.snapshot("s") == Snapshot(
        tuple(
            TrialRecord(
                study_id="s",
                number=number,
                point=point,
                architecture_id=f"a{point}",
                values={"width": point, "model": "fast"},
                created_at=NOW,
            )
            for number, point in ((0, 9), (1, 4))
        ),
        (job(-1), job(0), job(0, 1), job(1)),
    )
    assert studies.snapshot("other") == Snapshot((), ())


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(lambda s: claim(s, trial(1, 11), trial(0, 12)), id="number"),
        pytest.param(lambda s: claim(s, trial(1, 11), trial(2, 10)), id="point"),
        pytest.param(lambda s: s.claim("s", worker="v", lease=MINUTE, jobs=[(0, 1), (0, 0)]), id="job"),
        pytest.param(
            lambda s: s.claim("s", worker="v", lease=MINUTE, trials=[trial(1, 11)], jobs=[(1, 0), (0, 0)]),
            id="trial and job",
        ),
    ],
)
def test_a_claim_that_comes_late_adds_nothing(place: Place, attempt: Callable[[StudyStore], bool]) -> None:
    studies, _ = place
    assert claim(studies, trial(0, 10))
    before = studies.snapshot("s")
    assert not attempt(studies)
    assert studies.snapshot("s") == before
    assert claim(studies, trial(1, 11)), "nothing stays locked"


def test_told_twice_is_told_once(place: Place) -> None:
    studies, clock = place
    claim(studies, trial(0, 10))
    clock.now += MINUTE
    studies.tell("s", 0, 0, [1, 0.1 + 0.2], {"cost": "0.10"})
    told = job(0, scores=(1.0, 0.1 + 0.2), totals={"cost": "0.10"}, told_at=NOW + MINUTE)
    assert studies.snapshot("s").jobs == (told,)
    clock.now += MINUTE
    studies.tell("s", 0, 0, [1, 0.1 + 0.2], {"cost": "0.00"})
    with pytest.raises(ValueError, match="trial 0 of study 's' was told other scores on rung 0"):
        studies.tell("s", 0, 0, [1, 0], {})
    assert studies.snapshot("s").jobs == (told,)


def test_a_job_is_taken_over_by_one(place: Place) -> None:
    studies, clock = place
    claim(studies, trial(0, 10))
    clock.now += MINUTE
    assert not studies.take_over("s", 0, 0, worker="u", lease=MINUTE, was="nobody")
    assert studies.take_over("s", 0, 0, worker="u", lease=MINUTE, was="w")
    assert not studies.take_over("s", 0, 0, worker="v", lease=MINUTE, was="w")
    assert not studies.take_over("s", 0, 1, worker="v", lease=MINUTE, was="w")
    assert studies.snapshot("s").jobs == (job(0, worker="u", leased_until=NOW + 2 * MINUTE),)
    studies.tell("s", 0, 0, [1], {})
    assert not studies.take_over("s", 0, 0, worker="v", lease=MINUTE, was="u")


def test_leases_are_renewed_and_released(place: Place) -> None:
    studies, clock = place
    claim(studies, trial(0, 10), trial(1, 11))
    claim(studies, trial(2, 12), worker="v")
    studies.tell("s", 0, 0, [1], {})
    clock.now += MINUTE
    studies.renew("s", worker="w", lease=MINUTE)
    assert [held.leased_until - NOW for held in studies.snapshot("s").jobs] == [MINUTE, 2 * MINUTE, MINUTE]
    studies.release("s", worker="v")
    clock.now += MINUTE
    studies.release("s", worker="w")
    assert [held.leased_until - NOW for held in studies.snapshot("s").jobs] == [MINUTE, 2 * MINUTE, MINUTE]


@pytest.mark.parametrize(
    ("trials", "jobs"),
    [([trial(0, 10), trial(0, 11)], []), ([trial(0, 10), trial(1, 10)], []), ([], [(0, 0), (0, 0)])],
    ids=["number", "point", "job"],
)
def test_a_claim_at_odds_with_itself_is_refused(
    place: Place, trials: list[NewTrial], jobs: list[tuple[int, int]]
) -> None:
    with pytest.raises(ValueError, match="names a number, a point or a job twice"):
        place.studies.claim("s", worker="w", lease=MINUTE, trials=trials, jobs=jobs)
    assert place.studies.snapshot("s") == Snapshot((), ())


def test_what_is_not_there_is_named(place: Place) -> None:
    studies, _ = place
    with pytest.raises(ValueError, match="no study 'r'"):
        studies.claim("r", worker="w", lease=MINUTE, jobs=[(0, 0)])
    with pytest.raises(ValueError, match="no study 'r'"):
        studies.renew("r", worker="w", lease=MINUTE)
    claim(studies, trial(0, 10))
    with pytest.raises(ValueError, match="study 's' has no job for rung 1 of trial 0"):
        studies.tell("s", 0, 1, [1], {})


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_finite_number_is_refused(place: Place, score: float) -> None:
    claim(place.studies, trial(0, 10))
    with pytest.raises(ValueError, match="trial 0 of study 's' has a score on rung 0 that is no finite number"):
        place.studies.tell("s", 0, 0, [1, score], {})
    assert place.studies.snapshot("s").jobs == (job(0),)


def test_a_point_may_stand_in_two_studies(place: Place, database: Database) -> None:
    studies, _ = place
    RunStore(database).create(kind="search", name="x", run_id="t")
    studies.create("t", domain="d", data="e", seed=0)
    claim(studies, trial(0, 10))
    assert studies.claim("t", worker="w", lease=MINUTE, trials=[trial(0, 10)], jobs=[(0, 0)])
    studies.release("t", worker="w")
    assert studies.snapshot("s").jobs == (job(0),)


def test_texts_come_back_as_they_went(place: Place) -> None:
    studies, _ = place
    values = {"prompt": "a \x00 b \ud800 ü\n", "width": 3, "temperature": 0.1 + 0.2, "critic": None, "on": True}
    worker = "host \x00 1"
    assert studies.claim("s", worker=worker, lease=MINUTE, trials=[NewTrial(0, 0, "a", values)], jobs=[(0, 0)])
    snapshot = studies.snapshot("s")
    assert snapshot.trials[0].values == values
    assert snapshot.jobs[0].worker == "host \ufffd 1", "PostgreSQL has no NUL in text"
    assert studies.take_over("s", 0, 0, worker="v", lease=MINUTE, was=worker)
    studies.tell("s", 0, 0, [], values)
    assert (studies.snapshot("s").jobs[0].scores, studies.snapshot("s").jobs[0].totals) == ((), values)


@given(scores=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_scores_come_back_exactly(place: Place, scores: list[float]) -> None:
    number = len(place.studies.snapshot("s").trials)
    claim(place.studies, trial(number, number))
    for _ in range(2):
        place.studies.tell("s", number, 0, scores, {})
    assert place.studies.snapshot("s").jobs[number].scores == tuple(scores)


def test_a_snapshot_is_of_one_moment(place: Place, database: Database) -> None:
    """What is claimed between the two queries is in neither."""
    studies, _ = place
    claim(studies, trial(0, 10))
    before, pending = studies.snapshot("s"), [trial(1, 11)]

    @event.listens_for(database.engine, "after_cursor_execute")
    def claim_meanwhile(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM trial" in statement and pending:
            assert claim(studies, pending.pop())

    assert studies.snapshot("s") == before
    assert not pending
    assert [held.trial for held in studies.snapshot("s").jobs] == [0, 1]


def test_a_database_of_before_the_studies_is_brought_up_with_what_it_holds(url: str) -> None:
    with Database.open(url) as database:
        with database.engine.connect() as connection:
            command.downgrade(config(connection), "0002")
            connection.commit()
            assert not {"study", "trial", "study_job"} & set(inspect(connection).get_table_names())
        runs = RunStore(database)
        run = runs.create(kind="search", name="x", run_id="s")
        item = ItemRecord(run_id="s", architecture_id="a", item_id="1", created_at=NOW)
        runs.put_items([item])
    with Database.open(url) as database:
        runs, studies = RunStore(database), StudyStore(database)
        assert (runs.get("s"), runs.items("s")) == (run, (item,))
        studies.create("s", domain="d", data="e", seed=0)
        assert claim(studies, trial(0, 10))
        with database.engine.connect() as connection:
            command.downgrade(config(connection), "0002")
            connection.commit()
        assert (runs.get("s"), runs.items("s")) == (run, (item,))


def test_what_sqlmodel_reads_is_what_was_written(place: Place, database: Database) -> None:
    studies, _ = place
    claim(studies, trial(0, 10))
    studies.tell("s", 0, 0, [1], {"calls": 2})
    with Session(database.engine) as session:
        assert session.exec(select(StudyRow)).one().created_at == NOW
        assert session.exec(select(TrialRow)).one().label == '{"width": 10, "model": "fast"}'
        row = session.exec(select(StudyJobRow)).one()
        assert (row.scores, row.totals, row.told_at, row.leased_until) == ("[1.0]", '{"calls": 2}', NOW, NOW + MINUTE)
