"""Batches against a real server: in order, each row once, duplicates paid once, failed rows apart and tried again."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from colonnade.batch_tables import batch_text
from colonnade.batching import UnderWay, show_batch
from db.errors import ConfigError, DataError
from flows.batch import BatchChunk, BatchChunkDone, batch, run_batch_chunk, stored_report
from flows.batch_job import BatchJob
from flows.batch_parts import Existing
from flows.batch_report import BatchReport, Sums, full_price, savings
from flows.session import Caps, open_session
from providers.book import ModelBook
from providers.testing_server import Asking, ModelServer
from tests.flows.batch_support import batch_job, doubled, numbers, read_lines
from tests.helpers import write_models


async def run(job: BatchJob, existing: Existing = "ask", **options: Any) -> BatchReport:
    async with open_session(job.session) as session:
        return await batch(job, session, existing=existing, **options)


async def test_every_row_once_in_order_with_all_its_columns(tmp_path: Path) -> None:
    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        report = await run(batch_job(tmp_path, numbers(10), gold="right", scorer="numeric"))
    rows = read_lines(tmp_path / "out.jsonl")
    assert [row["number"] for row in rows] == list(range(10))
    assert rows[3]["note"] == "nöte 3"
    assert rows[3]["answer"].endswith("Answer: 6")
    assert (rows[3]["extracted"], rows[3]["score"], rows[3]["calls"]) == ("6", 1.0, 3)
    assert rows[3]["trace"] == f"{report.run_id}/row-4"
    assert (report.status, report.rows, report.failed, report.score) == ("done", 10, 0, 1.0)
    assert report.spending.calls == report.spending.paid_calls == server.ledger.calls == 30
    tokens = Decimal(server.ledger.prompt_tokens + 2 * server.ledger.completion_tokens)
    assert report.spending.paid == tokens / 1_000_000
    assert sum(row["cost"] for row in rows) == pytest.approx(float(tokens) / 1e6)
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.jsonl"]
    assert "10 of 10 rows answered" in batch_text(report)


async def test_rows_that_ask_the_same_are_paid_once(tmp_path: Path) -> None:
    rows = [{"number": k % 3, "id": k} for k in range(12)]
    async with ModelServer(reply=doubled, latency_s=0.02) as server:
        write_models(tmp_path, server.url)
        report = await run(batch_job(tmp_path, rows, chunk=6))
    assert server.ledger.calls == 9
    assert (report.spending.calls, report.spending.paid_calls) == (36, 9)
    assert [row["id"] for row in read_lines(tmp_path / "out.jsonl")] == list(range(12))
    (shared,) = report.savings
    assert shared.way == "shared"
    assert shared.dollars is not None
    assert report.spending.cost is not None
    assert shared.dollars == report.spending.cost * 3 / 4
    assert "27 of 36 calls were there already, which saved" in batch_text(report)


async def test_failed_rows_have_a_file_of_their_own_and_are_tried_again(tmp_path: Path) -> None:
    rows: list[Any] = [*numbers(3), "{broken", {"other": 1}, *numbers(6)[3:], {"number": 1, "answer": "mine"}]
    async with ModelServer(reply=doubled, script=[None, "bad-request", None]) as server:
        write_models(tmp_path, server.url)
        job = batch_job(tmp_path, rows, concurrency=1)
        first = await run(job)
        assert (first.status, first.rows, first.failed, first.retriable) == ("done", 5, 4, 1)
        assert [row["number"] for row in read_lines(tmp_path / "out.jsonl")] == [0, 2, 3, 4, 5]
        failed = read_lines(Path(first.failed_out))
        assert [(row["row"], row["line"], row["retried_by_resume"]) for row in failed] == [
            (2, 2, True),
            (4, 4, False),
            (5, 5, False),
            (9, 9, False),
        ]
        assert failed[0]["error"] == "InsufficientCandidates"
        assert failed[0]["input"] == {"number": 1, "right": 2, "note": "nöte 1"}
        assert failed[1]["reason"].startswith("line 4: not valid JSON")
        assert "names the column 'number', which is not there; the columns are other" in failed[2]["reason"]
        assert "use --prefix" in failed[3]["reason"]
        assert f"colonnade batch resume {first.run_id}" in batch_text(first)
        before = server.ledger.calls
        second = await run(job, "resume")
    assert server.ledger.calls == before + 3
    assert (second.rows, second.failed, second.retriable) == (6, 3, 0)
    assert second.spending.paid_calls == server.ledger.calls
    assert [row["number"] for row in read_lines(tmp_path / "out.jsonl")] == [0, 1, 2, 3, 4, 5]
    assert not (tmp_path / "out.jsonl.parts").exists()
    assert second.seconds > first.seconds


async def test_a_cap_stops_it_and_more_money_goes_on(tmp_path: Path) -> None:
    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        stopped = await run(batch_job(tmp_path, numbers(12), caps=Caps(calls=15), concurrency=2))
        assert stopped.status == "over_budget"
        assert "calls" in stopped.reason
        assert server.ledger.calls <= 15
        assert not (tmp_path / "out.jsonl").exists()
        more = server.ledger.calls - stopped.spending.paid_calls
        assert stopped.reason.endswith(f"{more} more calls are paid, for rows whose chunks are not finished.")
        done = await run(batch_job(tmp_path, numbers(12), caps=Caps(calls=36)))
    assert (done.status, done.rows, server.ledger.calls) == ("done", 12, 36)
    assert done.spending.paid_calls == 36


async def test_a_chunk_that_breaks_is_the_end_of_a_go_and_not_of_the_job(tmp_path: Path) -> None:
    async def breaks(chunk: BatchChunk) -> BatchChunkDone:
        if chunk.number == 1:
            raise ConfigError("the disk is full")
        return await run_batch_chunk(chunk)

    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        job = batch_job(tmp_path, numbers(12))
        with pytest.raises(ConfigError, match="the disk is full"):
            await run(job, runner=breaks)
        async with open_session(job.session) as session:
            (record,) = session.runs.list(kind="batch")
            assert record.status == "failed"
            with pytest.raises(ConfigError, match=f"try: colonnade batch resume {record.id}"):
                stored_report(record)
        under_way = show_batch(record.id, job.session.database_url)
        assert isinstance(under_way, UnderWay)
        assert under_way.calls == server.ledger.calls
        done = await run(job)
    assert (done.rows, server.ledger.calls) == (12, 36)


async def test_what_stands_is_not_written_over_unasked(tmp_path: Path) -> None:
    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        job = batch_job(tmp_path, numbers(5))
        first = await run(job)
        with pytest.raises(ConfigError, match=r"exists; go on with it with --resume, or replace it with --overwrite"):
            await run(job)
        assert await run(job, "resume") == first
        other = batch_job(tmp_path, numbers(5), template="Now double {number}.")
        with pytest.raises(ConfigError, match="is not of this job"):
            await run(other, "resume")
        replaced = await run(other, "overwrite")
        assert replaced.run_id != first.run_id
        assert (await run(job, "overwrite")).spending.paid_calls == 15
    assert server.ledger.calls == 30


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.failed.jsonl"])
async def test_the_input_is_not_written_over(tmp_path: Path, name: str) -> None:
    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        job = batch_job(tmp_path, numbers(5))
        there = job.input.rename(tmp_path / name)
        before = there.read_bytes()
        # By another way, such as a link.
        (tmp_path / "link.jsonl").symlink_to(there)
        with pytest.raises(ConfigError, match="would be written over the input"):
            await run(job.model_copy(update={"input": tmp_path / "link.jsonl"}), "overwrite")
    assert there.read_bytes() == before


async def test_an_output_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        (tmp_path / "folder.jsonl").mkdir()
        with pytest.raises(ConfigError, match=r"folder.jsonl' is a folder; name a file"):
            await run(batch_job(tmp_path, numbers(5), out="folder.jsonl"), "overwrite")
        (tmp_path / "out.jsonl.parts").touch()
        with pytest.raises(ConfigError, match=r"out.jsonl.parts cannot be written \(.*\); name another --out"):
            await run(batch_job(tmp_path, numbers(5)))
    assert server.ledger.calls == 0


async def test_parts_are_their_jobs_and_one_process_writes_them(tmp_path: Path) -> None:
    async def stops(chunk: BatchChunk) -> BatchChunkDone:
        return BatchChunkDone(rows=0, stopped="enough")

    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        job = batch_job(tmp_path, numbers(5))
        await run(job, runner=stops)
        other = batch_job(tmp_path, numbers(5), template="Now double {number}.")
        with pytest.raises(ConfigError, match="holds the parts of another job"):
            await run(other)

        async def second_process(chunk: BatchChunk) -> BatchChunkDone:
            with pytest.raises(ConfigError, match="Another process is writing"):
                await run(job)
            return await run_batch_chunk(chunk)

        assert (await run(job, runner=second_process)).rows == 5
        with pytest.raises(ConfigError, match="There is no folder"):
            await run(job.model_copy(update={"out": tmp_path / "none" / "out.jsonl"}))
        with pytest.raises(ConfigError, match="name one with --out"):
            await run(job.model_copy(update={"out": None}))


async def test_a_kill_between_the_join_and_the_end_is_no_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object, **options: object) -> None:
        if "ignore_errors" not in options:
            raise Killed

    async def killed_at(place: str, job: BatchJob) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(place, killed)
            with pytest.raises(Killed):
                await run(job)

    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        job = batch_job(tmp_path, numbers(9))
        await killed_at("flows.batch.savings", job)
        assert (tmp_path / "out.jsonl").exists()
        assert (tmp_path / "out.jsonl.parts").exists()
        await killed_at("shutil.rmtree", job)
        assert (tmp_path / "out.jsonl.parts.old").exists()
        assert (await run(job, "resume")).rows == 9
        assert (await run(job, "overwrite")).rows == 9
    assert server.ledger.calls == 27
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.jsonl"]


async def test_chunks_keep_their_size_over_all_goes(tmp_path: Path) -> None:
    done: list[int] = []

    async def two(chunk: BatchChunk) -> BatchChunkDone:
        done.append(chunk.number)
        return await run_batch_chunk(chunk) if chunk.number < 2 else BatchChunkDone(rows=0, stopped="enough")

    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        await run(batch_job(tmp_path, numbers(11)), runner=two)
        parts = sorted(path.name for path in (tmp_path / "out.jsonl.parts").glob("0*"))
        assert parts == ["000000.jsonl", "000001.jsonl"]
        report = await run(batch_job(tmp_path, numbers(11), chunk=100))
    assert report.rows == 11
    assert [row["number"] for row in read_lines(tmp_path / "out.jsonl")] == list(range(11))


async def test_an_input_that_changes_meanwhile_is_said(tmp_path: Path) -> None:
    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        job = batch_job(tmp_path, numbers(5))

        async def changes(chunk: BatchChunk) -> BatchChunkDone:
            done = await run_batch_chunk(chunk)
            job.input.write_text(json.dumps({"number": 9}) + "\n")
            return done

        with pytest.raises(DataError, match="was changed while the job ran"):
            await run(job, runner=changes)


async def test_traces_are_kept_where_they_are_wanted(tmp_path: Path) -> None:
    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        wanted: dict[str, dict[str, Any]] = {"plain": {}, "scored": {"gold": "right", "scorer": "numeric"}}
        for name, options in wanted.items():
            job = batch_job(tmp_path, numbers(2), out=f"{name}.jsonl", traces=True, **options)
            async with open_session(job.session) as session:
                report = await batch(job, session)
                items = session.runs.items(report.run_id)
            assert [item.item_id for item in items] == ["row-1", "row-2"]
            assert [item.score for item in items] == [None if name == "plain" else 1.0] * 2
            assert "outcome" in json.loads(items[0].trace)


async def test_rows_that_begin_alike_follow_each_other(tmp_path: Path) -> None:
    asked: list[str] = []

    def reply(asking: Asking) -> str:
        asked.append(asking.prompt)
        return "Answer: 1"

    rows = [{"text": f"{'ab'[k % 2]} {k}"} for k in range(8)]
    async with ModelServer(reply=reply) as server:
        write_models(tmp_path, server.url)
        single = {"name": "single", "layers": [{"generate": {"model": "m", "max_tokens": 64}}]}
        options: dict[str, Any] = {"template": "{text}", "architecture": single, "concurrency": 1, "chunk": 8}
        await run(batch_job(tmp_path, [*rows, "{broken"], order="prefix", **options))
    assert asked == sorted(row["text"] for row in rows)
    assert [row["text"] for row in read_lines(tmp_path / "out.jsonl")] == [row["text"] for row in rows]


async def test_conditions_say_what_they_saved(tmp_path: Path) -> None:
    nodes: dict[str, dict[str, Any]] = {
        "draft": {"use": "generate", "model": "m", "samples": 3, "max_tokens": 64},
        "vote": {"use": "vote", "after": "draft"},
        "more": {"use": "generate", "model": "m", "samples": 2, "max_tokens": 64, "after": "vote"},
        "end": {"use": "vote", "after": ["draft", "more"]},
    }
    nodes["more"]["when"] = {"agreement": {"below": 1}}

    def reply(asking: Asking) -> str:
        number = int(asking.prompt.split()[-1].rstrip("."))
        return f"Answer: {asking.sample if number == 0 else 1}"

    async with ModelServer(reply=reply) as server:
        write_models(tmp_path, server.url)
        report = await run(
            batch_job(tmp_path, numbers(4), architecture={"name": "settled", "nodes": nodes, "output": "end"})
        )
    assert server.ledger.calls == 4 * 3 + 2
    (saved,) = report.savings
    assert saved.way == "condition"
    assert saved.sentence == "node 'more' was not needed for 3 rows"
    assert saved.dollars is not None
    more = report.by_node["more", "m"].cost
    assert more is not None
    assert saved.dollars == 3 * more


async def test_votes_that_are_settled_early_say_what_they_saved(tmp_path: Path) -> None:
    """Of five samples three are enough where they agree; row 0 needs all."""

    def reply(asking: Asking) -> str:
        number = int(asking.prompt.split()[-1].rstrip("."))
        return f"Answer: {asking.sample if number == 0 else 1}"

    node = {"model": "m", "samples": 5, "window": 1, "rule": "beta", "threshold": 1.0, "max_tokens": 64}
    async with ModelServer(reply=reply) as server:
        write_models(tmp_path, server.url)
        early = {"name": "early", "layers": [{"adaptive_vote": node}]}
        report = await run(batch_job(tmp_path, numbers(4), architecture=early))
    assert server.ledger.calls == 3 * 3 + 5
    (saved,) = report.savings
    assert (saved.way, saved.sentence) == ("early_stop", "node 'adaptive_vote' had enough before 6 calls to m")
    assert report.spending.cost is not None
    assert saved.dollars == report.spending.cost / 14 * 6
    assert "had enough before 6 calls to m, which saved $" in batch_text(report)


async def test_a_cascade_says_which_calls_it_did_without(tmp_path: Path) -> None:
    """The strong model is asked for row 0 alone, where the cheap one contradicts itself."""

    def reply(asking: Asking) -> str:
        number = int(asking.prompt.split()[-1].rstrip("."))
        return f"Answer: {asking.sample if number == 0 and asking.model == 'cheap' else 1}"

    stages = {"stages": ["cheap", "strong"], "samples": [2, 1], "threshold": 1.0}
    cascade = {"name": "cascade", "layers": [{"cascade": stages}]}
    for count, known in ((4, True), (1, False)):
        rows = numbers(count) if known else [{"number": 7}]
        async with ModelServer(reply=reply, models=("cheap", "strong")) as server:
            entry = {"transport": "openai", "base_url": server.url, "defaults": {"max_tokens": 64}}
            prices = {"cheap": {"prompt": 1, "completion": 2}, "strong": {"prompt": 100, "completion": 200}}
            models = {name: {**entry, "model": name, "price": price} for name, price in prices.items()}
            (tmp_path / "models.yaml").write_text(json.dumps({"models": models}))
            job = batch_job(tmp_path, rows, architecture=cascade, out=f"{count}.jsonl")
            report = await run(job)
        (saved,) = report.savings
        assert saved.sentence == f"node 'cascade' had enough before {3 if known else 1} calls to strong"
        strong = report.by_node.get(("cascade", "strong"))
        # What a model costs that was never asked is not known.
        assert saved.dollars == (3 * strong.cost if strong is not None and strong.cost is not None else None)
        assert (strong is not None) is known


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"deadline": timedelta(hours=6)}, 'give the session batch: "on" with it'),
        ({"template": "Double {nmber}."}, "The template names the column 'nmber'.* Did you mean 'number'"),
        ({"gold": "gold"}, "no column 'gold' for --gold; the columns are number, right, note"),
        ({"template": "{note}", "prefix": "", "gold": "right", "scorer": "nunmeric"}, "no scorer 'nunmeric'"),
        ({"out": "out.txt"}, "of an unknown kind; name it .jsonl"),
        ({"answer": "nummeric"}, "no kind of answer 'nummeric'"),
    ],
)
async def test_jobs_that_cannot_be_run_ask_nothing(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        with pytest.raises((ConfigError, DataError), match=sentence):
            await run(batch_job(tmp_path, numbers(3), **options))
        assert server.ledger.requests == 0
        with pytest.raises(DataError, match=r"No row of .* can be used"):
            await run(batch_job(tmp_path, ["{broken"]))
        with pytest.raises(ConfigError, match=r"column 'answer' itself, .* such as --prefix out_"):
            await run(batch_job(tmp_path, [{"number": 1, "answer": 2}]))
        report = await run(batch_job(tmp_path, [{"number": 1, "answer": 2}], prefix="out_"))
        assert report.rows == 1
    (row,) = read_lines(tmp_path / "out.jsonl")
    assert (row["answer"], row["out_calls"]) == (2, 3)


def test_what_the_providers_caches_saved(tmp_path: Path) -> None:
    entry = {"transport": "openai", "base_url": "http://localhost:1/v1", "model": "x"}
    price = {"prompt": 2, "completion": 4, "cached_prompt": 1}
    models = {"m": {**entry, "price": price}, "unknown": entry}
    (tmp_path / "models.yaml").write_text(json.dumps({"models": models}))
    book = ModelBook.load(tmp_path / "models.yaml")
    sums = Sums()
    for model, spent in (("m", "0.001900"), ("unknown", None)):
        row = {"row": 1, "ok": True, "uses": [["n", model, 1, 1_000, 100, 500, spent, 1, spent]]}
        sums.add(row, None)
    (saved,) = savings(sums, book)
    assert (saved.way, saved.dollars) == ("prompt_cache", Decimal("0.0005"))
    assert saved.sentence == "1,000 of 2,000 prompt tokens were in the providers' caches"
    assert savings(sums, book, ordered=True) == (saved,)
    none = Sums()
    none.add({"row": 1, "ok": True, "uses": [["n", "m", 1, 1_000, 100, 0, None, 1, None]]}, None)
    assert savings(none, book) == ()
    (nothing,) = savings(none, book, ordered=True)
    assert (nothing.dollars, nothing.sentence) == (Decimal(0), "0 of 1,000 prompt tokens were in the providers' caches")
    assert sums.total.cost is None
    assert full_price(sums, book) is None
