"""Watches on a served model that changes: its reference, its looks, its alarms, a cap, references that are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.errors import ConfigError
from flows.evaluate import EvaluateJob, evaluate
from flows.session import Caps, open_session
from flows.watch import looks_of, stored_watches, watch
from flows.watch_job import Look
from flows.watch_report import look_text, looks_markdown
from tests.flows.watch_support import ITEMS, Opened, open_world


async def _look(opened: Opened, **options: object) -> Look:
    (look,) = await watch(opened.job(**options), opened.session)  # type: ignore[arg-type]  # fields of any kind
    return look


async def test_looks_have_new_samples_and_a_calm_model_gives_no_alarm(workplace: Path) -> None:
    async with open_world(workplace) as opened:
        reference = await _look(opened)
        assert (reference.number, reference.status, reference.items) == (0, "done", ITEMS)
        assert reference.smallest_fall is not None
        assert "nine times in ten" in look_text(reference)
        looks = [await _look(opened) for _ in range(3)]
        assert [look.number for look in looks] == [1, 2, 3]
        assert opened.server.ledger.calls == ITEMS * (2 + 3)
        assert [look.alarms for look in looks] == [()] * 3
        assert {finding.what for finding in looks[0].findings} == {"quality", "dollars", "tokens", "calls"}
        assert looks[0].served == {"m": ("test-model",)}
        assert looks_of(reference.watch, opened.session.database) == (reference, *looks)
        assert [record.id for record in stored_watches(opened.session.database)] == [reference.watch]
        assert "no alarm" in look_text(looks[-1])
        page = looks_markdown(looks_of(reference.watch, opened.session.database))
        assert page.count("\n| ") == 6
        other = await _look(opened, name="another")
        assert (other.number, other.watch == reference.watch) == (0, False)


async def test_a_fall_in_quality_is_an_alarm(workplace: Path) -> None:
    async with open_world(workplace) as opened:
        await _look(opened)
        assert (await _look(opened)).alarms == ()
        opened.world.right = 0.45
        look = await _look(opened)
        assert [alarm.kind for alarm in look.alarms] == ["quality-fell"]
        (fell,) = look.alarms
        assert fell.error is not None
        assert fell.error < 0.05
        assert fell.after is not None
        assert fell.after < look.reference
        assert "QUALITY-FELL" in look_text(look)
        assert "**Alarm.** Quality fell from" in looks_markdown([look])


async def test_a_rise_of_the_cost_is_an_alarm_beyond_what_is_tolerated(workplace: Path) -> None:
    async with open_world(workplace) as opened:
        await _look(opened)
        opened.world.filler = "so we add the two, and carry one, and then once more, twice over, which makes"
        look = await _look(opened)
        assert {(alarm.kind, alarm.what) for alarm in look.alarms} == {
            ("cost-rose", "dollars"),
            ("cost-rose", "tokens"),
        }
        assert "Tokens per item rose from" in look_text(look)
        await _look(opened, name="lenient", cost_tolerance=3.0)
        opened.world.filler *= 2
        assert (await _look(opened, name="lenient", cost_tolerance=3.0)).alarms == ()


async def test_a_model_that_is_served_under_another_name_is_an_alarm_once(workplace: Path) -> None:
    async with open_world(workplace) as opened:
        await _look(opened)
        opened.server.served_as = "test-model-2026-11-01"
        look = await _look(opened)
        assert [(alarm.kind, alarm.what) for alarm in look.alarms] == [("model-changed", "m")]
        said = "The model 'm' is now served as 'test-model-2026-11-01', before as 'test-model'."
        assert said in look_text(look)
        assert (await _look(opened)).alarms == ()


async def test_greedy_answers_that_change_betray_a_changed_model(workplace: Path) -> None:
    async with open_world(workplace) as opened:
        await _look(opened, temperature=0.0)
        calm = await _look(opened, temperature=0.0)
        assert calm.alarms == ()
        assert any(finding.what == "answers" and finding.after == 0 for finding in calm.findings)
        opened.world.filler = "so we sum"
        look = await _look(opened, temperature=0.0)
        assert [(alarm.kind, alarm.what) for alarm in look.alarms] == [("model-changed", "answers")]
        assert f"{ITEMS} of {ITEMS} greedy requests are answered as never before" in look_text(look)


async def test_what_has_no_price_is_watched_by_tokens_and_calls(workplace: Path) -> None:
    async with open_world(workplace, priced=False) as opened:
        assert (await _look(opened, repeats=1)).dollars is None
        look = await _look(opened)
        assert [finding.what for finding in look.findings] == ["quality", "tokens", "calls"]
        assert "| $? |" in looks_markdown([look])


async def test_a_reference_whose_answers_came_from_the_cache_has_none_to_compare(workplace: Path) -> None:
    async with open_world(workplace) as opened:
        job = opened.job(temperature=0.0)
        evaluation = EvaluateJob(architecture=job.architectures[0], task=job.task, session=job.session)
        await evaluate(evaluation, opened.session)
        cached = await evaluate(evaluation.model_copy(update={"again": 1}), opened.session)
        await _look(opened, temperature=0.0, references=(cached.run_id,))
        first = await _look(opened, temperature=0.0, references=(cached.run_id,))
        assert "answers" not in {finding.what for finding in first.findings}
        second = await _look(opened, temperature=0.0, references=(cached.run_id,))
        assert "answers" in {finding.what for finding in second.findings}


async def test_a_cap_stops_a_look_and_the_same_job_ends_it(workplace: Path) -> None:
    async def capped(opened: Opened, calls: int) -> Look:
        settings = opened.settings.model_copy(update={"caps": Caps(calls=calls)})
        async with open_session(settings) as session:
            (look,) = await watch(opened.job(), session)
        assert ("stopped" in look_text(look)) == (look.status == "over_budget")
        return look

    async with open_world(workplace) as opened:
        looks = [await capped(opened, calls) for calls in (ITEMS + 10, ITEMS, 40, 40)]
        assert [(look.status, look.number) for look in looks] == [
            ("over_budget", 0),
            ("done", 0),
            ("over_budget", 1),
            ("done", 1),
        ]
        assert opened.server.ledger.calls == ITEMS * (2 + 1)
        assert [look.status for look in looks_of(looks[0].watch, opened.session.database)] == ["done", "done"]
        # What a look met before it was stopped is still new when it ends.
        opened.server.served_as = "newer"
        assert (await capped(opened, 40)).status == "over_budget"
        assert [alarm.what for alarm in (await capped(opened, 40)).alarms] == ["m"]


async def test_runs_that_are_named_are_the_reference(workplace: Path) -> None:
    async with open_world(workplace) as opened:
        job = opened.job()
        evaluation = EvaluateJob(architecture=job.architectures[0], task=job.task, session=job.session)
        run = await evaluate(evaluation, opened.session)
        reference = await _look(opened, references=(run.run_id,))
        assert (reference.number, reference.run_id) == (0, run.run_id)
        assert reference.smallest_fall is None
        assert "Nothing is known of how samples" in look_text(reference)
        assert (await _look(opened, references=(run.run_id,))).number == 1
        assert opened.server.ledger.calls == 2 * ITEMS

        few = await evaluate(
            evaluation.model_copy(update={"task": job.task.model_copy(update={"items": 20})}), opened.session
        )
        with pytest.raises(ConfigError, match="holds 20 of the 60 items"):
            await _look(opened, references=(few.run_id,))
        with pytest.raises(ConfigError, match="There is no run 'e-nowhere'"):
            await _look(opened, references=("e-nowhere",))
        with pytest.raises(ConfigError, match="of an architecture that is not watched"):
            await _look(opened, references=(run.run_id,), temperature=0.1)
        with pytest.raises(ConfigError, match="There is no watch 'w-none'"):
            looks_of("w-none", opened.session.database)


def test_a_report_needs_a_look() -> None:
    with pytest.raises(ValueError, match="needs a look"):
        looks_markdown([])
