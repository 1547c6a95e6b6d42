"""Measures trained models with the PyTorch sampler: `python -m training.evaluate DIR [--items 512] [--split dev]`.

For the GPU machine, where it takes two and a half minutes; `benchmarks/embedded.py` measures the same through the NumPy
runtime. Both draw at random, each in its own way, so their figures agree within the intervals and no closer.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from evals.problems import Family, Problem, Split, check, check_steps, make_problems, read_answer
from training.documents import Role, Shown, rendered
from training.sampler import Sampler

_RANKING = re.compile(r"Ranking: (\[\d+\](?: > \[\d+\])*)$")
_REMARK = re.compile(r"\[(\d+)\] (right|wrong at step \d+: .+)")


@dataclass(kw_only=True)
class Bench:
    """The models and the problems of one family."""

    nano: Sampler
    mini: Sampler
    judge: Sampler
    problems: list[Problem]
    temperature: float
    figures: dict[str, float]
    rows: dict[str, list[float]]
    """One value a problem, for intervals and paired differences."""
    judged: dict[str, list[list[tuple[float, bool]]]]
    """By problem: what the judge says (1 where accepted, a reward, a step's score), and whether it is right."""

    def ask(
        self, role: Role, variables: list[dict[str, object]], places: list[int], model: Sampler | None = None
    ) -> list[str]:
        """Ask a model (the judge) one thing about each of the problems at these places."""
        prompts = [
            rendered(role, {"question": self.problems[i].question, **given})
            for i, given in zip(places, variables, strict=True)
        ]
        return (model or self.judge).sample(prompts, temperature=self.temperature, most=256)

    def put(self, key: str, values: Iterable[float]) -> None:
        """Keep a figure that has one value a problem."""
        self.rows[key] = [float(value) for value in values]

    def right(self, place: int, text: str) -> bool:
        """Check a reply."""
        return check(self.problems[place], text)

    def majority(self, place: int, texts: list[str]) -> float:
        """Say whether the commonest answer is right; the first seen wins a tie."""
        answers = [answer for text in texts if (answer := read_answer(text)) is not None]
        return float(bool(answers) and Counter(answers).most_common(1)[0][0] == self.problems[place].answer)


def auc(scores: list[float], labels: list[bool]) -> float:
    """Return the area under the ROC curve, ties counted half."""
    values, truth = np.array(scores), np.array(labels)
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1, len(values) + 1)
    _, inverse = np.unique(values, return_inverse=True)
    ranks = (np.bincount(inverse, ranks) / np.bincount(inverse))[inverse]
    positive = int(truth.sum())
    negative = len(truth) - positive
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


def sample_all(bench: Bench, model: Sampler, n: int) -> list[list[str]]:
    """Sample n solutions of each problem."""
    places = [i for i in range(len(bench.problems)) for _ in range(n)]
    texts = bench.ask("generate", [{} for _ in places], places, model)
    return [texts[i * n : (i + 1) * n] for i in range(len(bench.problems))]


def measure_sampling(bench: Bench, name: str, samples: list[list[str]]) -> None:
    """pass@1, pass@16, majority, readability."""
    right = np.array([[bench.right(i, text) for text in texts] for i, texts in enumerate(samples)])
    bench.put(f"{name} pass1", right.mean(1))
    bench.put(f"{name} pass16", right.any(1))
    bench.put(f"{name} maj8", [bench.majority(i, texts[:8]) for i, texts in enumerate(samples)])
    bench.put(f"{name} maj16", [bench.majority(i, texts) for i, texts in enumerate(samples)])
    bench.put(f"{name} first", right[:, 0])
    bench.figures[f"{name} unreadable"] = float(np.mean([read_answer(t) is None for row in samples for t in row]))


def measure_verifying(bench: Bench, name: str, samples: list[list[str]]) -> None:
    """Verdicts, the reward and the step scorer on all samples, and the majority among the verified."""
    n = len(samples[0])
    places = [i for i in range(len(samples)) for _ in range(n)]
    texts = [text for row in samples for text in row]
    reasons = bench.ask("verify_reason", [{"candidate": text} for text in texts], places)
    given: list[dict[str, object]] = [{"candidate": t, "reasoning": r} for t, r in zip(texts, reasons, strict=True)]
    verdicts = bench.ask("verify_verdict", given, places)
    kept = [verdict == "Verdict: correct" for verdict in verdicts]
    truth = [bench.right(i, text) for i, text in zip(places, texts, strict=True)]
    accepted = np.array(kept)
    labels = np.array(truth)
    verified = [
        [t for t, k in zip(row, accepted[i * n : (i + 1) * n], strict=True) if k] for i, row in enumerate(samples)
    ]
    prompts = [
        rendered("score", {"question": bench.problems[i].question, "partial": t})
        for i, t in zip(places, texts, strict=True)
    ]
    rewards = bench.judge.yes(prompts)
    bench.figures |= {
        f"{name} accepts right": float(accepted[labels].mean()),
        f"{name} rejects wrong": float(1 - accepted[~labels].mean()),
        f"{name} balanced": float((accepted[labels].mean() + 1 - accepted[~labels].mean()) / 2),
        f"{name} reward auc": auc(rewards, truth),
        f"{name} verdict unreadable": float(np.mean([not re.fullmatch(r"Verdict: (in)?correct", v) for v in verdicts])),
        f"{name} reason unreadable": float(
            np.mean([not re.fullmatch(r"(step \d+: (right|wrong(, should be .+)?)(\n|$))+", r) for r in reasons])
        ),
    }
    decided = list(zip(map(float, kept), truth, strict=True))
    rewarded = list(zip(rewards, truth, strict=True))
    bench.judged[f"{name} verdicts"] = [decided[i * n : (i + 1) * n] for i in range(len(samples))]
    bench.judged[f"{name} rewards"] = [rewarded[i * n : (i + 1) * n] for i in range(len(samples))]
    bench.put(f"{name} verified16", [bench.majority(i, row or samples[i]) for i, row in enumerate(verified)])
    measure_steps(bench, name, samples)


def measure_steps(bench: Bench, name: str, samples: list[list[str]]) -> None:
    """The step scorer on every beginning of two samples of each problem."""
    prompts: list[str] = []
    labels: list[bool] = []
    starts: list[int] = []
    for i, row in enumerate(samples):
        starts.append(len(labels))
        for text in row[:2]:
            lines = text.splitlines()
            for step, right in enumerate(check_steps(bench.problems[i], text)[:-1], 1):
                partial = "\n".join(lines[:step])
                prompts.append(rendered("score", {"question": bench.problems[i].question, "partial": partial}))
                labels.append(right)
    scores = bench.judge.yes(prompts)
    rows = list(zip(scores, labels, strict=True))
    bench.judged[f"{name} steps"] = [rows[start:end] for start, end in pairwise([*starts, len(rows)])]
    bench.figures[f"{name} step auc"] = auc(scores, labels)


def measure_choosing(bench: Bench, name: str, samples: list[list[str]]) -> None:
    """Rank and fuse of eight, critique and refine of one."""
    places = list(range(len(samples)))
    eight = [[Shown(n=n, text=t) for n, t in enumerate(row[:8], 1)] for row in samples]
    rankings = bench.ask("rank", [{"candidates": c, "keep": 1} for c in eight], places)
    found = [_RANKING.search(text) for text in rankings]
    orders = [[int(n) for n in re.findall(r"\d+", m[1])] if m else [] for m in found]
    whole = [sorted(order) == list(range(1, 9)) for order in orders]
    first = [row[order[0] - 1] if ok else row[0] for row, order, ok in zip(samples, orders, whole, strict=True)]
    fused = bench.ask("fuse", [{"candidates": c} for c in eight], places)
    critiques = bench.ask("critique", [{"candidates": c} for c in eight], places)
    remarks = [_REMARK.findall(text) for text in critiques]
    single = bench.ask("critique", [{"candidates": c[:1]} for c in eight], places)
    remark = [m[2] if (m := _REMARK.fullmatch(text)) else None for text in single]
    given: list[dict[str, object]] = [
        {"candidate": row[0], "critique": r} for row, r in zip(samples, remark, strict=True)
    ]
    refined = bench.ask("refine", given, places)
    alone = bench.ask("refine", [{"candidate": row[0], "critique": None} for row in samples], places)
    verdicts = [
        r[2].startswith("right") == bench.right(i, samples[i][k])
        for i, found8 in enumerate(remarks)
        for k, r in enumerate([("", *f) for f in found8][:8])
    ]
    bench.put(f"{name} rank1", [bench.right(i, t) for i, t in enumerate(first)])
    bench.put(f"{name} fuse8", [bench.right(i, t) for i, t in enumerate(fused)])
    bench.put(f"{name} refined", [bench.right(i, t) for i, t in enumerate(refined)])
    bench.put(f"{name} refined no critique", [bench.right(i, t) for i, t in enumerate(alone)])
    bench.figures |= {
        f"{name} rank unreadable": float(1 - np.mean(whole)),
        f"{name} fuse unreadable": float(np.mean([read_answer(t) is None for t in fused])),
        f"{name} critique unreadable": float(np.mean([len(r) != 8 for r in remarks])),
        f"{name} critique accuracy": float(np.mean(verdicts)),
    }


def measure_mixing(bench: Bench, nano: list[list[str]], mini: list[list[str]]) -> None:
    """Four of each: the majority, and the fusion."""
    mixed = [[t for pair in zip(a[:4], b[:4], strict=True) for t in pair] for a, b in zip(nano, mini, strict=True)]
    bench.put("mixed maj8", [bench.majority(i, texts) for i, texts in enumerate(mixed)])
    shown = [[Shown(n=n, text=t) for n, t in enumerate(row, 1)] for row in mixed]
    fused = bench.ask("fuse", [{"candidates": c} for c in shown], list(range(len(mixed))))
    bench.put("mixed fuse8", [bench.right(i, text) for i, text in enumerate(fused)])


READABLE: dict[Role, str] = {
    "generate": r"(.+\n)*Answer: -?\d+",
    "critique": r"(\[\d+\] (right|wrong at step \d+: .+)(\n|$))+",
    "rank": r"(\[\d+\] (right|wrong) ?)+\nRanking: \[\d+\]( > \[\d+\])*",
    "fuse": r"(.+\n)*Answer: -?\d+",
    "refine": r"(.+\n)*Answer: -?\d+",
    "verify_reason": r"(step \d+: (right|wrong(, should be .+)?)(\n|$))+",
    "verify_verdict": r"Verdict: (in)?correct",
    "judge": r"Score: ([1-9]|10)",
    "unit_tests": r"(\d+\. .+(\n|$))+",
    "unit_test_evaluate": r"(\d+\. \[(Passed|Failed)\](\n|$))+",
    "score": r" (yes|no)",
}


def measure_readability(bench: Bench, name: str, model: Sampler, samples: list[list[str]]) -> None:
    """Ask a model for every role once an item, and count the replies that cannot be read."""
    places = list(range(len(samples)))
    shown = [[Shown(n=n, text=t) for n, t in enumerate(row[:8], 1)] for row in samples]
    tests = ["It ends with an answer.", "It adds 5.", "Its sums are right."]
    for role, pattern in READABLE.items():
        variables: list[dict[str, object]] = [
            {
                "candidates": candidates,
                "keep": 3,
                "candidate": row[0],
                "critique": "wrong at step 1: " + row[0].splitlines()[0],
                "reasoning": "step 1: right\nstep 2: wrong",
                "count": 4,
                "tests": tests,
                "partial": row[0].splitlines()[0],
            }
            for row, candidates in zip(samples, shown, strict=True)
        ]
        replies = bench.ask(role, variables, places, model)
        bad = [reply for reply in replies if not re.fullmatch(pattern, reply)]
        bench.figures[f"{name} as {role} unreadable"] = len(bad) / len(replies)
        if bad:
            print(f"{name} {role}: {bad[0]!r}")


DIFFERENCES = (
    ("{} pass16", "{} pass1"),
    ("{} maj16", "{} pass1"),
    ("{} pass16", "{} maj16"),
    ("{} verified16", "{} maj16"),
    ("{} rank1", "{} pass1"),
    ("{} fuse8", "{} maj8"),
    ("{} refined", "{} first"),
    ("mixed maj8", "{} maj8"),
    ("judge pass1", "{} pass1"),
)


def evaluate(folder: Path, family: Family, *, items: int, split: Split, temperature: float, device: str) -> Bench:
    """Measure everything about one family."""
    nano, mini, judge = (Sampler(folder / name, torch.device(device)) for name in ("nano", "mini", "judge"))
    problems = make_problems(family, items, split=split)
    bench = Bench(
        nano=nano, mini=mini, judge=judge, problems=problems, temperature=temperature, figures={}, rows={}, judged={}
    )
    samples = {name: sample_all(bench, model, 16) for name, model in (("nano", nano), ("mini", mini))}
    for name, rows in samples.items():
        measure_sampling(bench, name, rows)
        measure_verifying(bench, name, rows)
        measure_choosing(bench, name, rows)
    measure_mixing(bench, samples["nano"], samples["mini"])
    alone = sample_all(bench, judge, 4)
    bench.put("judge pass1", [np.mean([bench.right(i, t) for t in row]) for i, row in enumerate(alone)])
    for name, model in (("nano", nano), ("mini", mini), ("judge", judge)):
        measure_readability(bench, name, model, samples["mini"])
    return bench


def report(bench: Bench) -> None:
    """Print the figures of one family, means and paired differences with 95 % intervals."""
    lines = dict(bench.rows)
    for name in ("nano", "mini"):
        for one, other in DIFFERENCES:
            key, base = one.format(name), other.format(name)
            lines[f"{key} - {base}"] = [a - b for a, b in zip(bench.rows[key], bench.rows[base], strict=True)]
    for key, values in lines.items():
        half = 1.96 * np.std(values, ddof=1) / len(values) ** 0.5
        print(f"{key:32} {np.mean(values):7.3f} +- {half:.3f}")
    for key, figure in bench.figures.items():
        print(f"{key:32} {figure:7.3f}")


def main() -> None:
    """Print the figures of both families."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="where the folders nano, mini and judge are")
    parser.add_argument("--items", type=int, default=512)
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, help="write all values to this file")
    given = parser.parse_args()
    families: tuple[Family, ...] = ("arithmetic", "dates")
    values: dict[str, object] = {}
    for family in families:
        began = time.monotonic()
        bench = evaluate(
            given.folder,
            family,
            items=given.items,
            split=given.split,
            temperature=given.temperature,
            device=given.device,
        )
        print(f"== {family}, {given.items} problems of {given.split}, {time.monotonic() - began:.0f} s")
        report(bench)
        values[family] = {"rows": bench.rows, "judged": bench.judged, "figures": bench.figures}
        if given.json:
            given.json.write_text(json.dumps(values))


if __name__ == "__main__":
    main()
