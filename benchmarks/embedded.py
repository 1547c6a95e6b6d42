"""Measures the models that ship inside, through the runtime that ships with them.

    python benchmarks/embedded.py [--items 512] [--temperature 0.8] [--threads 2] [--json]

Held-out problems (split `test`) of both families; every reply is sampled at the same temperature. Prints a table with
95 % intervals; with `--json` the last line is one JSON object for comparisons over time. The figures of
`docs/embedded-models.md` are this program's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evals.problems import Family, Problem, check, check_steps, make_problems, read_answer
from nodes.parsing import read_critiques, read_ranking, read_score, read_statements, read_test_results, read_verdict
from nodes.prompting import render
from nodes.shown import Shown
from providers.base import Completion, Message, Sampling, WireRequest
from providers.embedded import EmbeddedTransport

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS = ("nano", "mini", "judge")
FAMILIES: tuple[Family, ...] = ("arithmetic", "dates")
SAMPLES = 16
MOST_TOKENS = 256
IN_FLIGHT = 128
Given = Mapping[str, object]


class Estimate(NamedTuple):
    """A figure with its 95 % interval, in the unit of the figure."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:7.3f} [{self.low:6.3f}, {self.high:6.3f}]"


def mean_of(values: Sequence[float] | NDArray[np.float64]) -> Estimate:
    """Mean of one value a problem, normal interval."""
    found = np.asarray(values, np.float64)
    half = 1.96 * found.std(ddof=1) / len(found) ** 0.5
    return Estimate(float(found.mean()), float(found.mean() - half), float(found.mean() + half))


def resampled(groups: Sequence[NDArray[np.float64]], figure: Callable[[NDArray[np.float64]], float]) -> Estimate:
    """A figure of all rows together, with a bootstrap interval that draws whole problems (200 draws, fixed seed)."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(groups), (200, len(groups)))
    draws = [figure(np.concatenate([groups[i] for i in pick])) for pick in picks]
    return Estimate(figure(np.concatenate(groups)), *(float(q) for q in np.nanquantile(draws, (0.025, 0.975))))


def auc(rows: NDArray[np.float64]) -> float:
    """Area under the ROC curve of rows (score, 1 where right), ties counted half."""
    right = rows[:, 1] > 0
    _, place, count = np.unique(rows[:, 0], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    positive = int(right.sum())
    if positive in (0, len(rows)):
        return math.nan
    return float((ranks[right].sum() - positive * (positive + 1) / 2) / (positive * (len(rows) - positive)))


def balanced(rows: NDArray[np.float64]) -> float:
    """Mean of the rates of right decisions among the right and among the wrong; rows (1 where accepted, 1 if right)."""
    return (accepted(rows, right=True) + 1 - accepted(rows, right=False)) / 2


def accepted(rows: NDArray[np.float64], *, right: bool) -> float:
    """Part of the right, or of the wrong, that was accepted; rows as in `balanced`."""
    chosen = rows[(rows[:, 1] > 0) == right, 0]
    return float(chosen.mean()) if len(chosen) else math.nan


def seeds(*parts: object, n: int) -> tuple[int, ...]:
    """Seeds that depend on what is asked alone."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    first = int.from_bytes(digest[:7], "big")
    return tuple(first + i for i in range(n))


@dataclass(kw_only=True)
class Bench:
    """The three models, and how replies are drawn."""

    transports: dict[str, EmbeddedTransport]
    temperature: float
    unreadable: dict[str, list[bool]] = field(default_factory=dict)
    """By model and role, one entry a reply."""

    async def ask(self, model: str, role: str, asked: Sequence[Given], n: int = 1) -> list[list[str]]:
        """Ask one thing about each; what is asked twice is sampled twice, from one reading of the prompt."""
        prompts = [render("compact", role, given) for given in asked]
        counts = Counter(prompts)
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def replies(prompt: tuple[Message, ...]) -> list[str]:
            async with gate:
                done = await self._complete(model, role, prompt, counts[prompt] * n)
            return [completion.text for completion in done]

        async with asyncio.TaskGroup() as group:
            tasks = {prompt: group.create_task(replies(prompt)) for prompt in counts}
        left = {prompt: iter(task.result()) for prompt, task in tasks.items()}
        return [[next(left[prompt]) for _ in range(n)] for prompt in prompts]

    async def one(self, model: str, role: str, asked: Sequence[Given]) -> list[str]:
        """Ask for one reply to each."""
        return [texts[0] for texts in await self.ask(model, role, asked)]

    async def _complete(self, model: str, role: str, prompt: tuple[Message, ...], n: int) -> tuple[Completion, ...]:
        request = WireRequest(
            model=model,
            messages=prompt,
            sampling=Sampling(temperature=self.temperature, max_tokens=MOST_TOKENS),
            indices=tuple(range(n)),
            seeds=seeds(model, role, prompt, n=n),
        )
        return (await self.transports[model].complete(request)).completions

    async def scores(self, asked: Sequence[Given]) -> list[float]:
        """Ask the judge how likely each partial solution is right."""
        prompts = [render("compact", "score", given) for given in asked]
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def score(prompt: tuple[Message, ...]) -> float:
            async with gate:
                wanted = WireRequest(model="judge", messages=prompt, sampling=Sampling(), indices=(), seeds=())
                return await self.transports["judge"].score(wanted)

        async with asyncio.TaskGroup() as group:
            tasks = {prompt: group.create_task(score(prompt)) for prompt in dict.fromkeys(prompts)}
        return [tasks[prompt].result() for prompt in prompts]

    def note(self, model: str, role: str, read: Sequence[object]) -> None:
        """Count replies that were not read (None)."""
        self.unreadable.setdefault(f"{model} {role}", []).extend(one is None for one in read)


@dataclass(kw_only=True)
class Sampled:
    """One model's samples of a family's problems, and which are right."""

    name: str
    problems: list[Problem]
    texts: list[list[str]]

    @property
    def right(self) -> NDArray[np.float64]:
        """(problems, samples), 1 where right."""
        return np.array(
            [[float(check(p, text)) for text in row] for p, row in zip(self.problems, self.texts, strict=True)]
        )

    def shown(self, count: int) -> list[list[Shown]]:
        """The first so many of each problem as candidates."""
        return [[Shown(n, text, None) for n, text in enumerate(row[:count], 1)] for row in self.texts]


def majority(problems: Sequence[Problem], rows: Sequence[Sequence[str]]) -> list[float]:
    """1 where the commonest answer is right; the one seen first wins a tie."""
    votes = [Counter(a for text in row if (a := read_answer(text)) is not None) for row in rows]
    winners = [vote.most_common(1)[0][0] if vote else None for vote in votes]
    return [float(winner == problem.answer) for winner, problem in zip(winners, problems, strict=True)]


def correct(problems: Sequence[Problem], texts: Sequence[str]) -> list[float]:
    """1 where a reply is right."""
    return [float(check(problem, text)) for problem, text in zip(problems, texts, strict=True)]


Figures = dict[str, Estimate]


def compared(figures: Figures, key: str, values: Sequence[float], base: Sequence[float], over: str) -> None:
    """Put down a figure and its paired difference from another one."""
    figures[key] = mean_of(values)
    figures[f"{key} - {over}"] = mean_of(np.asarray(values) - np.asarray(base))


async def sampled(bench: Bench, name: str, problems: list[Problem], n: int) -> Sampled:
    """Sample n solutions of each problem."""
    texts = await bench.ask(name, "generate", [{"question": p.question} for p in problems], n)
    for row in texts:
        bench.note(name, "generate", [read_answer(text) for text in row])
    return Sampled(name=name, problems=problems, texts=texts)


def measure_sampling(figures: Figures, samples: Sampled) -> None:
    """pass@k and majorities."""
    name, right = samples.name, samples.right
    one, any16 = right.mean(1), right.max(1)
    figures[f"{name} pass@1"] = mean_of(one)
    compared(figures, f"{name} pass@16", any16, one, "pass@1")
    compared(figures, f"{name} majority of 16", majority(samples.problems, samples.texts), one, "pass@1")
    figures[f"{name} pass@16 - majority of 16"] = mean_of(any16 - np.array(majority(samples.problems, samples.texts)))
    figures[f"{name} majority of 8"] = mean_of(majority(samples.problems, [row[:8] for row in samples.texts]))


async def measure_verifying(bench: Bench, figures: Figures, samples: Sampled) -> None:
    """Verdicts and rewards of the judge on all samples; the majority among the verified."""
    name = samples.name
    asked = [
        {"question": p.question, "candidate": text}
        for p, row in zip(samples.problems, samples.texts, strict=True)
        for text in row
    ]
    reasons = await bench.one("judge", "verify_reason", asked)
    given = [{**one, "reasoning": reason} for one, reason in zip(asked, reasons, strict=True)]
    verdicts = [read_verdict(text) for text in await bench.one("judge", "verify_verdict", given)]
    bench.note("judge", "verify", verdicts)
    passed = np.array([verdict is True for verdict in verdicts]).reshape(len(samples.texts), -1)
    groups = [np.stack(pair, 1) for pair in zip(passed.astype(float), samples.right, strict=True)]
    figures[f"judge balanced accuracy on {name}"] = resampled(groups, balanced)
    figures[f"judge accepts right of {name}"] = resampled(groups, lambda rows: accepted(rows, right=True))
    figures[f"judge rejects wrong of {name}"] = resampled(groups, lambda rows: 1 - accepted(rows, right=False))
    scores = await bench.scores([{"question": one["question"], "partial": one["candidate"]} for one in asked])
    rewards = np.array(scores).reshape(passed.shape)
    rewarded = [np.stack(pair, 1) for pair in zip(rewards, samples.right, strict=True)]
    figures[f"judge reward AUC on {name}"] = resampled(rewarded, auc)
    kept = [
        [text for text, keep in zip(row, keeps, strict=True) if keep] or row
        for row, keeps in zip(samples.texts, passed, strict=True)
    ]
    plain = majority(samples.problems, samples.texts)
    compared(figures, f"{name} verified 16", majority(samples.problems, kept), plain, "majority of 16")


async def measure_steps(bench: Bench, figures: Figures, samples: Sampled) -> None:
    """The step scorer on every beginning of two samples of each problem, the answer's line left out."""
    asked: list[Given] = []
    labels: list[float] = []
    sizes: list[int] = []
    for problem, row in zip(samples.problems, samples.texts, strict=True):
        before = len(asked)
        for text in row[:2]:
            lines = text.splitlines()
            for step, right in enumerate(check_steps(problem, text)[:-1], 1):
                asked.append({"question": problem.question, "partial": "\n".join(lines[:step])})
                labels.append(float(right))
        sizes.append(len(asked) - before)
    rows = np.stack((np.array(await bench.scores(asked)), np.array(labels)), 1)
    figures[f"judge step AUC on {samples.name}"] = resampled(np.split(rows, np.cumsum(sizes)[:-1]), auc)


async def measure_choosing(bench: Bench, figures: Figures, samples: Sampled) -> None:
    """Rank and fuse of the first eight; critique, then refine, of the first."""
    name, problems = samples.name, samples.problems
    one = samples.right.mean(1)
    asked: list[Given] = [
        {"question": p.question, "candidates": eight, "keep": 1}
        for p, eight in zip(problems, samples.shown(8), strict=True)
    ]
    rankings = [read_ranking(text, 8) for text in await bench.one("judge", "rank", asked)]
    bench.note("judge", "rank", [None if r is None or r.named < 8 else r for r in rankings])
    first = [row[r.order[0] if r else 0] for row, r in zip(samples.texts, rankings, strict=True)]
    compared(figures, f"{name} rank, first of 8", correct(problems, first), one, "pass@1")
    fused = await bench.one("judge", "fuse", asked)
    bench.note("judge", "fuse", [read_answer(text) for text in fused])
    eight = majority(problems, [row[:8] for row in samples.texts])
    compared(figures, f"{name} fuse of 8", correct(problems, fused), eight, "majority of 8")
    listed = [read_critiques(text, 8) or (None,) * 8 for text in await bench.one("judge", "critique", asked)]
    bench.note("judge", "critique", [remark for remarks in listed for remark in remarks])
    await measure_refining(bench, figures, samples)


async def measure_refining(bench: Bench, figures: Figures, samples: Sampled) -> None:
    """Critique and refine the first sample."""
    name, problems = samples.name, samples.problems
    alone: list[Given] = [
        {"question": p.question, "candidates": c} for p, c in zip(problems, samples.shown(1), strict=True)
    ]
    remarks = [(read_critiques(text, 1) or (None,))[0] for text in await bench.one("judge", "critique", alone)]
    bench.note("judge", "critique", remarks)
    given: list[Given] = [
        {"question": p.question, "candidate": row[0], "critique": remark}
        for p, row, remark in zip(problems, samples.texts, remarks, strict=True)
    ]
    refined = await bench.one("judge", "refine", given)
    bench.note("judge", "refine", [read_answer(text) for text in refined])
    before = correct(problems, [row[0] for row in samples.texts])
    compared(figures, f"{name} critique, refine", correct(problems, refined), before, "the first sample")


def measure_mixing(figures: Figures, nano: Sampled, mini: Sampled) -> None:
    """The majority of four of each against eight of either."""
    mixed = [
        [text for pair in zip(a[:4], b[:4], strict=True) for text in pair]
        for a, b in zip(nano.texts, mini.texts, strict=True)
    ]
    votes = majority(nano.problems, mixed)
    for samples in (nano, mini):
        eight = majority(nano.problems, [row[:8] for row in samples.texts])
        compared(figures, "majority of 4 + 4", votes, eight, f"{samples.name}'s majority of 8")


async def measure_roles(bench: Bench, samples: Sampled) -> None:
    """Ask every model for what it is not asked elsewhere, to see whether its replies can be read."""
    eight = samples.shown(8)
    tests = ["It ends with an answer.", "It adds 5.", "Its sums are right."]
    readers: dict[str, Callable[[str], object]] = {
        "critique": lambda text: None if None in (read_critiques(text, 8) or (None,)) else text,
        "rank": lambda text: r if (r := read_ranking(text, 8)) and r.named == 8 else None,
        "fuse": read_answer,
        "refine": read_answer,
        "verify_verdict": read_verdict,
        "judge": read_score,
        "unit_tests": lambda text: read_statements(text, 3) or None,
        "unit_test_evaluate": lambda text: None if None in read_test_results(text, len(tests)) else text,
    }
    for model in MODELS:
        asked = [
            {"question": p.question, "candidates": c, "candidate": row[0], "keep": 3, "count": 3, "tests": tests}
            for p, c, row in zip(samples.problems, eight, samples.texts, strict=True)
        ]
        reasons = await bench.one(model, "verify_reason", asked)
        given = [{**one, "reasoning": r, "critique": None} for one, r in zip(asked, reasons, strict=True)]
        for role, read in readers.items():
            bench.note(model, role, [read(text) for text in await bench.one(model, role, given)])


async def measure_family(bench: Bench, family: Family, items: int) -> Figures:
    """Everything about one family."""
    began = time.monotonic()
    problems = make_problems(family, items, split="test")
    figures: Figures = {}
    nano, mini = [await sampled(bench, name, problems, SAMPLES) for name in ("nano", "mini")]
    for samples in (nano, mini):
        measure_sampling(figures, samples)
        await measure_verifying(bench, figures, samples)
        await measure_steps(bench, figures, samples)
        await measure_choosing(bench, figures, samples)
        print(f"{family}: {samples.name} after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    measure_mixing(figures, nano, mini)
    alone = (await sampled(bench, "judge", problems, 4)).right.mean(1)
    compared(figures, "judge pass@1", alone, mini.right.mean(1), "mini's")
    if family == FAMILIES[0]:
        await measure_roles(bench, mini)
    return figures


async def same_text(items: int, temperature: float) -> tuple[int, int]:
    """Draw samples with one thread and 32 slots, then in another order with two threads and 24; count differences."""
    problems = make_problems("arithmetic", items, split="dev", seed=1)
    texts: list[dict[tuple[str, str], list[str]]] = []
    for threads, slots, backwards in ((1, 32, False), (2, 24, True)):
        async with opened(("nano", "mini"), slots, threads) as transports:
            bench = Bench(transports=transports, temperature=temperature)
            found: dict[tuple[str, str], list[str]] = {}
            for model in transports:
                asked = problems[::-1] if backwards else problems
                rows = await bench.ask(model, "generate", [{"question": p.question} for p in asked], 5)
                found |= {(model, p.id): row for p, row in zip(asked, rows, strict=True)}
        texts.append(found)
    pairs = [(a, b) for key, row in texts[0].items() for a, b in zip(row, texts[1][key], strict=True)]
    return sum(a != b for a, b in pairs), len(pairs)


@contextlib.asynccontextmanager
async def opened(names: Sequence[str], slots: int, threads: int) -> AsyncIterator[dict[str, EmbeddedTransport]]:
    """Open transports and close them again."""
    transports = {name: EmbeddedTransport(name, max_batch=slots, threads=threads) for name in names}
    try:
        yield transports
    finally:
        for transport in transports.values():
            await transport.aclose()


class Speed(NamedTuple):
    """What one model costs in a process of its own."""

    tokens_per_s: float
    """Generated, by the wall clock, prompts included, 32 in flight on one thread."""
    tokens_per_cpu_s: float
    load_s: float
    memory_mb: float
    """The largest resident set of the process, Python and NumPy included."""


async def probe(model: str) -> Speed:
    """Measure speed and memory in this process."""
    import resource

    began = time.perf_counter()
    transport = EmbeddedTransport(model)
    load = time.perf_counter() - began
    problems = make_problems("arithmetic", 96, split="dev")
    prompts = [render("compact", "generate", {"question": p.question}) for p in problems]
    bench = Bench(transports={model: transport}, temperature=0.8)
    await bench.one(model, "generate", [{"question": "Ann has 3 pens."}])
    wall, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(bench._complete(model, "speed", prompt, 8)) for prompt in prompts]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    tokens = sum(completion.usage.completion_tokens for task in tasks for completion in task.result())
    await transport.aclose()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Speed(tokens / wall, tokens / cpu, load, memory)


def probed(model: str) -> Speed:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, "--probe", model]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Speed(*json.loads(done.stdout.splitlines()[-1]))


def report(results: dict[Family, Figures], bench: Bench, speeds: dict[str, Speed]) -> None:
    """Print the tables."""
    print(f"{'':44}" + "".join(f"{family:>28}" for family in results))
    for key in results[FAMILIES[0]]:
        print(f"{key:44}" + "".join(f"{figures[key]!s:>28}" for figures in results.values()))
    print("\nreplies that could not be read, of how many")
    for key, flags in sorted(bench.unreadable.items()):
        print(f"{key:32}{sum(flags):6} of {len(flags):6} ({100 * sum(flags) / len(flags):.2f} %)")
    print("\non one thread, 32 in flight: tokens/s by the clock, by CPU time; loading s; memory MB")
    for model, speed in speeds.items():
        print(f"{model:10}{speed[0]:9.0f}{speed[1]:9.0f}{speed[2]:8.3f}{speed[3]:8.0f}")
    weights = Path(sys.modules[EmbeddedTransport.__module__].__file__ or "").parent / "models"
    total = sum(path.stat().st_size for path in weights.glob("*/model.safetensors"))
    print(f"all weights {total / 1e6:.2f} MB")


def summary(results: dict[Family, Figures], speeds: dict[str, Speed]) -> dict[str, float]:
    """Pick the figures to compare over time: those of word problems, of mini where both models have one."""
    figures = results["arithmetic"]
    keys = {
        "nano_pass1": "nano pass@1",
        "nano_pass16": "nano pass@16",
        "mini_pass1": "mini pass@1",
        "mini_pass16": "mini pass@16",
        "mini_majority16": "mini majority of 16",
        "mini_verified16": "mini verified 16",
        "judge_balanced_accuracy": "judge balanced accuracy on mini",
        "judge_auc": "judge reward AUC on mini",
        "rank_top1": "mini rank, first of 8",
        "fuse8": "mini fuse of 8",
        "refine_gain": "mini critique, refine - the first sample",
    }
    found = {name: round(figures[key].value, 4) for name, key in keys.items()}
    for model in ("nano", "mini"):
        found[f"{model}_tokens_per_s"] = round(speeds[model].tokens_per_cpu_s, 1)
    return found


async def measured(arguments: argparse.Namespace) -> tuple[dict[Family, Figures], Bench]:
    """Measure both families."""
    async with opened(MODELS, 64, arguments.threads) as transports:
        bench = Bench(transports=transports, temperature=arguments.temperature)
        results = {family: await measure_family(bench, family, arguments.items) for family in FAMILIES}
    return results, bench


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=512, help="problems of each family")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--threads", type=int, default=2, help="threads a model generates with")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--probe", choices=MODELS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        print(json.dumps(asyncio.run(probe(arguments.probe))))
        return
    began = time.monotonic()
    speeds = {model: probed(model) for model in MODELS}
    results, bench = asyncio.run(measured(arguments))
    report(results, bench, speeds)
    different, of = asyncio.run(same_text(max(1, min(500, arguments.items)), arguments.temperature))
    print(f"the same seed gave another text in {different} of {of} samples (other threads, slots and order)")
    print(f"{arguments.items} problems of each family, {time.monotonic() - began:.0f} s")
    if arguments.json:
        print(json.dumps(summary(results, speeds)))


if __name__ == "__main__":
    main()
