"""A cascade that is as good as the strong way for less than half of its money.

The strong way draws four samples of `mini` for every question and lets `judge` choose among them. The cascade asks
`nano` first, at a fifth of the price, and goes on to `mini`, one sample at a time, only until `judge` believes an
answer. Both ask for the same samples of `mini`, so none is drawn twice. Prices of the embedded models are nominal.
"""

# Prints: of the strong way's money

from __future__ import annotations

import argparse
import tempfile

import colonnade
from evals import compare

DRAW = {"temperature": 0.8}
JUDGE = {"use": "verdict_probability", "model": "embedded/judge"}

STRONG = {
    "name": "strong way",
    "layers": [
        {"generate": {"model": "embedded/mini", "samples": 4, **DRAW}},
        {"score": {"scorer": JUDGE, "keep": 1}},
    ],
}
CASCADE = {
    "name": "cascade",
    "layers": [
        {
            "cascade": {
                "stages": ["embedded/nano", "embedded/mini", "embedded/mini", "embedded/mini"],
                "samples": 1,
                "threshold": 0.5,
                "scorer": JUDGE,
                **DRAW,
            }
        }
    ],
}


def main(questions: int) -> None:
    """Evaluate both on the same questions, and compare."""
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for spec in (STRONG, CASCADE):
            architecture = colonnade.load(spec, database_url=f"sqlite:///{folder}/example.db")
            parts = [architecture.evaluate(task, items=questions // 2) for task in ("arithmetic", "dates")]
            runs[architecture.name] = [record for part in parts for record in part.evaluation.results]
    found = compare(runs["cascade"], runs["strong way"])
    for name, summary in (("strong way", found.second), ("cascade", found.first)):
        low, high = summary.interval
        print(f"{name:12} accuracy {summary.accuracy:.3f} [{low:.3f}, {high:.3f}]   ${summary.cost_used:.6f}")
    difference, (low, high) = found.accuracy.difference, found.accuracy.interval
    print(f"Cascade less strong way, paired: {difference:+.3f} [{low:+.3f}, {high:+.3f}]")
    assert found.first.cost_used is not None
    assert found.second.cost_used is not None
    print(f"The cascade takes {found.first.cost_used / found.second.cost_used:.0%} of the strong way's money.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=32, help="word problems and dates, in equal numbers")
    main(parser.parse_args().questions)
