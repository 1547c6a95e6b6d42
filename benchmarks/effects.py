"""Effects of the techniques on the embedded models, each beside its natural baseline at equal cost.

    python benchmarks/effects.py [--items 512] [--processes 1] [--only NAME] [--keep FOLDER] [--seconds S]
        [--split test] [--markdown FILE] [--json]

Every architecture of `effects_list.py` answers the same held-out items through the gateway, on one store of calls, so
that samples are shared and none is drawn twice. A baseline whose cost is matched is a family with a number n: first the
techniques and both ends of the family are measured, then n is chosen as the least whose dollars a question reach those
of the technique, and that baseline is run. Dollars are nominal. Differences are paired by item, with 95 % intervals.

With `--keep` a repeated run goes on where the last one stopped, and measures only what is new or has changed. The wall
time of short-m@k is measured apart (`effects_race.py`), and left out with `--no-race`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

from effects_base import FAMILIES, Comparison, Layers
from effects_list import ABSENT, COMPARISONS
from effects_measure import Rows, Where, key_of, measure
from effects_race import races
from effects_table import Found, found_of, markdown, record, report

ITEMS = 512


def tasks_of(comparisons: Sequence[Comparison], items: int) -> dict[str, int]:
    """Count the items of each task: all of word problems, and half as many dates where a comparison needs both."""
    tasks = {task for comparison in comparisons for task in comparison.tasks}
    return {task: items if task == "arithmetic" else math.ceil(items / 2) for task in sorted(tasks)}


def first_wanted(comparisons: Sequence[Comparison]) -> dict[str, list[Layers]]:
    """List by task what is measured before costs are known: techniques, fixed baselines, both ends of the families.

    The order decides who pays a prompt that several ask: plain draws of the most samples come first, so that each is
    one request; a technique comes before its baseline, which may ask the same prompts for fewer samples.
    """
    plain = [FAMILIES[name].make(FAMILIES[name].most) for name in ("majority", "nano majority")]
    used = [one.against for one in comparisons]
    wanted: dict[str, list[Layers]] = {
        task: plain if "nano majority" in used else plain[:1] for one in comparisons for task in one.tasks
    }
    for comparison in comparisons:
        if isinstance(comparison.against, str):
            family = FAMILIES[comparison.against]
            baselines = [family.make(family.most), family.make(1)]
        else:
            baselines = [comparison.against[1]]
        for task in comparison.tasks:
            wanted[task] = [*wanted[task], comparison.layers, *baselines]
    return {task: _distinct(layers) for task, layers in wanted.items()}


def _distinct(layers: Sequence[Layers]) -> list[Layers]:
    return list({key_of(one): one for one in layers}.values())


def dollars(rows: Rows, comparison: Comparison, layers: Layers) -> float:
    """Return the mean dollars a question of an architecture on the items of a comparison."""
    found = [row.dollars for task in comparison.tasks for row in rows[task][key_of(layers)]]
    return math.fsum(found) / len(found)


def matched(rows: Rows, comparison: Comparison) -> int:
    """Return the least n of the baseline's family whose dollars reach those of the technique, at most the family's."""
    assert isinstance(comparison.against, str)
    family = FAMILIES[comparison.against]
    one, most = (dollars(rows, comparison, family.make(n)) for n in (1, family.most))
    each = (most - one) / (family.most - 1)
    needed = 1 + (dollars(rows, comparison, comparison.layers) - one) / each
    return max(1, min(family.most, math.ceil(needed - 1e-9)))


def baseline(rows: Rows, comparison: Comparison) -> tuple[str, Layers]:
    """Return the title and the layers of what a technique is compared with."""
    if not isinstance(comparison.against, str):
        return comparison.against
    family, n = FAMILIES[comparison.against], matched(rows, comparison)
    title = family.title.format(n=n) if n > 1 else f"one sample ({comparison.against})"
    if dollars(rows, comparison, comparison.layers) > dollars(rows, comparison, family.make(family.most)):
        title += ", the most there are"
    return title, family.make(n)


def compare(
    comparisons: Sequence[Comparison], items: int, where: Where, processes: int
) -> tuple[list[Found], dict[str, int]]:
    """Measure techniques, choose and measure baselines, and compare."""
    rows, done = measure(first_wanted(comparisons), tasks_of(comparisons, items), where, processes)
    if not all(done.values()):
        raise SystemExit(f"no block was done in time; give more seconds (done: {done})")
    against = [baseline(rows, comparison) for comparison in comparisons]
    wanted = {
        task: _distinct([layers for one, (_, layers) in zip(comparisons, against, strict=True) if task in one.tasks])
        for task in done
    }
    more, _ = measure(wanted, done, where._replace(until=math.inf), processes)
    for task, found in more.items():
        rows[task].update(found)
    return [
        found_of(
            comparison,
            title,
            [row for task in comparison.tasks for row in rows[task][key_of(comparison.layers)]],
            [row for task in comparison.tasks for row in rows[task][key_of(layers)]],
        )
        for comparison, (title, layers) in zip(comparisons, against, strict=True)
    ], done


def chosen(only: Sequence[str]) -> list[Comparison]:
    """Return the comparisons of the named techniques and scorers, all without a name."""
    unknown = set(only) - {comparison.about for comparison in COMPARISONS}
    if unknown:
        reasons = [f"{name}: {ABSENT.get(name, 'not compared here')}" for name in sorted(unknown)]
        raise SystemExit("; ".join(reasons))
    return [comparison for comparison in COMPARISONS if not only or comparison.about in only]


def main(given: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--only", action="append", default=[], help="a technique or scorer; may be given several times")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--split", choices=("dev", "test"), default="test", help="dev is for choosing settings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="an existing folder for stores, from which a stopped run goes on")
    parser.add_argument("--seconds", type=float, default=math.inf, help="no block is begun later")
    parser.add_argument("--no-race", action="store_true", help="leave out the wall time of short-m@k")
    parser.add_argument("--markdown", type=Path, help="write the table of the documentation there")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args(given)
    began = time.time()
    comparisons = chosen(arguments.only)
    where = Where(arguments.split, arguments.seed, arguments.keep, began + arguments.seconds)
    found, done = compare(comparisons, arguments.items, where, arguments.processes)
    racing = not arguments.no_race and any(comparison.about == "short_m_at_k" for comparison in comparisons)
    timed = races(arguments.items, arguments.split) if racing else []
    report(found, timed)
    print(f"{', '.join(f'{n} items of {task}' for task, n in done.items())}, {time.time() - began:.0f} s")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(found, timed, done), encoding="utf-8")
    if arguments.json:
        print(json.dumps(record(found, timed, done)))


if __name__ == "__main__":
    main()
