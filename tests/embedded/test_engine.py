"""The engine under load: batches that change all the time, cancellation, closing, faults, sharing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from providers.base import WireRequest
from providers.embedded import EmbeddedTransport, blas
from providers.embedded.engine import Engine
from providers.embedded.forward import CHUNK
from providers.embedded.jobs import Job, Plan
from providers.embedded.model import load_model
from providers.embedded.worker import Worker
from providers.errors import ConnectionFailed, Overloaded

Ask = Callable[..., WireRequest]


def engine_of(transport: EmbeddedTransport) -> Engine:
    return transport._lease.engine


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(300):
        while not condition():  # noqa: ASYNC110 - the engine's thread has no event to wait for
            await asyncio.sleep(0.001)


def engine_threads() -> int:
    return sum(thread.name.startswith("embedded-") for thread in threading.enumerate())


@pytest.mark.parametrize("threads", [1, 2])
async def test_two_hundred_calls_at_once_say_what_each_says_alone(model: Path, ask: Ask, threads: int) -> None:
    busy = EmbeddedTransport(str(model), max_batch=32, threads=threads)
    alone = EmbeddedTransport(str(model), max_batch=1)
    requests = [
        ask(f"{number} loaves " * (1 + number % 7), seeds=(number, number + 1000), max_tokens=5 + number % 40)
        for number in range(200)
    ]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(busy.complete(request)) for request in requests]
    for task, request in list(zip(tasks, requests, strict=True))[::10]:
        assert task.result() == await alone.complete(request)
    assert engine_of(busy).load() == (0, 0)
    await busy.aclose()
    await alone.aclose()


async def test_the_event_loop_stays_free(make_model: Callable[..., Path], ask: Ask) -> None:
    folder = make_model(hidden=128, heads=4, kv_heads=4, layers=4, intermediate=384, context=1024)
    transport = EmbeddedTransport(str(folder))
    task = asyncio.create_task(transport.complete(ask(seeds=tuple(range(32)), max_tokens=100, name=folder.name)))
    turns = 0
    while not task.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 10
    await transport.aclose()


async def test_cancelling_frees_the_slots(make_model: Callable[..., Path], ask: Ask) -> None:
    folder = make_model(hidden=128, heads=4, kv_heads=4, layers=4, intermediate=384, context=1024)
    transport = EmbeddedTransport(str(folder), max_batch=8)
    engine = engine_of(transport)
    long = ask(seeds=tuple(range(60)), name=folder.name, temperature=1.5)
    task = asyncio.create_task(transport.complete(long))
    await until(lambda: engine.load().active == 8)
    queued = asyncio.create_task(transport.complete(long))
    await asyncio.sleep(0.01)
    task.cancel()
    queued.cancel()
    await asyncio.wait([task, queued])
    assert task.cancelled()
    assert queued.cancelled()
    await until(lambda: engine.load() == (0, 0))
    assert (await transport.complete(ask(max_tokens=2, name=folder.name))).completions
    await transport.aclose()


async def test_a_prompt_cancelled_while_it_is_read_is_dropped(make_model: Callable[..., Path], ask: Ask) -> None:
    folder = make_model(hidden=128, heads=4, kv_heads=4, layers=4, intermediate=384, context=4096)
    transport = EmbeddedTransport(str(folder))
    task = asyncio.create_task(transport.complete(ask("7" * 4000, name=folder.name)))
    await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait([task])
    assert (await transport.complete(ask(max_tokens=2, name=folder.name))).completions
    assert engine_of(transport).load() == (0, 0)
    await transport.aclose()


async def test_closing_while_busy_fails_what_is_in_flight(make_model: Callable[..., Path], ask: Ask) -> None:
    folder = make_model(hidden=128, heads=4, kv_heads=4, layers=4, intermediate=384, context=1024)
    transport = EmbeddedTransport(str(folder), max_batch=8)
    before = engine_threads()
    tasks = [asyncio.create_task(transport.complete(ask(seeds=tuple(range(30)), name=folder.name))) for _ in range(3)]
    await until(lambda: engine_of(transport).load().active > 0)
    await transport.aclose()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, ConnectionFailed)
        assert "closed while it was generating" in str(result)
    assert engine_threads() == before - 1


async def test_transports_of_a_model_share_an_engine_until_the_last_closes(model: Path, ask: Ask) -> None:
    first, second = EmbeddedTransport(str(model)), EmbeddedTransport(str(model))
    assert engine_of(first) is engine_of(second)
    other = EmbeddedTransport(str(model), max_batch=4)
    assert engine_of(other) is not engine_of(first)
    await first.aclose()
    assert (await second.complete(ask(max_tokens=2))).completions
    before = engine_threads()
    await second.aclose()
    await other.aclose()
    assert engine_threads() == before - 2


def job_of(tokens: list[int], max_new: int = 4) -> Job:
    plan = Plan(temperature=1.0, top_p=1.0, max_new=max_new, stop=(), top_logprobs=None)
    return Job(prompt=np.array(tokens, np.int64), plan=plan, seeds=(1,))


def test_a_fault_reaches_the_caller_and_the_engine_lives_on(model: Path) -> None:
    engine = Engine(load_model(model), max_batch=4, threads=1)
    neighbour = job_of([3, 10, 4], max_new=10_000_000)
    engine.submit(neighbour)
    broken = job_of([5] * 500)  # longer than the context, which only the transport checks
    engine.submit(broken)
    with pytest.raises(Overloaded, match=f"the embedded model '{model.name}' failed: ValueError"):
        broken.future.result(timeout=300)
    assert isinstance(neighbour.future.exception(timeout=300), Overloaded) or neighbour.future.done()
    healthy = job_of([3, 10, 4])
    engine.submit(healthy)
    assert healthy.future.result(timeout=300).completions
    engine.close()


def test_one_prompt_is_read_once_and_common_beginnings_are_reused(make_model: Callable[..., Path]) -> None:
    worker = Worker(load_model(make_model(context=1024)), max_batch=4)

    def passes(tokens: list[int]) -> int:
        job, count = job_of(tokens, max_new=1), 0
        worker.begin(job)
        while not job.future.done():
            worker.step()
            count += 1
        return count

    prompt = [5 + number % 250 for number in range(3 * CHUNK)]
    assert passes(prompt) == 3
    assert passes(prompt) == 0
    assert passes([*prompt, 7, 8, 9]) == 1
    assert passes([*prompt[:CHUNK], *prompt[: CHUNK + 1]]) == 2
    assert not worker.busy


async def test_reused_beginnings_change_no_text(model: Path, ask: Ask) -> None:
    texts = [f"the baker sells seven loaves {'and three ' * count}" for count in range(8)]
    requests = [ask(text, seeds=(1, 2, 3), max_tokens=25) for text in texts]
    warm = EmbeddedTransport(str(model))
    together = [await warm.complete(request) for request in requests]
    await warm.aclose()
    for request, reply in zip(requests, together, strict=True):
        fresh = EmbeddedTransport(str(model))
        assert await fresh.complete(request) == reply
        await fresh.aclose()


async def test_blas_threads_are_held_to_one_and_restored(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    blas._openblas.cache_clear()
    setting = blas._openblas()
    if setting is None:
        pytest.skip("NumPy does not use OpenBLAS here")
    before = setting.get()
    setting.set(2)
    first, second = EmbeddedTransport(str(model)), EmbeddedTransport(str(model), max_batch=2)
    assert setting.get() == 1
    await first.aclose()
    assert setting.get() == 1
    await second.aclose()
    assert setting.get() == 2
    setting.set(before)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    blas._openblas.cache_clear()
    assert blas._openblas() is None
    third = EmbeddedTransport(str(model))
    await third.aclose()
    blas._openblas.cache_clear()


def test_a_forked_child_says_that_its_engine_is_gone_and_can_start_another(model: Path) -> None:
    code = f"""
import asyncio, os
from providers.base import Message, Sampling, WireRequest
from providers.embedded import EmbeddedTransport
from providers.errors import ConnectionFailed
request = WireRequest(model={model.name!r}, messages=(Message("user", "7"),), sampling=Sampling(max_tokens=5),
                      indices=(0,), seeds=(1,))
async def child(inherited):
    try:
        await inherited.complete(request)
    except ConnectionFailed:
        await inherited.aclose()
        fresh = EmbeddedTransport({str(model)!r})
        await fresh.complete(request)
        await fresh.aclose()
        return 7
transport = EmbeddedTransport({str(model)!r})
child_id = os.fork()
if child_id == 0:
    os._exit(asyncio.run(child(transport)))
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child_id, 0)[1]))
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ, check=False)
    assert (done.returncode, done.stderr) == (7, "")


def test_a_process_that_forgets_to_close_ends(model: Path) -> None:
    code = f"""
import asyncio
from providers.base import Message, Sampling, WireRequest
from providers.embedded import EmbeddedTransport
async def main():
    transport = EmbeddedTransport({str(model)!r})
    request = WireRequest(model={model.name!r}, messages=(Message("user", "7"),), sampling=Sampling(max_tokens=5),
                          indices=(0,), seeds=(1,))
    print((await transport.complete(request)).completions[0].usage.completion_tokens)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=os.environ, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) >= 1
