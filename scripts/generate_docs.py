"""Write the pages of the techniques, scorers and presets from their docstrings and files.

python scripts/generate_docs.py            # write docs/techniques.md and the pages beside it
python scripts/generate_docs.py --check    # change nothing; exit code 1 where a page is not what it would be
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from architectures.preset import preset_info, preset_names
from architectures.preset_page import preset_page
from nodes.catalog import GROUPS, SCORERS
from nodes.describe import Description
from nodes.docs import page
from nodes.registry import describe
from nodes.scorers import describe_scorer

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

KINDS = ("techniques", "scorers", "presets")

INDEX = """\
# Techniques

The steps that an architecture is made of, by what they are for: **techniques** are its nodes; a **scorer** is a setting
of `score` and of every technique that has a `scorer`, so that any of them can be tried with any other; a **preset** is
an architecture of such nodes with a name. Each page is made from the docstring (a preset's from its file), and
`colonnade techniques show NAME` prints the same. A technique of your own: see [Extending](extending.md). What they are
worth on the models that ship: [Effects](effects.md); on recorded outputs of large models: [Papers](papers.md).

{groups}

Calls are those for one question; the letters are explained on the page. What a technique needs of the state must have
been given by a technique before it, which is checked before anything is sent.

Some techniques decide by what earlier runs taught: see [Learned files](learned-files.md).

Around techniques stand two forms of nodes: `use: loop` repeats a body until a condition holds, `use: architecture`
nests an architecture in another (see [Concepts](concepts.md)).
"""


def pages() -> Mapping[Path, str]:
    """Return what every page holds, by its path."""
    made = {DOCS / "techniques.md": INDEX.format(groups="\n\n".join(_group(name) for name in GROUPS))}
    for name in (name for members in GROUPS.values() for name in members):
        made[DOCS / "techniques" / f"{name}.md"] = _marked(f"nodes/{name}.py", page(describe(name)))
    for name in (name for members in SCORERS.values() for name in members):
        made[DOCS / "scorers" / f"{name}.md"] = _marked(f"nodes/scorers/{name}.py", page(describe_scorer(name)))
    for name in preset_names():
        source = f"architectures/presets/{name}.yaml"
        made[DOCS / "presets" / f"{name}.md"] = _marked(source, preset_page(preset_info(name)))
    return made


def stale(expected: Mapping[Path, str]) -> list[Path]:
    """Name the pages that are absent, differ, or belong to nothing."""
    differing = [path for path, text in expected.items() if not path.is_file() or path.read_text("utf-8") != text]
    there = [path for kind in KINDS for path in sorted((DOCS / kind).glob("*.md"))]
    return differing + [path for path in there if path not in expected]


def _marked(source: str, text: str) -> str:
    return f"<!-- Made by scripts/generate_docs.py from {source}; edit that file. -->\n\n{text}"


def _group(group: str) -> str:
    rows = [_row("techniques", describe(name)) for name in GROUPS[group]]
    rows += [_row("scorers", describe_scorer(name)) for name in SCORERS.get(group, ())]
    for one in map(preset_info, preset_names()):
        if one.group == group:
            cells = (
                f"[{one.name}](presets/{one.name}.md), preset",
                one.description,
                "`colonnade plan`",
                "-",
                "candidates",
            )
            rows.append(_cells(cells))
    table = "\n".join(("| | what it does | calls | needs | gives |", "|---|---|---|---|---|", *rows))
    return f"## {group[0].upper()}{group[1:]}\n\n{table}"


def _row(kind: str, about: Description) -> str:
    calls = about.sections["Calls"].split(",")[0].split(";")[0].split(":")[0].rstrip(".").replace("\n", " ")
    link = f"[{about.name}]({kind}/{about.name}.md){', scorer' if kind == 'scorers' else ''}"
    return _cells((link, about.summary, calls, ", ".join(about.needs) or "-", ", ".join(about.gives) or "-"))


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, say which pages are stale")
    chosen = parser.parse_args()
    expected = pages()
    old = stale(expected)
    for path in old:
        print(path.relative_to(ROOT))
    if chosen.check:
        sys.exit(1 if old else 0)
    for kind in KINDS:
        (DOCS / kind).mkdir(parents=True, exist_ok=True)
    for path in old:
        if path in expected:
            path.write_text(expected[path], "utf-8")
        else:
            path.unlink()


if __name__ == "__main__":
    main()
