"""Measures trained models with the PyTorch sampler: `python -m training.evaluate DIR [--items 512]`.

The figures of the model card come from `benchmarks/embedded.py` on the NumPy runtime; this one is for the GPU machine.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from evals.problems import Family, Problem, check, check_steps, make_problems, read_answer
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

    def ask(
        self, role: Role, variables: list[dict[str, object]], places: list[int], model: Sampler | None = None
    ) -> list[str]:
        """Ask a model (the judge) one thing about each of the problems at these places."""
        prompts = [
            rendered(role, {"question": self.problems[i].question, **given})
            for i, given in zip(places, variables, strict=True)
        ]
        return (model or self.judge).sample(prompts, temperature=self.temperature, most=256)

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
    bench.figures |= {
        f"{name} pass1": float(right.mean()),
        f"{name} pass8": float(right[:, :8].any(1).mean()),
        f"{name} pass16": float(right.any(1).mean()),
        f"{name} maj8": float(np.mean([bench.majority(i, t[:8]) for i, t in enumerate(samples)])),
        f"{name} maj16": float(np.mean([bench.majority(i, t) for i, t in enumerate(samples)])),
        f"{name} unreadable": float(np.mean([read_answer(t) is None for texts in samples for t in texts])),
    }


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
    bench.figures |= {
        f"{name} accepts right": float(accepted[labels].mean()),
        f"{name} rejects wrong": float(1 - accepted[~labels].mean()),
        f"{name} balanced": float((accepted[labels].mean() + 1 - accepted[~labels].mean()) / 2),
        f"{name} reward auc": auc(bench.judge.yes(prompts), truth),
        f"{name} verified16": float(np.mean([bench.majority(i, v or samples[i]) for i, v in enumerate(verified)])),
        f"{name} verdict unreadable": float(np.mean([not re.fullmatch(r"Verdict: (in)?correct", v) for v in verdicts])),
        f"{name} reason unreadable": float(
            np.mean([not re.fullmatch(r"(step \d+: (right|wrong(, should be .+)?)(\n|$))+", r) for r in reasons])
        ),
    }
    measure_steps(bench, name, samples)


def measure_steps(bench: Bench, name: str, samples: list[list[str]]) -> None:
    """The step scorer on every beginning of two samples of each problem."""
    prompts: list[str] = []
    labels: list[bool] = []
    for i, row in enumerate(samples):
        for text in row[:2]:
            lines = text.splitlines()
            for step, right in enumerate(check_steps(bench.problems[i], text)[:-1], 1):
                partial = "\n".join(lines[:step])
                prompts.append(rendered("score", {"question": bench.problems[i].question, "partial": partial}))
                labels.append(right)
    bench.figures[f"{name} step auc"] = auc(bench.judge.yes(prompts), labels)


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
    bench.figures |= {
        f"{name} rank1": float(np.mean([bench.right(i, t) for i, t in enumerate(first)])),
        f"{name} rank unreadable": float(1 - np.mean(whole)),
        f"{name} fuse8": float(np.mean([bench.right(i, t) for i, t in enumerate(fused)])),
        f"{name} fuse unreadable": float(np.mean([read_answer(t) is None for t in fused])),
        f"{name} first right": float(np.mean([bench.right(i, row[0]) for i, row in enumerate(samples)])),
        f"{name} refined": float(np.mean([bench.right(i, t) for i, t in enumerate(refined)])),
        f"{name} refined no critique": float(np.mean([bench.right(i, t) for i, t in enumerate(alone)])),
        f"{name} critique unreadable": float(np.mean([len(r) != 8 for r in remarks])),
        f"{name} critique accuracy": float(np.mean(verdicts)),
    }


def measure_mixing(bench: Bench, nano: list[list[str]], mini: list[list[str]]) -> None:
    """Four of each: the majority, and the fusion."""
    mixed = [[t for pair in zip(a[:4], b[:4], strict=True) for t in pair] for a, b in zip(nano, mini, strict=True)]
    bench.figures["mixed maj8"] = float(np.mean([bench.majority(i, t) for i, t in enumerate(mixed)]))
    shown = [[Shown(n=n, text=t) for n, t in enumerate(row, 1)] for row in mixed]
    fused = bench.ask("fuse", [{"candidates": c} for c in shown], list(range(len(mixed))))
    bench.figures["mixed fuse8"] = float(np.mean([bench.right(i, t) for i, t in enumerate(fused)]))


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


def evaluate(folder: Path, *, items: int, temperature: float, device: torch.device) -> dict[str, dict[str, float]]:
    """Measure everything on both families."""
    nano, mini, judge = (Sampler(folder / name, device) for name in ("nano", "mini", "judge"))
    families: tuple[Family, ...] = ("arithmetic", "dates")
    results: dict[str, dict[str, float]] = {}
    for family in families:
        began = time.monotonic()
        problems = make_problems(family, items, split="dev")
        bench = Bench(nano=nano, mini=mini, judge=judge, problems=problems, temperature=temperature, figures={})
        samples = {name: sample_all(bench, model, 16) for name, model in (("nano", nano), ("mini", mini))}
        for name, rows in samples.items():
            measure_sampling(bench, name, rows)
            measure_verifying(bench, name, rows)
            measure_choosing(bench, name, rows)
        measure_mixing(bench, samples["nano"], samples["mini"])
        alone = sample_all(bench, judge, 4)
        bench.figures["judge pass1"] = float(np.mean([bench.right(i, t) for i, row in enumerate(alone) for t in row]))
        for name, model in (("nano", nano), ("mini", mini), ("judge", judge)):
            measure_readability(bench, name, model, samples["mini"])
        bench.figures["seconds"] = time.monotonic() - began
        results[family] = bench.figures
    return results


def main() -> None:
    """Print a table of both families."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=512)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    results = evaluate(
        arguments.folder,
        items=arguments.items,
        temperature=arguments.temperature,
        device=torch.device(arguments.device),
    )
    for key in results["arithmetic"]:
        print(f"{key:28} {results['arithmetic'][key]:8.3f} {results['dates'][key]:8.3f}")
    (arguments.folder / "figures.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
