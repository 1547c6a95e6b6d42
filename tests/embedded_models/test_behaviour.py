"""What the shipped models do, on few problems: the roles they were trained for, with mistakes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from evals.problems import Problem, check, make_problems, read_answer
from nodes.parsing import read_critiques, read_ranking, read_verdict
from nodes.prompting import render
from nodes.shown import Shown
from providers.base import Sampling, WireRequest
from providers.embedded import EmbeddedTransport

PROBLEMS = make_problems("arithmetic", 24, split="test")


class Models:
    """The three models, asked with fixed seeds."""

    def __init__(self) -> None:
        self._transports = {name: EmbeddedTransport(name) for name in ("nano", "mini", "judge")}

    async def ask(
        self, model: str, role: str, asked: Sequence[dict[str, object]], *, n: int = 1, temperature: float = 0.8
    ) -> list[list[str]]:
        """Ask for n replies to each."""

        async def replies(given: dict[str, object]) -> list[str]:
            request = WireRequest(
                model=model,
                messages=render("compact", role, given),
                sampling=Sampling(temperature=temperature, max_tokens=256),
                indices=tuple(range(n)),
                seeds=tuple(range(n)),
            )
            done = await self._transports[model].complete(request)
            return [completion.text for completion in done.completions]

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(replies(given)) for given in asked]
        return [task.result() for task in tasks]

    async def score(self, given: dict[str, object]) -> float:
        """Ask the judge whether a partial solution is still right."""
        prompt = render("compact", "score", given)
        request = WireRequest(model="judge", messages=prompt, sampling=Sampling(), indices=(), seeds=())
        return await self._transports["judge"].score(request)

    async def aclose(self) -> None:
        """Close all."""
        for transport in self._transports.values():
            await transport.aclose()


@pytest.fixture
async def models() -> AsyncIterator[Models]:
    opened = Models()
    yield opened
    await opened.aclose()


def spoiled(problem: Problem) -> str:
    """A solution whose first step is off by one."""
    first, *rest = problem.solution
    left, value = first.rsplit(" ", 1)
    return "\n".join((f"{left} {int(value) + 1}", *rest[:-1], "Answer: 1"))


async def test_the_solvers_err_at_different_rates_and_sampling_pays(models: Models) -> None:
    asked: list[dict[str, object]] = [{"question": p.question} for p in PROBLEMS]
    rates, reached = {}, {}
    for name in ("nano", "mini", "judge"):
        rows = await models.ask(name, "generate", asked, n=6)
        right = [[check(p, text) for text in row] for p, row in zip(PROBLEMS, rows, strict=True)]
        rates[name] = sum(map(sum, right)) / (6 * len(PROBLEMS))
        reached[name] = sum(map(any, right)) / len(PROBLEMS)
        assert all(read_answer(text) is not None for row in rows for text in row)
    assert 0.2 < rates["nano"] < rates["mini"] < 0.9
    assert rates["judge"] < rates["mini"]
    assert reached["nano"] > rates["nano"] + 0.2
    assert reached["mini"] > rates["mini"] + 0.1


async def test_the_judge_tells_right_from_wrong(models: Models) -> None:
    right: list[dict[str, object]] = [{"question": p.question, "candidate": "\n".join(p.solution)} for p in PROBLEMS]
    wrong: list[dict[str, object]] = [{"question": p.question, "candidate": spoiled(p)} for p in PROBLEMS]
    for given, expected in ((right, True), (wrong, False)):
        reasons = await models.ask("judge", "verify_reason", given, temperature=0)
        told: list[dict[str, object]] = [{**one, "reasoning": row[0]} for one, row in zip(given, reasons, strict=True)]
        verdicts = [read_verdict(row[0]) for row in await models.ask("judge", "verify_verdict", told, temperature=0)]
        assert sum(verdict is expected for verdict in verdicts) >= 21, verdicts
    scores = [
        [await models.score({"question": one["question"], "partial": one["candidate"]}) for one in given]
        for given in (right, wrong)
    ]
    assert sum(good > bad for good, bad in zip(*scores, strict=True)) >= 22


async def test_the_judge_finds_the_right_one_among_wrong_ones(models: Models) -> None:
    asked: list[dict[str, object]] = []
    for place, problem in enumerate(PROBLEMS):
        texts = [spoiled(problem)] * 4
        texts[place % 4] = "\n".join(problem.solution)
        shown = [Shown(n, text, None) for n, text in enumerate(texts, 1)]
        asked.append({"question": problem.question, "candidates": shown, "keep": 1})
    rankings = [read_ranking(row[0], 4) for row in await models.ask("judge", "rank", asked, temperature=0)]
    firsts = [ranking is not None and ranking.order[0] == place % 4 for place, ranking in enumerate(rankings)]
    assert sum(firsts) >= 20
    fused = await models.ask("judge", "fuse", asked, temperature=0)
    assert sum(check(problem, row[0]) for problem, row in zip(PROBLEMS, fused, strict=True)) >= 20
    remarks = [read_critiques(row[0], 4) for row in await models.ask("judge", "critique", asked, temperature=0)]
    praised = [
        found is not None and [str(r).startswith("right") for r in found] == [n == place % 4 for n in range(4)]
        for place, found in enumerate(remarks)
    ]
    assert sum(praised) >= 18
