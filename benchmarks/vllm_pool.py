"""Two replicas of one model behind vLLM: accuracy, the use of their prefix caches, and the death of one.

    python benchmarks/vllm_pool.py URL URL [--items 200] [--kill PID] [--json]

The replicas serve `providers/embedded/models/mini` as `mini`, with prefix caching (commands: docs/operations.md).
One architecture (four samples, each a request of its own, a critique, a fusion) is evaluated by the command line on the
same items: with the embedded runtime, with affinity, with round robin, and with the first replica alone, whose cache
sees everything and so is the best possible. Each has prefix caches of its own, by vLLM's `cache_salt`. Hits are tokens,
from `/metrics`. With `--kill` the process of one replica is killed in the middle of a further evaluation.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ARCHITECTURE = """\
name: pool
layers:
  - generate: {model: m, samples: 4, temperature: 0.8}
  - critique: {model: m, temperature: 0.8}
  - fuse: {model: m, temperature: 0.8}
"""
CALLS = 6
"""Calls of the architecture on one item."""
_COUNTER = re.compile(r"^vllm:prefix_cache_(queries|hits)_total\{.*\} ([0-9.e+]+)$", re.M)


class Cache(NamedTuple):
    """Tokens of prompts that were looked up in the prefix caches, and those that were found."""

    queries: float
    hits: float


class Phase(NamedTuple):
    """One evaluation."""

    name: str
    record: dict[str, Any]
    """What `colonnade eval --json` printed."""
    rate: float | None
    """Share of the prompts' tokens that the caches had."""
    seconds: float


class Bench:
    """Runs evaluations in one folder, so that they can be compared."""

    def __init__(self, folder: Path, urls: Sequence[str], items: int, concurrency: int) -> None:
        self.folder, self.urls, self.items, self.concurrency = folder, tuple(urls), items, concurrency
        (folder / "pool.yaml").write_text(ARCHITECTURE)

    def embedded(self) -> Phase:
        """Evaluate with the embedded runtime."""
        (self.folder / "embedded.yaml").write_text("models:\n  m: embedded/mini\n")
        return self._evaluate("embedded")

    def pool(self, name: str, urls: Sequence[str], routing: str = "affinity", *, kill: int | None = None) -> Phase:
        """Evaluate with replicas."""
        endpoints = ", ".join(f"{{base_url: '{url}'}}" for url in urls)
        (self.folder / f"{name}.yaml").write_text(
            f"""\
models:
  m:
    transport: openai
    model: mini
    identity: vllm/mini/{name}
    endpoints: [{endpoints}]
    routing: {routing}
    style: compact
    context: 1024
    defaults: {{max_tokens: 256}}
    limits: {{max_n: 1, in_flight: 32, retries: 8}}
    price: {{prompt: 0.10, completion: 0.40}}
    extra_body: {{cache_salt: {name}-{time.time_ns()}}}
"""
        )
        return self._evaluate(name, kill=kill)

    def compare(self, one: Phase, other: Phase) -> dict[str, Any]:
        """Return the paired comparison of two evaluations."""
        done = self._command("compare", one.record["run_id"], other.record["run_id"], "--json")
        return dict(json.loads(done.stdout.readline())) if done.wait() == 0 and done.stdout else {}

    def _evaluate(self, name: str, *, kill: int | None = None) -> Phase:
        before, started = self._cache(), time.perf_counter()
        process = self._command(
            "eval", "pool.yaml", "--task", "arithmetic", "--items", str(self.items), "--models", f"{name}.yaml",
            "--no-prefect", "--concurrency", str(self.concurrency), "--json",
        )  # fmt: skip
        if kill is not None:
            self._kill_in_the_middle(kill, before)
        printed, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"the evaluation '{name}' ended with code {process.returncode}")
        after = self._cache()
        queries = after.queries - before.queries
        rate = (after.hits - before.hits) / queries if queries > 0 and kill is None else None
        return Phase(name, json.loads(printed.splitlines()[-1]), rate, time.perf_counter() - started)

    def _kill_in_the_middle(self, pid: int, before: Cache) -> None:
        """Wait until about a third of the prompts were looked up, half of them where we look, then kill."""
        third = self.items * CALLS * 100 / 3 / 2
        while self._cache().queries - before.queries < third:
            time.sleep(0.2)
        os.killpg(os.getpgid(pid), signal.SIGKILL)

    def _cache(self) -> Cache:
        counts = {"queries": 0.0, "hits": 0.0}
        for url in self.urls:
            with urllib.request.urlopen(f"{url.removesuffix('/v1')}/metrics", timeout=30) as reply:
                for name, value in _COUNTER.findall(reply.read().decode()):
                    counts[name] += float(value)
        return Cache(counts["queries"], counts["hits"])

    def _command(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "colonnade", *arguments]
        return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, text=True)


def main() -> None:
    """Run the evaluations and print what they came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("urls", nargs=2)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--kill", type=int, help="the process of one replica, killed with its group")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    urls = [url.rstrip("/") for url in chosen.urls]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), urls, chosen.items, chosen.concurrency)
        phases = [
            bench.embedded(),
            bench.pool("affinity", urls),
            bench.pool("round-robin", urls, "round-robin"),
            bench.pool("one", urls[:1]),
        ]
        difference = bench.compare(phases[0], phases[1])
        if chosen.kill is not None:
            bench.urls = tuple(urls[:1])
            phases.append(bench.pool("killed", urls, kill=chosen.kill))
        report(phases, difference, as_json=chosen.json)


def report(phases: Sequence[Phase], difference: dict[str, Any], *, as_json: bool) -> None:
    """Print a table, and with `--json` one object as the last line."""
    for phase in phases:
        record = phase.record
        low, high = record["interval"]
        rate = "-" if phase.rate is None else f"{phase.rate:.3f}"
        print(
            f"{phase.name:<12} accuracy {record['accuracy']:.3f} [{low:.3f}, {high:.3f}]  items {record['items']} of "
            f"{record['planned']}, failed {record['failed']}  calls {record['calls_used']} of "
            f"{CALLS * record['planned']}  cache hits {rate}  {phase.seconds:.0f} s"
        )
    print(f"affinity against embedded: {json.dumps(difference)}")
    rates = {phase.name: phase.rate for phase in phases if phase.rate}
    if {"affinity", "one", "round-robin"} <= rates.keys():
        print(f"affinity: {rates['affinity'] / rates['one']:.3f} of the best possible, ", end="")
        print(f"round robin: {rates['round-robin'] / rates['one']:.3f}")
    if as_json:
        figures = {phase.name: phase.record | {"cache_hits": phase.rate, "wall_s": phase.seconds} for phase in phases}
        print(json.dumps({"phases": figures, "difference": difference}))


if __name__ == "__main__":
    main()
