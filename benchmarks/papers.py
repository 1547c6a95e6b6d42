"""Figures of papers from recorded real outputs, beside what was published and what the data's makers recomputed.

    COLONNADE_DATA=... python benchmarks/papers.py [--only humaneval] [--judges] [--json]

Architectures run through the gateway over recordings of the models' real outputs, so that what is measured is this
project's own drawing, voting, ranking, scoring and choosing; no model is called and nothing is spent. Figures are in
percent, save areas (`*_area`), in which 0.5 is what drawing lots gives. `docs/papers.md` says what each one shows.

`llmbar_agreement` is the share of the 419 pairs of LLMBar on which GPT-4 Vanilla, shown both orders, prefers the
response that gold names once `pairwise_rank` with `correction: swap` has taken the place out; a tie counts half.
`routellm_area` is the mean APGR of the cross-validated router on GSM8K and MMLU. `gsm8k_vote` is the accuracy of the
vote of the flagships of five makers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NoReturn

if __name__ == "__main__":
    # Before NumPy is loaded: the fits are small, and threads of its algebra would only be in the way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from papers_gsm8k import gsm8k_models
from papers_humaneval import humaneval
from papers_judges import SUBSETS, judges
from papers_llmbar import llmbar
from papers_replay import Figure, rows
from papers_routing import routing
from papers_sampling import game24, math100

GROUPS: Mapping[str, Callable[[Path, Path], Awaitable[list[Figure]]]] = {
    "humaneval": humaneval,
    "math100": math100,
    "game24": game24,
    "llmbar": llmbar,
    "routellm": routing,
    "gsm8k": gsm8k_models,
}
FOLDERS: Mapping[str, Sequence[str]] = {
    "humaneval": ("humaneval_codegen16b_100",),
    "math100": ("math100_qwen_rm8",),
    "game24": ("game24_gpt4",),
    "llmbar": ("llmbar",),
    "routellm": ("routellm_pairs",),
    "gsm8k": ("gsm8k_models", "prices"),
}
"""What each group reads."""


async def measure(data: Path, groups: Sequence[str]) -> list[Figure]:
    """Compute the figures of some groups, one group after the other."""
    figures: list[Figure] = []
    for name in groups:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            figures += await GROUPS[name](data, Path(folder))
        print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    return figures


def table(figures: Sequence[Figure]) -> str:
    """Write figures as Markdown, a table for each group."""
    parts = []
    for group, members in groupby(figures, key=lambda figure: figure.group):
        parts += [f"### {group}", "", "| what | ours | recomputed | published | note |", "|---|--:|--:|--:|---|"]
        parts += [_row(figure) for figure in members]
        parts.append("")
    return "\n".join(parts).rstrip()


def _row(figure: Figure) -> str:
    numbers = ["" if value is None else f"{value:.{figure.digits}f}" for value in (figure.ours, figure.recomputed)]
    # Papers round as they like; a digit more would be made up.
    numbers.append("" if figure.published is None else f"{figure.published:g}")
    return f"| {figure.what} | {' | '.join(numbers)} | {figure.note} |"


def judge_table(data: Path) -> str:
    """Write the agreement of every judge of LLMBar after the swap correction, by subset, as Markdown."""
    heads = ["all", *(subset.removeprefix("Adversarial/") for subset in SUBSETS)]
    lines = [f"| judge | {' | '.join(heads)} | bias | decided alike |", "|---|" + "--:|" * (len(heads) + 2)]
    for judge, found in judges(rows(data / "llmbar" / "data.jsonl.gz")).items():
        shares = " | ".join(f"{100 * one.swap:.1f}" for one in found.values())
        total = found["all"]
        lines.append(f"| {judge} | {shares} | {total.bias:+.2f} | {100 * total.decided:.1f} |")
    return "\n".join(lines)


def data_folder(groups: Sequence[str]) -> Path:
    """Return the folder of the recorded outputs; without it the program ends with a sentence and exit code 2."""
    named = os.environ.get("COLONNADE_DATA")
    if not named:
        _stop("Set COLONNADE_DATA to the folder of the recorded outputs.")
    data = Path(named)
    for folder in (folder for group in groups for folder in FOLDERS[group]):
        if not (data / folder).is_dir():
            _stop(f"COLONNADE_DATA is {data}, which has no folder '{folder}'.")
    return data


def _stop(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    raise SystemExit(2)


def main() -> None:
    """Print the table, and with `--json` the figures that have a name as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(GROUPS), action="append", help="a group; may be given several times")
    parser.add_argument("--judges", action="store_true", help="only the agreement of every judge of LLMBar, by subset")
    parser.add_argument("--json", action="store_true", help="the named figures as one JSON object in the last line")
    arguments = parser.parse_args()
    groups = ["llmbar"] if arguments.judges else list(dict.fromkeys(arguments.only or GROUPS))
    data = data_folder(groups)
    if arguments.judges:
        print(judge_table(data))
        return
    figures = asyncio.run(measure(data, groups))
    print(table(figures))
    if arguments.json:
        print(json.dumps({figure.key: round(figure.ours, 4) for figure in figures if figure.key}))


if __name__ == "__main__":
    main()
