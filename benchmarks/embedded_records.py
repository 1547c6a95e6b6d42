"""Asks the embedded models about problems and records what came of it; `embedded.py` makes figures of the records."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from evals.problems import Family, Problem, check, check_steps, make_problems, read_answer
from nodes.parsing import read_critiques, read_ranking, read_score, read_statements, read_test_results, read_verdict
from nodes.prompting import render
from nodes.shown import Shown
from providers.base import Message, Sampling, WireRequest
from providers.embedded import EmbeddedTransport

MODELS = ("nano", "mini", "judge")
SAMPLES = 16
MOST_TOKENS = 256
_IN_FLIGHT = 128
Given = Mapping[str, object]
Prompt = tuple[Message, ...]


class Scored(NamedTuple):
    """What the judge thinks of something, and whether it is right."""

    score: float
    right: bool


@dataclass(frozen=True, kw_only=True)
class Solved:
    """What came of one model's samples of one problem."""

    right: tuple[bool, ...]
    passed: tuple[bool, ...]
    """Whether the judge's verdict was correct."""
    rewards: tuple[float, ...]
    steps: tuple[Scored, ...]
    """The beginnings of two samples, the answer's line left out."""
    majority16: bool
    majority8: bool
    verified16: bool
    """The majority among those that passed, of all where none did."""
    ranked: bool
    """The first of eight."""
    fused: bool
    """One made of eight."""
    refined: bool
    """The first sample after a critique of it."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What came of one problem."""

    nano: Solved
    mini: Solved
    mixed8: bool
    """The majority of four of each."""
    judge: tuple[bool, ...]
    """Samples of the judge, asked to solve."""


Unread = dict[str, tuple[int, int]]
"""By model and role: replies that could not be read, replies."""


@dataclass(kw_only=True)
class Bench:
    """Open models, and how replies are drawn."""

    transports: dict[str, EmbeddedTransport]
    temperature: float
    unread: Unread = field(default_factory=dict)

    async def ask(self, model: str, role: str, asked: Sequence[Given], n: int = 1) -> list[list[str]]:
        """Ask one thing about each; what is asked twice is sampled twice, from one reading of the prompt."""
        prompts = [render("compact", role, given) for given in asked]
        counts = Counter(prompts)
        gate = asyncio.Semaphore(_IN_FLIGHT)

        async def replies(prompt: Prompt) -> list[str]:
            async with gate:
                request = self._request(model, prompt, seeds(model, prompt, n=counts[prompt] * n))
                return [done.text for done in (await self.transports[model].complete(request)).completions]

        async with asyncio.TaskGroup() as group:
            tasks = {prompt: group.create_task(replies(prompt)) for prompt in counts}
        left = {prompt: iter(task.result()) for prompt, task in tasks.items()}
        return [[next(left[prompt]) for _ in range(n)] for prompt in prompts]

    async def one(self, model: str, role: str, asked: Sequence[Given]) -> list[str]:
        """Ask for one reply to each."""
        return [texts[0] for texts in await self.ask(model, role, asked)]

    async def scores(self, asked: Sequence[Given]) -> list[float]:
        """Ask the judge how likely each partial solution is right."""
        prompts = [render("compact", "score", given) for given in asked]
        gate = asyncio.Semaphore(_IN_FLIGHT)

        async def score(prompt: Prompt) -> float:
            async with gate:
                return await self.transports["judge"].score(self._request("judge", prompt, ()))

        async with asyncio.TaskGroup() as group:
            tasks = {prompt: group.create_task(score(prompt)) for prompt in dict.fromkeys(prompts)}
        return [tasks[prompt].result() for prompt in prompts]

    def note(self, model: str, role: str, read: Sequence[object]) -> None:
        """Count replies that were not read (None)."""
        key = f"{model} {role}"
        bad, all_ = self.unread.get(key, (0, 0))
        self.unread[key] = (bad + sum(one is None for one in read), all_ + len(read))

    def _request(self, model: str, prompt: Prompt, drawn: tuple[int, ...]) -> WireRequest:
        return WireRequest(
            model=model,
            messages=prompt,
            sampling=Sampling(temperature=self.temperature, max_tokens=MOST_TOKENS),
            indices=tuple(range(len(drawn))),
            seeds=drawn,
        )


def seeds(model: str, prompt: Prompt, *, n: int) -> tuple[int, ...]:
    """Seeds that depend on what is asked alone."""
    digest = hashlib.sha256(repr((model, prompt)).encode()).digest()
    first = int.from_bytes(digest[:7], "big")
    return tuple(first + i for i in range(n))


@contextlib.asynccontextmanager
async def opened(names: Sequence[str], slots: int, threads: int) -> AsyncIterator[dict[str, EmbeddedTransport]]:
    """Open transports and close them again."""
    transports = {name: EmbeddedTransport(name, max_batch=slots, threads=threads) for name in names}
    try:
        yield transports
    finally:
        for transport in transports.values():
            await transport.aclose()


def majority(problem: Problem, texts: Sequence[str]) -> bool:
    """Say whether the commonest answer is right; the one seen first wins a tie."""
    votes = Counter(answer for text in texts if (answer := read_answer(text)) is not None)
    return bool(votes) and votes.most_common(1)[0][0] == problem.answer


async def sampled(bench: Bench, name: str, problems: Sequence[Problem], n: int) -> list[list[str]]:
    """Sample n solutions of each problem."""
    rows = await bench.ask(name, "generate", [{"question": p.question} for p in problems], n)
    bench.note(name, "generate", [read_answer(text) for row in rows for text in row])
    return rows


async def solved(bench: Bench, name: str, problems: Sequence[Problem], rows: list[list[str]]) -> list[Solved]:
    """Have the judge do everything with one model's samples."""
    asked: list[Given] = [
        {"question": p.question, "candidate": text, "partial": text}
        for p, row in zip(problems, rows, strict=True)
        for text in row
    ]
    passed = await _verdicts(bench, asked)
    rewards = await bench.scores(asked)
    steps = await _steps(bench, problems, rows)
    ranked, fused = await _chosen(bench, problems, rows)
    refined = await _refined(bench, problems, rows)
    found = []
    for i, (problem, row) in enumerate(zip(problems, rows, strict=True)):
        own = slice(i * len(row), (i + 1) * len(row))
        kept = [text for text, keep in zip(row, passed[own], strict=True) if keep]
        found.append(
            Solved(
                right=tuple(check(problem, text) for text in row),
                passed=tuple(passed[own]),
                rewards=tuple(rewards[own]),
                steps=steps[i],
                majority16=majority(problem, row),
                majority8=majority(problem, row[:8]),
                verified16=majority(problem, kept or row),
                ranked=check(problem, ranked[i]),
                fused=check(problem, fused[i]),
                refined=check(problem, refined[i]),
            )
        )
    return found


async def _verdicts(bench: Bench, asked: Sequence[Given]) -> list[bool]:
    reasons = await bench.one("judge", "verify_reason", asked)
    given = [{**one, "reasoning": reason} for one, reason in zip(asked, reasons, strict=True)]
    verdicts = [read_verdict(text) for text in await bench.one("judge", "verify_verdict", given)]
    bench.note("judge", "verify_verdict", verdicts)
    return [verdict is True for verdict in verdicts]


async def _steps(bench: Bench, problems: Sequence[Problem], rows: list[list[str]]) -> list[tuple[Scored, ...]]:
    asked: list[Given] = []
    labels: list[list[bool]] = []
    for problem, row in zip(problems, rows, strict=True):
        labels.append([])
        for text in row[:2]:
            lines = text.splitlines()
            for step, right in enumerate(check_steps(problem, text)[:-1], 1):
                asked.append({"question": problem.question, "partial": "\n".join(lines[:step])})
                labels[-1].append(right)
    scores = iter(await bench.scores(asked))
    return [tuple(Scored(next(scores), right) for right in found) for found in labels]


async def _chosen(bench: Bench, problems: Sequence[Problem], rows: list[list[str]]) -> tuple[list[str], list[str]]:
    asked: list[Given] = [
        {"question": p.question, "candidates": _shown(row[:8]), "keep": 1}
        for p, row in zip(problems, rows, strict=True)
    ]
    rankings = [read_ranking(text, 8) for text in await bench.one("judge", "rank", asked)]
    bench.note("judge", "rank", [ranking if ranking and ranking.named == 8 else None for ranking in rankings])
    fused = await bench.one("judge", "fuse", asked)
    bench.note("judge", "fuse", [read_answer(text) for text in fused])
    return [row[r.order[0] if r else 0] for row, r in zip(rows, rankings, strict=True)], fused


async def _refined(bench: Bench, problems: Sequence[Problem], rows: list[list[str]]) -> list[str]:
    alone: list[Given] = [
        {"question": p.question, "candidates": _shown(row[:1])} for p, row in zip(problems, rows, strict=True)
    ]
    remarks = [(read_critiques(text, 1) or (None,))[0] for text in await bench.one("judge", "critique", alone)]
    bench.note("judge", "critique", remarks)
    given: list[Given] = [
        {"question": p.question, "candidate": row[0], "critique": remark}
        for p, row, remark in zip(problems, rows, remarks, strict=True)
    ]
    refined = await bench.one("judge", "refine", given)
    bench.note("judge", "refine", [read_answer(text) for text in refined])
    return refined


def _shown(texts: Sequence[str]) -> list[Shown]:
    return [Shown(n, text, None) for n, text in enumerate(texts, 1)]


_TESTS = ("It ends with an answer.", "It adds 5.", "Its sums are right.")
_READERS: dict[str, Callable[[str], object]] = {
    "critique": lambda text: None if None in (read_critiques(text, 8) or (None,)) else text,
    "rank": lambda text: found if (found := read_ranking(text, 8)) and found.named == 8 else None,
    "fuse": read_answer,
    "refine": read_answer,
    "verify_verdict": read_verdict,
    "judge": read_score,
    "unit_tests": lambda text: read_statements(text, 3) or None,
    "unit_test_evaluate": lambda text: None if None in read_test_results(text, len(_TESTS)) else text,
}


async def ask_all_roles(bench: Bench, problems: Sequence[Problem], rows: list[list[str]]) -> None:
    """Ask every model for what it is not asked elsewhere, to see whether its replies can be read."""
    for model in MODELS:
        asked: list[Given] = [
            {
                "question": p.question,
                "candidates": _shown(row[:8]),
                "candidate": row[0],
                "critique": None,
                "keep": 3,
                "count": 3,
                "tests": _TESTS,
            }
            for p, row in zip(problems, rows, strict=True)
        ]
        reasons = await bench.one(model, "verify_reason", asked)
        given = [{**one, "reasoning": reason} for one, reason in zip(asked, reasons, strict=True)]
        for role, read in _READERS.items():
            if f"{model} {role}" not in bench.unread or role == "critique":
                bench.note(model, role, [read(text) for text in await bench.one(model, role, given)])


async def record(
    family: Family, items: int, part: slice, *, temperature: float, roles: bool
) -> tuple[list[Record], Unread]:
    """Record a part of a family's held-out problems, with one thread a model."""
    problems = make_problems(family, items, split="test")[part]
    async with opened(MODELS, 64, 1) as transports:
        bench = Bench(transports=transports, temperature=temperature)
        rows = {name: await sampled(bench, name, problems, SAMPLES) for name in ("nano", "mini")}
        nano, mini = [await solved(bench, name, problems, rows[name]) for name in ("nano", "mini")]
        alone = await sampled(bench, "judge", problems, 4)
        if roles:
            await ask_all_roles(bench, problems, rows["mini"])
    records = []
    for i, problem in enumerate(problems):
        mixed = [text for pair in zip(rows["nano"][i][:4], rows["mini"][i][:4], strict=True) for text in pair]
        records.append(
            Record(
                nano=nano[i],
                mini=mini[i],
                mixed8=majority(problem, mixed),
                judge=tuple(check(problem, text) for text in alone[i]),
            )
        )
    return records, bench.unread
