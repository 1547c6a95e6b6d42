"""Plan against fact: what `colonnade batch plan --pilot 20` says of ten architectures, and what they then cost.

    python benchmarks/batch_plans.py [--rows 150] [--pilot 20] [--seed 0] [--json]

Ten architectures on the embedded models answer arithmetic questions. Each is planned, piloted, planned again and run;
the dollars are those of the models' nominal prices. The exit status is 1 where a likely sum is further than 15 % from
what was spent, or where more than one of ten intervals misses it.

With --json the last line is one object: `architectures`, `within_15`, `covered`, `worst_error`, `unpiloted_worst`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

MINI, NANO, JUDGE = "embedded/mini", "embedded/nano", "embedded/judge"
ARCHITECTURES: dict[str, list[Any]] = {
    "single": [{"generate": {"model": MINI}}],
    "single-nano": [{"generate": {"model": NANO}}],
    "vote-3": [{"generate": {"model": MINI, "samples": 3}}, "vote"],
    "vote-8-nano": [{"generate": {"model": NANO, "samples": 8}}, "vote"],
    "two-models": [{"generate": {"model": [MINI, NANO], "samples": 2}}, "vote"],
    "rank": [{"generate": {"model": MINI, "samples": 4}}, {"rank": {"model": JUDGE, "keep": 1}}],
    "fuse": [{"generate": {"model": MINI, "samples": 3}}, {"fuse": {"model": JUDGE}}],
    "critique-rank": [
        {"generate": {"model": MINI, "samples": 3}},
        {"critique": {"model": JUDGE}},
        {"rank": {"model": JUDGE, "keep": 1}},
    ],
    "critique-fuse": [
        {"generate": {"model": NANO, "samples": 3}},
        {"critique": {"model": JUDGE}},
        {"fuse": {"model": JUDGE}},
    ],
    "verify": [{"generate": {"model": MINI, "samples": 3}}, {"verify": {"model": JUDGE}}, {"fuse": {"model": JUDGE}}],
}


async def compare(folder: Path, rows: int, pilot: int, seed: int) -> list[dict[str, Any]]:
    """Plan and run every architecture over the same rows."""
    from colonnade.batching import foretell_batch, make_batch_job, run_batch
    from evals import load_task
    from flows.session import SessionSettings

    questions = [item.prompt for item in load_task("arithmetic", items=rows, seed=seed).items]
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps({"question": question}) + "\n" for question in questions))
    settings = SessionSettings(database_url=f"sqlite:///{folder}/batch.db")
    found = []
    for name, layers in ARCHITECTURES.items():
        data = {"name": name, "layers": layers}
        # A series of samples of its own, so that no architecture finds those of another.
        job = make_batch_job(data, source, settings, out=folder / f"{name}.jsonl", fresh=f"{name}-{seed}")
        before = await foretell_batch(job)
        after = await foretell_batch(job, pilot=pilot)
        report = await run_batch(job, prefect=False)
        assert before.total.dollars is not None
        assert after.total.dollars is not None
        low, likely, high = (float(value) for value in after.total.dollars)
        spent = float(report.spending.paid or 0)
        row = {"name": name, "planned": float(before.total.dollars.likely), "low": low, "likely": likely, "high": high}
        found.append({**row, "spent": spent, "error": likely / spent - 1, "covered": low <= spent <= high})
        print(
            f"{name:<14} planned ${row['planned']:.6f}  after the pilot ${likely:.6f} (${low:.6f} – ${high:.6f})  "
            f"spent ${spent:.6f}  off by {100 * found[-1]['error']:+.1f} %",
            flush=True,
        )
    return found


def main() -> None:
    """Plan, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--pilot", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(compare(Path(folder), chosen.rows, chosen.pilot, chosen.seed))
    within = sum(abs(row["error"]) <= 0.15 for row in found)
    covered = sum(row["covered"] for row in found)
    print(f"{within} of {len(found)} within 15 %, {covered} intervals hold what was spent")
    if chosen.json:
        figures = {
            "architectures": len(found),
            "within_15": within,
            "covered": covered,
            "worst_error": round(max(abs(row["error"]) for row in found), 4),
            "unpiloted_worst": round(max(abs(row["planned"] / row["spent"] - 1) for row in found), 4),
        }
        print(json.dumps(figures))
    sys.exit(not (within == len(found) and covered >= len(found) - 1))


if __name__ == "__main__":
    main()
